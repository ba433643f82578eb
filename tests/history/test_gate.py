"""The rule of the gate, on figures and on made-up results."""

from __future__ import annotations

from math import exp
from pathlib import Path

import pytest

from kvkit.history.against import Against
from kvkit.history.gate import Gate, judge, judge_change, runs_needed
from kvkit.history.regression import Change, regressions
from kvkit.results.speedup import Interval
from tests.history.runs import run_id, write_past_run, write_series


def change(ratio: float, low: float, high: float) -> Change:
    return Change(ratio, Interval(low, high), "runs", 1, 9, 0.01)


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        (change(1.10, 1.06, 1.14), "regression"),
        # Surely slower, and by the best estimate by more than 5 %.
        (change(1.10, 1.01, 1.20), "regression"),
        (change(1.30, 1.02, 1.60), "regression"),
        # More than 5 %, but perhaps not slower at all.
        (change(1.10, 0.99, 1.22), "cannot_tell"),
        # Within 5 %, and no interval reaches 5 % beyond its estimate.
        (change(1.00, 0.97, 1.03), "pass"),
        (change(1.04, 1.01, 1.07), "pass"),
        # Within 5 %, but so imprecise that 10 % would often look like this.
        (change(1.00, 0.92, 1.08), "cannot_tell"),
        # As imprecise, but all of it is on the good side.
        (change(0.80, 0.70, 0.92), "pass"),
    ],
)
def test_the_rule(measured: Change, outcome: str) -> None:
    assert judge_change(measured, 5).outcome == outcome


def test_a_precise_interval_is_always_decided() -> None:
    reach = exp(0.0487)  # log(1.05) is 0.04879
    for rise in range(-20, 40):
        ratio = 1 + rise / 200
        assert judge_change(change(ratio, ratio / reach, ratio * reach), 5).outcome != "cannot_tell"


def test_a_change_without_an_interval_cannot_be_told() -> None:
    told = judge_change(Change(1.5, None, "requests", 4, 30, None), 5)
    assert (told.outcome, told.reason) == (
        "cannot_tell",
        "4 requests are too few for an interval: at least 8 are needed",
    )


def test_what_would_tell_is_said_in_requests() -> None:
    # The interval reaches log(1.1) = 0.0953 far, 0.0488 is allowed: 1.954 times less takes 3.82 times the requests.
    told = judge_change(Change(1.0, Interval(1 / 1.1, 1.1), "requests", 30, 30, None), 5)
    assert "3.9 times as many requests (test.requests_per_scenario) would make it narrow enough" in told.reason


def test_what_would_tell_is_said_in_runs() -> None:
    # 5 runs each: 2.306 x 0.03 x sqrt(2 / 5) = 0.0438, within 0.0488; 4 runs each: 2.447 x 0.03 x 0.707 = 0.0519.
    assert runs_needed(0.03, 5) == 5
    told = judge_change(Change(1.0, Interval(0.9, 1.1), "runs", 1, 5, 0.03), 5)
    assert "runs of the same thing lie 3.0 % apart (standard deviation): 5 runs on each side would tell" in told.reason


def test_no_number_of_runs_is_promised_where_they_scatter_too_much() -> None:
    told = judge_change(Change(1.0, Interval(0.5, 2.0), "runs", 1, 5, 0.4), 5)
    assert "too much for any number of runs: more requests a run, or a quieter machine" in told.reason


def gate(folder: Path, *given: Path, against: str = "last:10") -> Gate:
    return judge(regressions([str(path) for path in given] or None, Against.parse(against), folder), 5)


def outcomes(judged: Gate) -> list[tuple[str, str]]:
    return [(case.name, case.judged.outcome) for case in judged.cases]


BOTH_ROUNDS = ("cold_start, with-cache, round 1", "cold_start, with-cache, round 2")


def test_a_planted_regression_of_10_percent_is_caught_in_the_first_run_that_has_it(tmp_path: Path) -> None:
    paths = write_series(tmp_path, rise=0.10, changed=5)
    judged = gate(tmp_path, paths[5])
    assert outcomes(judged) == [(name, "regression") for name in BOTH_ROUNDS]
    assert judged.outcome == "regression"


