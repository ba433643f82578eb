"""What the history, its trends and a gate look like."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from kvkit.history.against import Against
from kvkit.history.folder import read_history
from kvkit.history.gate import Gate, judge
from kvkit.history.regression import regressions
from kvkit.history.trend import Trend, trends
from kvkit.report.errors import ReportError
from kvkit.report.history import history_as_json, print_history, print_rest
from kvkit.report.junit import write_junit
from kvkit.report.regression import print_gate, print_regressions
from kvkit.report.trend import print_trends, trend_lines, verdict
from tests.history.runs import write_past_run, write_series


def shown(draw: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=160, highlight=False)
    draw(console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def judged(folder: Path) -> Gate:
    return judge(regressions(None, Against.parse("last:10"), folder), 5)


@pytest.fixture
def trend(tmp_path: Path) -> Trend:
    write_series(tmp_path, rise=0.10, changed=6)
    return trends(read_history(tmp_path).runs)[0]


def test_a_run_is_a_line_and_bad_files_follow(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    (tmp_path / "foreign\x1b[2J.json").write_text("{}")
    history = read_history(tmp_path)
    told = shown(lambda console: print_history(history, history.runs, console))
    assert "| 2026-11-23 20:00 | 01aaaaaa | cold_start | with-cache | LMCacheMPConnector | 1,000.0 250.0 " in told
    rest = shown(lambda console: print_rest(history, console))
    assert rest.startswith(f"Not read: {tmp_path}/foreign [2J.json: key schema is missing")


def test_a_folders_name_is_no_markup(tmp_path: Path) -> None:
    (tmp_path / "[red]").mkdir()
    history = read_history(tmp_path / "[red]")
    assert shown(lambda console: print_history(history, (), console)).startswith(f"0 of 0 runs in {tmp_path}/[red]")


def test_machines_are_told_the_same(tmp_path: Path) -> None:
    write_series(tmp_path, rise=0.10)
    (tmp_path / "foreign.json").write_text("{}")
    history = read_history(tmp_path)
    document = json.loads(history_as_json(history, history.runs[:1], trends(history.runs)))
    assert [run["run_id"] for run in document["runs"]] == ["00aaaaaa"]
    assert document["runs"][0]["rounds"][0]["ttft_p50_interval_ms"] == [930.0, 1070.0]
    assert [one["path"] for one in document["not_read"]] == [str(tmp_path / "foreign.json")]
    assert [one["shift"]["run_id"] for one in document["trends"]] == ["05aaaaaa", "05aaaaaa"]


def test_a_trend_draws_intervals_to_one_scale_and_the_shift_between_runs(trend: Trend) -> None:
    # Eight requests spread from -7 to +7 %: the scale is 0.93 x 990.0 to 1.07 x 1,102.2 ms, over 48 columns. The first
    # of these runs reaches from 925.4 (column 1) over 995.0 (14) to 1,064.7 ms (26).
    assert trend_lines(trend)[5:9] == [
        "2026-11-26 20:00  04aaaaaa       995.0   |------------o-----------|",
        "2026-11-27 20:00  05aaaaaa     1,008.0     |------------o------------|",
        "-----------------------------------------shift------------------------------------------",
        "2026-11-28 20:00  06aaaaaa     1,091.2                   |-------------o-------------|",
    ]


def test_the_verdict_says_since_when_by_how_much_and_how_sure(trend: Trend) -> None:
    assert verdict(trend).startswith("Shift: from 2026-11-28 20:00 (run 06aaaaaa) on +9.6 % TTFT (95 % interval +")


def test_runs_that_lie_close_together_look_close(tmp_path: Path) -> None:
    for day in range(2):
        write_past_run(tmp_path, day, pace=1 + day / 1000)
    (tmp_path / "x").mkdir()
    for requests in tmp_path.glob("*_requests_*"):
        requests.unlink()
    places = [text.index("o") for text in trend_lines(trends(read_history(tmp_path).runs)[0])[1:]]
    assert places[1] - places[0] <= 1


def test_a_trend_of_one_invalid_run_is_drawn(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, valid=False)
    told = shown(lambda console: print_trends(trends(read_history(tmp_path).runs), console))
    assert "INVALID" in told
    assert "No shift can be told from 0 runs that count: at least 9 are needed." in told


def test_a_regression_stands_beside_both_medians(tmp_path: Path) -> None:
    write_series(tmp_path, rise=0.10, changed=9)
    found = regressions(None, Against.parse("last:10"), tmp_path)
    told = shown(lambda console: print_regressions(found, console))
    assert "1,100.0 / 1,000.0 | +10.0 % (+" in told
    assert "1 against 9 runs" in told
    assert "Intervals of runs: each run counts as one" in told


def test_a_gate_says_of_each_round_what_it_found(tmp_path: Path) -> None:
    write_series(tmp_path, rise=0.10, changed=9)
    lines = shown(lambda console: print_gate(judged(tmp_path), console)).splitlines()
    assert lines[0].startswith("REGRESSION: cold_start, with-cache, round 1: median TTFT +10.0 % (+")
    assert lines[-1] == "Gate: REGRESSION (TTFT may rise by 5 %)"


def test_what_is_not_as_it_was_is_told(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, version="0.31.0")
    write_past_run(tmp_path, 2)
    assert "Not as it was: engine.version 0.31.0 before, 0.32.0 now" in shown(
        lambda console: print_gate(judged(tmp_path), console)
    )


def junit(folder: Path) -> list[tuple[str, str, dict[str, str]]]:
    """Of each test case its name, its text and what it holds besides."""
    write_junit(judged(folder), folder / "gate.xml")
    cases = ElementTree.parse(folder / "gate.xml").iter("testcase")
    return [
        (
            case.get("name", ""),
            case.findtext("system-out", ""),
            {child.tag: child.get("type", "") for child in case if child.tag != "system-out"},
        )
        for case in cases
    ]


def test_junit_has_a_case_a_round_with_figure_and_interval(tmp_path: Path) -> None:
    write_series(tmp_path)
    (cold, hit) = junit(tmp_path)
    assert (cold[0], cold[2]) == ("cold_start, with-cache, round 1", {})
    assert hit[1].startswith("cold_start, with-cache, round 2: median TTFT +0.0 % (")


@pytest.mark.parametrize(
    ("last", "held"),
    [
        ({"pace": 1.2}, {"failure": "REGRESSION"}),
        ({"valid": False}, {"failure": "INVALID"}),
        ({"parameters": {"prefix_tokens": 9000}}, {"error": "cannot tell"}),
    ],
)
def test_junit_tells_the_outcomes_apart(tmp_path: Path, last: dict[str, Any], held: dict[str, str]) -> None:
    write_series(tmp_path)
    write_past_run(tmp_path, 11, **last)
    assert [case[2] for case in junit(tmp_path)] == [held, held]


def test_junit_takes_any_text(tmp_path: Path) -> None:
    path = write_past_run(tmp_path, 1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scenario": "<&\x00\x1b\ufffe\ud800>"}))
    assert junit(tmp_path)[0][0].startswith("<& ")


def test_a_junit_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    with pytest.raises(ReportError, match=r"gate\.xml: cannot be written: No such file or directory"):
        write_junit(judged(tmp_path), tmp_path / "none" / "gate.xml")


def test_trends_are_drawn_into_a_file(trend: Trend, tmp_path: Path) -> None:
    from kvkit.report.trend_chart import draw_trends

    draw_trends([trend], tmp_path / "trend.svg")
    texts = {
        element.text for element in ElementTree.parse(tmp_path / "trend.svg").iter() if element.tag.endswith("text")
    }
    assert "cold_start, with-cache, round 1 - Cold Start" in texts
    assert "median TTFT, ms" in texts


@pytest.mark.parametrize(
    ("name", "runs", "message"),
    [
        ("trend.html", 1, "allowed are names that end with .png or .svg"),
        ("trend.svg", 0, "no run that was asked for has a time to first token to draw"),
        ("none/trend.svg", 1, "cannot be written"),
    ],
)
def test_a_chart_that_cannot_be_drawn_is_refused(
    trend: Trend, tmp_path: Path, name: str, runs: int, message: str
) -> None:
    from kvkit.report.trend_chart import draw_trends

    with pytest.raises(ReportError, match=message):
        draw_trends([trend][:runs], tmp_path / name)
