"""Which earlier runs stand for how it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvkit.history.against import Against
from kvkit.history.regression import Regression, regressions
from kvkit.results.errors import ResultsError
from kvkit.results.stats import Mode
from tests.history.runs import run_id, write_past_run

MODES: tuple[Mode, ...] = ("baseline", "with-cache")


def held(folder: Path, given: Path, against: str = "last") -> Regression:
    (found,) = regressions([str(given)], Against.parse(against), folder)
    return found


def before(found: Regression) -> list[str]:
    return [run.run_id for run in found.before]


@pytest.mark.parametrize("text", ["", "first", "last:0", "last:", "last:-1", "last:99999", "abc", "LAST", "3f2a; --"])
def test_what_is_no_earlier_run_is_refused(text: str) -> None:
    with pytest.raises(ResultsError, match="allowed are last, last:N"):
        Against.parse(text)


def test_the_last_is_the_newest_before_the_run_itself(tmp_path: Path) -> None:
    paths = [write_past_run(tmp_path, day) for day in range(4)]
    assert before(held(tmp_path, paths[2])) == [run_id(1)]


def test_the_last_few_are_given_oldest_first(tmp_path: Path) -> None:
    paths = [write_past_run(tmp_path, day) for day in range(4)]
    assert before(held(tmp_path, paths[3], "last:2")) == [run_id(1), run_id(2)]


def test_another_mode_is_no_earlier_run(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, mode="baseline")
    assert held(tmp_path, write_past_run(tmp_path, 2)).nothing_before == (
        f"{tmp_path} holds no earlier run of it in the mode with-cache: the next run can be held against this one"
    )


def test_another_workload_is_passed_over(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    write_past_run(tmp_path, 2, parameters={"prefix_tokens": 9000})
    assert before(held(tmp_path, write_past_run(tmp_path, 3))) == [run_id(1)]


def test_what_differs_is_said_where_no_run_is_comparable(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, parameters={"prefix_tokens": 9000}, connector="MooncakeStoreConnector")
    told = held(tmp_path, write_past_run(tmp_path, 2)).nothing_before
    assert told is not None
    assert (
        "connector MooncakeStoreConnector before, LMCacheMPConnector now; "
        "workload.prefix_tokens 9000 before, 1000 now: measure once more as it is now"
    ) in told


def test_only_invalid_runs_before_are_told(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, valid=False)
    assert held(tmp_path, write_past_run(tmp_path, 2)).nothing_before == (
        f"all earlier runs of it are INVALID, the newest ({run_id(1)}) because of: round 2: no external tokens"
    )


def test_a_run_is_named_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    paths = [write_past_run(tmp_path, day) for day in range(3)]
    assert before(held(tmp_path, paths[2], "00aa")) == [run_id(0)]


def test_a_named_run_may_have_another_connector_which_is_said(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, connector="MooncakeStoreConnector", version="0.31.0")
    found = held(tmp_path, write_past_run(tmp_path, 2), run_id(1))
    assert before(found) == [run_id(1)]
    assert found.settings == (
        "engine.connector MooncakeStoreConnector before, LMCacheMPConnector now",
        "engine.version 0.31.0 before, 0.32.0 now",
    )


def test_a_named_run_of_another_workload_is_refused_with_what_differs(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, parameters={"prefix_tokens": 9000})
    found = held(tmp_path, write_past_run(tmp_path, 2), run_id(1))
    assert found.nothing_before == (
        f"run {run_id(1)} measured something else: workload.prefix_tokens 9000 before, 1000 now"
    )


def test_a_named_run_of_the_other_mode_is_refused(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1, mode="baseline")
    told = held(tmp_path, write_past_run(tmp_path, 2), run_id(1)).nothing_before
    assert told is not None
    assert told.startswith(f"run {run_id(1)} holds no cold_start in the mode with-cache, but cold_start baseline")


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("ffff", "no run in .* has this id"),
        ("02aaaaaa", "is the run that is to be held against it"),
        ("0000", "is the beginning of 0000aaaa, 0000bbbb: give more of it"),
    ],
)
def test_a_name_that_names_no_earlier_run_is_refused(tmp_path: Path, against: str, message: str) -> None:
    for day, other in ((3, "0000aaaa"), (4, "0000bbbb")):
        path = write_past_run(tmp_path, day)
        path.write_text(path.read_text().replace(run_id(day), other))
    with pytest.raises(ResultsError, match=message):
        held(tmp_path, write_past_run(tmp_path, 2), against)


def test_without_files_the_newest_run_is_taken_with_all_its_scenarios(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    for scenario in ("cold_start", "multi_turn_conversation"):
        write_past_run(tmp_path, 2, scenario=scenario)
    found = regressions(None, Against.parse("last"), tmp_path)
    assert [(one.scenario, before(one)) for one in found] == [
        ("cold_start", [run_id(1)]),
        ("multi_turn_conversation", []),
    ]


def test_without_files_a_cycle_is_taken_with_both_modes(tmp_path: Path) -> None:
    for day in (1, 2):
        for mode in MODES:
            write_past_run(tmp_path / f"cycle_{day}", day, mode=mode)
    found = regressions(None, Against.parse("last"), tmp_path)
    assert [(one.mode, before(one)) for one in found] == [(mode, [run_id(1)]) for mode in MODES]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"holds no run .* \(files that cannot: 1; kvkit history names them"):
        regressions(None, Against.parse("last"), tmp_path)


def test_runs_from_elsewhere_are_held_against_the_history(tmp_path: Path) -> None:
    write_past_run(tmp_path / "results", 1)
    assert before(held(tmp_path / "results", write_past_run(tmp_path / "ci", 2))) == [run_id(1)]