def test_a_series_without_a_change_passes(tmp_path: Path) -> None:
    write_series(tmp_path)
    judged = gate(tmp_path)
    assert outcomes(judged) == [(name, "pass") for name in BOTH_ROUNDS]
    assert judged.outcome == "pass"


def test_several_runs_are_judged_together(tmp_path: Path) -> None:
    paths = write_series(tmp_path, rise=0.10, changed=5)
    judged = gate(tmp_path, *paths[5:], against="last:5")
    change = judged.cases[0].regression.rounds[0].change
    assert judged.outcome == "regression"
    assert change is not None
    assert (change.now, change.before, change.basis) == (5, 5, "runs")
    assert change.interval is not None
    assert change.interval.holds(1.10)


def test_one_earlier_run_of_other_prompts_is_compared_by_requests(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    write_past_run(tmp_path, 2, pace=2.0)
    (regression,) = regressions(None, Against.parse("last"), tmp_path)
    found = regression.rounds[0].change
    assert found is not None
    assert (found.basis, found.now, found.before, found.ratio) == ("requests", 8, 8, 2.0)


def test_one_earlier_run_of_the_same_prompts_is_paired(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, mode="baseline", seed=7)
    write_past_run(tmp_path, 2, mode="baseline", seed=7, pace=1.5)
    (regression,) = regressions(None, Against.parse("last"), tmp_path)
    found = regression.rounds[0].change
    assert found is not None
    assert (found.basis, found.now) == ("pairs", 8)
    # Each request takes 1.5 times as long as itself: no spread, so no width.
    assert found.interval is not None
    assert (found.ratio, found.interval.low, found.interval.high) == pytest.approx((1.5, 1.5, 1.5))


def test_an_invalid_run_fails_whatever_its_figures_are(tmp_path: Path) -> None:
    for day in range(9):
        write_past_run(tmp_path, day)
    write_past_run(tmp_path, 9, valid=False)
    judged = gate(tmp_path)
    assert judged.outcome == "invalid"
    assert judged.cases[0].judged.reason == f"{run_id(9)}: round 2: no external tokens"
    assert judged.cases[0].regression.rounds[0].change is None


def test_invalid_runs_stand_for_nothing(tmp_path: Path) -> None:
    for day in range(9):
        write_past_run(tmp_path, day, pace=1.0 if day < 6 else 0.1, valid=day < 6)
    write_past_run(tmp_path, 9)
    judged = gate(tmp_path)
    assert [run.run_id for run in judged.cases[0].regression.before] == [run_id(day) for day in range(6)]
    assert judged.outcome == "pass"


def test_a_run_whose_validity_is_unknown_is_judged(tmp_path: Path) -> None:
    for day in range(6):
        write_past_run(tmp_path, day, mode="baseline", valid=None)
    assert gate(tmp_path).outcome == "pass"


def test_the_first_run_of_all_cannot_be_told(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    judged = gate(tmp_path)
    assert judged.outcome == "cannot_tell"
    assert "holds no earlier run of it in the mode with-cache" in judged.cases[0].judged.reason


def test_a_run_without_rounds_does_not_pass(tmp_path: Path) -> None:
    for day in range(6):
        path = write_past_run(tmp_path, day)
        before, _, _ = path.read_text().partition('"rounds": [\n')
        path.write_text(before + '"rounds": []}')
    assert outcomes(gate(tmp_path)) == [("cold_start, with-cache", "cannot_tell")]


def test_the_worst_case_decides(tmp_path: Path) -> None:
    for day in range(6):
        write_past_run(tmp_path, day)
        write_past_run(tmp_path, day, scenario="multi_turn_conversation", pace=2.0 if day == 5 else 1.0)
    judged = gate(tmp_path)
    assert [outcome for _, outcome in outcomes(judged)] == ["pass", "pass", "regression", "regression"]
    assert judged.outcome == "regression"
