"""Whether TTFT shifted over the runs of a series, and since when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from kvkit.history.filters import Filters
from kvkit.history.folder import read_history
from kvkit.history.trend import Trend, trends
from tests.history.runs import run_id, write_past_run, write_series


def drawn(folder: Path, number: int = 2) -> Trend:
    (trend,) = (one for one in trends(read_history(folder).runs) if one.number == number)
    return trend


def test_a_planted_regression_of_10_percent_is_found_in_the_run_that_has_it_first(tmp_path: Path) -> None:
    write_series(tmp_path, rise=0.10, changed=5)
    shift = drawn(tmp_path).shift
    assert shift is not None
    assert shift.first.run_id == run_id(5)
    assert shift.ratio == pytest.approx(1.10, abs=0.01)
    assert shift.interval.holds(1.10)


def test_a_series_without_a_change_has_no_shift(tmp_path: Path) -> None:
    write_series(tmp_path)
    assert drawn(tmp_path).shift is None
    assert drawn(tmp_path).judged


def test_eight_runs_are_too_few(tmp_path: Path) -> None:
    write_series(tmp_path, rise=0.5, changed=4, days=8)
    assert drawn(tmp_path).shift is None
    assert not drawn(tmp_path).judged


def test_nine_runs_are_enough_for_a_clean_shift(tmp_path: Path) -> None:
    write_series(tmp_path, rise=0.5, changed=4, days=9)
    assert drawn(tmp_path).shift is not None


def test_invalid_runs_are_shown_and_count_for_nothing(tmp_path: Path) -> None:
    write_series(tmp_path)
    for day in (10, 11, 12, 13):
        write_past_run(tmp_path, day, pace=0.1, valid=False)
    trend = drawn(tmp_path)
    assert [point.counts for point in trend.points] == [True] * 10 + [False] * 4
    assert trend.shift is None


def test_each_round_mode_and_scenario_has_a_trend_of_its_own(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    write_past_run(tmp_path, 2, mode="baseline")
    write_past_run(tmp_path, 3, scenario="multi_turn_conversation")
    assert [(one.scenario, one.mode, one.number) for one in trends(read_history(tmp_path).runs)] == [
        (scenario, mode, number)
        for scenario, mode in (
            ("cold_start", "baseline"),
            ("cold_start", "with-cache"),
            ("multi_turn_conversation", "with-cache"),
        )
        for number in (1, 2)
    ]


def test_other_workloads_are_other_series_and_told_apart(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    write_past_run(tmp_path, 2, parameters={"prefix_tokens": 9000})
    assert [one.told_apart for one in trends(read_history(tmp_path).runs) if one.number == 1] == [
        ("prefix_tokens 1000",),
        ("prefix_tokens 9000",),
    ]


def test_what_was_new_in_a_run_is_told(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, version="0.31.0")
    write_past_run(tmp_path, 2)
    assert [point.news for point in drawn(tmp_path).points] == [(), ("engine 0.31.0 before, 0.32.0 now",)]


@pytest.mark.parametrize(
    ("filters", "days"),
    [
        (Filters(), [1, 2, 3]),
        (Filters(mode="baseline"), [2]),
        (Filters(scenario="multi_turn_conversation"), [3]),
        (Filters(model="huge"), [1]),
        (Filters(since=datetime(2026, 11, 24, 20)), [2, 3]),
        (Filters(mode="baseline", model="huge"), []),
    ],
)
def test_runs_are_chosen(tmp_path: Path, filters: Filters, days: list[int]) -> None:
    write_past_run(tmp_path, 1, model="huge")
    write_past_run(tmp_path, 2, mode="baseline")
    write_past_run(tmp_path, 3, scenario="multi_turn_conversation")
    chosen = filters.choose(read_history(tmp_path).runs)
    assert [run.run_id for run in chosen] == [run_id(day) for day in days]
