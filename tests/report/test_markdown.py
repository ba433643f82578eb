"""The report: a golden file for what it looks like, single facts for what it must never do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from kvkit.report.files import write_reports
from kvkit.results.comparison import Comparison, compare
from kvkit.results.stats import PhysicalLimit, TokensBySource
from tests.results.making import (
    STARTED,
    failure,
    provenance,
    run_stats,
    success,
    summary,
    write_pair_of_runs,
    write_pair_with_objectives,
    write_run,
)

GOLDEN = Path(__file__).with_name("golden_comparison.md")


def compared(folder: Path) -> Comparison:
    return compare([str(folder / "with_cache_*_stats_*.json")], [str(folder / "baseline_*_stats_*.json")])


def report(folder: Path) -> str:
    path = folder / "comparison.md"
    assert write_reports(compared(folder), [path], charts=False) == [path]
    return path.read_text()


def section(text: str, heading: str) -> list[str]:
    """The filled lines below a heading, up to the next one."""
    _, _, below = text.partition(f"{heading}\n")
    body, _, _ = below.partition("\n#")
    return [line for line in body.splitlines() if line]


def test_the_report_of_a_small_comparison(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    assert report(tmp_path) == GOLDEN.read_text()


def test_goodput_has_a_table_where_objectives_were_stated(tmp_path: Path) -> None:
    write_pair_with_objectives(tmp_path, {"ttft_ms": 1000.0}, {"ttft_ms": 1000.0})
    *_, cold, hit = section(report(tmp_path), "## Goodput")
    assert cold.startswith("| cold_start | 1 Cold Start | TTFT 1000 ms | 4 / 4 | ")
    assert hit.startswith("| cold_start | 2 Cache Hit | TTFT 1000 ms | 8 / 4 | ")


def test_the_verdict_is_the_first_sentence(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=0.4)
    assert report(tmp_path).splitlines()[2] == (
        "**Better in the only cache-hit round compared: cold_start, round 2: "
        "median TTFT of cache hits is 2.50 times lower (95 % interval 2.40 to 2.79, 8 pairs; noise floor 9.6 %).**"
    )


@pytest.mark.parametrize(
    ("hit_ttft_s", "words"),
    [
        (
            2.0,
            "**Worse in the only cache-hit round compared: cold_start, round 2: median TTFT of cache hits is 2.00 ",
        ),
        (
            1.02,
            "**No difference in the only cache-hit round compared: cold_start, round 2: median TTFT of the baseline ",
        ),
    ],
)
def test_the_verdict_says_which_way(tmp_path: Path, hit_ttft_s: float, words: str) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=hit_ttft_s)
    assert report(tmp_path).splitlines()[2].startswith(words)


def test_pools_show_each_pair_of_runs_alone_and_its_evidence(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    write_pair_of_runs(tmp_path, hit_ttft_s=0.35, seed=8, started=STARTED + timedelta(hours=1))
    text = report(tmp_path)
    rows = section(text, "### Each pair of runs alone")[3:]
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| 1", "1 Cold Start", "8"],
        ["| 1", "2 Cache Hit", "8"],
        ["| 2", "1 Cold Start", "8"],
        ["| 2", "2 Cache Hit", "8"],
    ]
    assert "## cold_start, run pair 1\n" in text
    assert "## cold_start, run pair 2\n" in text


def test_an_unknown_noise_floor_is_told_with_its_reason(tmp_path: Path) -> None:
    for mode in ("with-cache", "baseline"):
        records = [success("a", 1), success("a", 2)]
        write_run(tmp_path, run_stats(mode, [summary(records[:1]), summary(records[1:], 2)]), records)
    told = "- cold_start: the noise floor is unknown: the baseline's cold rounds have 1 pairs, at least 8 are needed"
    assert told in section(report(tmp_path), "## Speed-up")


def test_an_invalid_run_is_never_shown_as_a_gain(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": False, "invalid_reasons": ["0 external tokens"]})
    text = report(tmp_path)
    assert text.splitlines()[2] == (
        "**INVALID, so no difference below is a gain: cold_start: with-cache, round 2: 0 external tokens.**"
    )
    assert "75.0 %" not in text
    assert [row.split(" | ")[6] for row in section(text, "## Latency and throughput")[3:]] == ["INVALID", "INVALID"]


def test_what_no_server_told_is_unknown_and_not_zero(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": None, "invalid_reasons": ["silent"], "by_source": TokensBySource()})
    text = report(tmp_path)
    assert text.startswith(
        "# KV cache comparison: with-cache against baseline\n\n"
        "**What the cache did is unknown: cold_start: with-cache, round 2: silent.**"
    )
    row = next(line for line in section(text, "### Where the prompt tokens came from") if "2 Cache Hit" in line)
    assert row.split(" | ")[3:6] == ["unknown", "unknown", "unknown"]


def test_text_from_a_server_becomes_no_markup(tmp_path: Path) -> None:
    hostile = "x`|\n\n# Owned [link](http://evil.example) <script>"
    records = [success("a", 1), failure("b", 1, words=hostile), success("a", 2)]
    rounds = [summary(records[:2]), summary(records[2:], 2, valid=None, invalid_reasons=[hostile])]
    for mode in ("with-cache", "baseline"):
        stats = run_stats(mode, rounds, provenance=provenance(model=hostile, version=f"{mode} {hostile}"))
        write_run(tmp_path, stats, records)
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(report(tmp_path))
    assert html.count("Owned [link](http://evil.example) &lt;script&gt;") == html.count("Owned") > 0
    assert html.count("<h1>") == 1
    assert "<a " not in html
    assert "<script" not in html


def test_the_first_words_of_a_failure_are_quoted(tmp_path: Path) -> None:
    records = [success("a", 1), failure("b", 1, words="slow down"), success("a", 2)]
    for mode in ("with-cache", "baseline"):
        write_run(tmp_path, run_stats(mode, [summary(records[:2]), summary(records[2:], 2)]), records)
    shown = section(report(tmp_path), "### Requests and validity")
    assert shown[2] == "| 1 Cold Start | with-cache | 2 | 1 | http_429: 1 | 1 | valid |"
    assert shown[6:] == [
        "- with-cache, http_429, for example: `slow down`",
        "- baseline, http_429, for example: `slow down`",
    ]


def test_every_row_of_a_table_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": None, "invalid_reasons": ["a | b"]})
    cells: int | None = None
    for line in report(tmp_path).replace(r"\|", "").splitlines():
        cells = (cells or line.count("|")) if line.startswith("|") else None
        assert cells is None or line.count("|") == cells, line


def test_runs_that_were_not_used_are_listed(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    write_pair_of_runs(tmp_path)
    write_run(tmp_path, run_stats("baseline", [summary([success()])], scenario="multi_turn_conversation"), [success()])
    listed = section(report(tmp_path), "## Not compared")
    assert listed[0] == "- multi_turn_conversation: run in baseline only"
    assert [line.rsplit("/", 1)[1] for line in listed[1:]] == [
        "with_cache_cold_start_stats_20261122_200000.json`: a newer run of this mode and workload was given",
        "baseline_cold_start_stats_20261122_200000.json`: a newer run of this mode and workload was given",
    ]


def test_rounds_of_one_mode_are_told(tmp_path: Path) -> None:
    write_run(tmp_path, run_stats("with-cache", [summary([success()])]), [success()])
    records = [success("a", 1), success("a", 2)]
    write_run(tmp_path, run_stats("baseline", [summary(records[:1]), summary(records[1:], 2)]), records)
    assert "Run in one mode only, so not compared: round 2." in report(tmp_path)


def test_hit_rounds_are_held_against_their_limit(tmp_path: Path) -> None:
    known = {"value": 1.0, "source": "measured <here>"}
    limit = PhysicalLimit(
        kv_bytes_per_token=known | {"value": 8192},
        store_bandwidth_gb_s=known | {"value": 1.25},
        compute_ms_per_token=known,
        store_tokens_per_request=768,
        load_ms=5.0,
        compute_ms=15,
        ttft_bound_ms=known | {"value": 20},
        share_reached=0.08,
        break_even_tokens={"value": None, "source": "there is none"},
        remarks=("another dtype",),
    )
    write_pair_of_runs(tmp_path, hit={"limit": limit})
    text = report(tmp_path)
    assert "- **another dtype**\n\n### Requests and validity\n" in text
    assert section(text, "### Physical limit")[3:] == [
        "| 2 Cache Hit | 768 | 5.0 | 15.0 | 20.0 | 250.0 | 8.0 % | unknown |",
        "Round 2:",
        "- KV bytes per token: 8,192 (measured &lt;here&gt;)",
        "- store bandwidth, GB/s: 1.250 (measured &lt;here&gt;)",
        "- computing a token, ms: 1.000 (measured &lt;here&gt;)",
        "- break-even: there is none",
        "- **another dtype**",
    ]


def test_a_report_without_limits_does_not_speak_of_them(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    assert "Physical limit" not in report(tmp_path)


def test_a_report_is_replaced(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    assert report(tmp_path) == report(tmp_path)


def test_requests_that_were_not_paired_are_counted(tmp_path: Path) -> None:
    records = [success("a"), success("b")]
    write_run(tmp_path, run_stats("with-cache", [summary(records)]), records)
    others = [success("a"), replace(success("b"), request_id="c")]
    write_run(tmp_path, run_stats("baseline", [summary(others)]), others)
    rows = section(report(tmp_path), "### Requests and validity")[2:]
    assert [row.split(" | ")[5] for row in rows] == ["2", "2"]
