"""Result files of `vllm bench serve` in a comparison. The two recorded ones are described in `test_export.py`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvkit.results.comparison import Comparison, ScenarioComparison, compare
from kvkit.results.errors import ResultsError
from kvkit.results.export import export
from kvkit.results.imported import read_runs
from tests.results.making import write_pair_of_runs
from tests.results.test_export import documents

RECORDED = {mode: Path(__file__).with_name(f"vllm_bench_0_32_{mode}.json") for mode in ("with_cache", "baseline")}
Document = dict[str, Any]


def compared(folder: Path, change: Callable[[Document], Document] = dict, rounds: int = 2) -> Comparison:
    """The recorded files, the with-cache one changed."""
    with_cache = folder / "with_cache.json"
    changed = [json.dumps(change(document)) for document in documents(RECORDED["with_cache"])[:rounds]]
    with_cache.write_text("\n".join(changed))
    return compare([str(with_cache)], [str(RECORDED["baseline"])])


def only(comparison: Comparison) -> ScenarioComparison:
    (scenario,) = comparison.scenarios
    return scenario


def without(*keys: str) -> Callable[[Document], Document]:
    return lambda document: {key: value for key, value in document.items() if key not in keys}


def with_first(key: str, value: Any) -> Callable[[Document], Document]:
    """The document with another first entry in one array."""
    return lambda document: {**document, key: [value, *document[key][1:]]}


@pytest.mark.parametrize("mode", ["with_cache", "baseline"])
def test_figures_from_the_arrays_are_those_that_vllm_computed(mode: str) -> None:
    (run,) = read_runs(RECORDED[mode], "baseline")
    for made, document in zip(run.stats.rounds, documents(RECORDED[mode]), strict=True):
        for ours, theirs in ((made.ttft_ms, "ttft"), (made.tpot_ms, "tpot"), (made.itl_ms, "itl")):
            assert (ours.mean, ours.p50, ours.std, ours.p99) == pytest.approx(
                tuple(document[f"{name}_{theirs}_ms"] for name in ("mean", "median", "std", "p99"))
            )
        assert made.tokens.prompt == document["total_input_tokens"]


def test_files_appended_to_one_another_are_rounds_and_pairs_by_position(tmp_path: Path) -> None:
    rounds = only(compared(tmp_path)).rounds
    ttfts = [document["ttfts"] for document in documents(RECORDED["with_cache"])]
    assert [[pair.with_cache.ttft_s for pair in this.pairs] for this in rounds] == ttfts
    assert [this.number for this in rounds] == [1, 2]


def test_what_the_files_do_not_tell_makes_the_verdict_unknown(tmp_path: Path) -> None:
    verdict = only(compared(tmp_path)).verdict
    assert verdict.effect == "unknown"
    assert set(verdict.reasons) >= {
        "with-cache, round 1: where the prompt tokens came from is not known: the file does not tell",
        "baseline, round 2: that both modes sent the same prompts is assumed: "
        "requests are paired by their position in the file",
    }


def test_a_round_of_another_tool_is_neither_called_cold_nor_hit(tmp_path: Path) -> None:
    assert [this.name for this in only(compared(tmp_path)).rounds] == ["unknown", "unknown"]


def test_the_mode_is_that_of_the_option() -> None:
    modes = [read_runs(RECORDED["baseline"], mode)[0].stats.mode for mode in ("with-cache", "baseline")]
    assert modes == ["with-cache", "baseline"]


def test_without_detailed_arrays_there_are_figures_but_no_pairs(tmp_path: Path) -> None:
    scenario = only(compared(tmp_path, without("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors")))
    told = documents(RECORDED["with_cache"])[0]
    assert [len(this.pairs) for this in scenario.rounds] == [0, 0]
    assert scenario.rounds[0].with_cache.ttft_ms.mean == told["mean_ttft_ms"]
    assert scenario.rounds[0].with_cache.requests_per_s == pytest.approx(told["request_throughput"])
    assert any("save it with vllm bench serve --save-result --save-detailed" in r for r in scenario.verdict.reasons)


def test_a_file_of_a_release_without_latencies_has_them_from_its_gaps(tmp_path: Path) -> None:
    (pair, *_) = only(compared(tmp_path, without("latencies", "start_times", "queue_times"))).rounds[0].pairs
    told = documents(RECORDED["with_cache"])[0]
    assert pair.with_cache.e2e_s == told["ttfts"][0] + sum(told["itls"][0])


@pytest.mark.parametrize("change", [with_first("errors", "Internal Server Error"), with_first("output_lens", 0)])
def test_a_failed_request_is_in_no_figure(tmp_path: Path, change: Callable[[Document], Document]) -> None:
    (run_pair,) = only(compared(tmp_path, change)).run_pairs
    this = run_pair.rounds[0]
    assert len(this.pairs) == 3
    assert this.with_cache.requests.failed_by_kind == {"unknown": 1}


def test_prompts_of_other_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ResultsError,
        match=r"round 1, request 000001: 999 prompt tokens with cache, 167 in the baseline\. "
        "Run both modes with the same dataset, --seed and --num-prompts",
    ):
        compared(tmp_path, with_first("input_lens", 999))


def test_another_number_of_prompts_is_refused(tmp_path: Path) -> None:
    arrays = [key for key, value in documents(RECORDED["with_cache"])[0].items() if isinstance(value, list)]
    with pytest.raises(ResultsError, match="request 000004: None prompt tokens with cache, 163 in the baseline"):
        compared(tmp_path, lambda document: document | {key: document[key][:3] for key in arrays})


def test_a_round_of_one_mode_is_no_difference_in_prompts(tmp_path: Path) -> None:
    (run_pair,) = only(compared(tmp_path, rounds=1)).run_pairs
    assert run_pair.rounds_in_one_mode == (2,)


def test_another_concurrency_is_no_comparison(tmp_path: Path) -> None:
    verdict = only(compared(tmp_path, lambda document: document | {"max_concurrency": 8})).verdict
    assert verdict.reasons == ("config.test.concurrency: 8 with cache, 1 in the baseline",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_first("ttfts", "fast"), r"with_cache.json: key ttfts\.0: found \"fast\""),
        (with_first("ttfts", float("inf")), r"key ttfts\.0: found Infinity"),
        (lambda document: document | {"itls": [[0.1]]}, "key itls: found 1 entries, input_lens has 4"),
        (lambda document: document | {"date": "today"}, "key date: found 'today', expected YYYYmmdd-HHMMSS"),
        (without("num_prompts"), "no JSON document|key schema is missing"),
    ],
)
def test_a_file_with_a_fault_is_named(tmp_path: Path, change: Callable[[Document], Document], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        compared(tmp_path, change)


def test_a_run_of_another_tool_is_not_compared_with_kvkits_own(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    with pytest.raises(ResultsError, match="no scenario was run in both modes"):
        compare([str(RECORDED["with_cache"])], [str(tmp_path / "baseline_*_stats_*.json")])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_pair_of_runs(tmp_path)
    path = tmp_path / "table.csv"
    export([str(tmp_path / "with_cache_*_stats_*.json")], "csv", path)
    return path


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ttft_s", "fast", r"table\.csv:2: key ttft_s: found \"fast\""),
        ("itl_s", "0.1;0.2", r"table\.csv:2: itl_s: is not JSON"),
    ],
)
def test_a_wrong_cell_of_a_table_is_named(table: Path, column: str, value: str, message: str) -> None:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0][column] = value
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(ResultsError, match=message):
        read_runs(table, "with-cache")


def test_a_table_without_a_column_is_refused(table: Path) -> None:
    table.write_text(table.read_text().replace("ttft_s", "ttft", 1))
    with pytest.raises(ResultsError, match="has no column ttft_s: not a table of this kvkit"):
        read_runs(table, "with-cache")
