"""`kvkit history`, `kvkit gate` and `kvkit compare --against`: what is parsed, and with which exit code they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvkit import cli
from tests.history.runs import write_past_run, write_series


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def gate(folder: Path, *more: str | Path) -> int:
    return call("gate", "--max-ttft-regression", "5%", "--results-dir", folder, *more)


def test_a_history_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path)
    assert call("history", "--results-dir", tmp_path, "--since", "2026-11-25", "--mode", "with-cache") == 0
    assert "7 of 10 runs" in capsys.readouterr().out


def test_a_history_is_told_to_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path, rise=0.1)
    assert call("history", "--results-dir", tmp_path, "--json", "--trend") == 0
    assert [one["judged"] for one in json.loads(capsys.readouterr().out)["trends"]] == [True, True]


def test_a_trend_is_drawn_on_the_screen_and_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path, rise=0.1)
    assert call("history", "--results-dir", tmp_path, "--trend", "--chart", tmp_path / "trend.svg") == 0
    assert "Shift: from 2026-11-27" in capsys.readouterr().out
    assert (tmp_path / "trend.svg").read_text().startswith("<svg")


def test_a_gate_that_passes_ends_with_0(tmp_path: Path) -> None:
    write_series(tmp_path)
    assert gate(tmp_path) == 0


def test_a_regression_ends_with_2(tmp_path: Path) -> None:
    write_series(tmp_path, rise=0.1, changed=9)
    assert gate(tmp_path, "--junit", tmp_path / "gate.xml") == 2
    assert (tmp_path / "gate.xml").read_text().count("<failure") == 2


def test_an_invalid_run_ends_with_2(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_past_run(tmp_path, 11, valid=False)
    assert gate(tmp_path) == 2


def test_what_cannot_be_told_ends_with_3(tmp_path: Path) -> None:
    write_past_run(tmp_path, 1)
    assert gate(tmp_path) == 3


@pytest.mark.parametrize("limit", ["5", "0.05", "five", "0%", "5%%", "nan%", ""])
def test_a_limit_that_is_none_ends_with_1(tmp_path: Path, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path)
    assert call("gate", "--max-ttft-regression", limit, "--results-dir", tmp_path) == 1
    told = capsys.readouterr()
    assert "such as 5%" in told.out + told.err


@pytest.mark.parametrize("more", [("--against", "first"), ("--stats", "none*.json"), ("--against", "ffff")])
def test_wrong_input_ends_with_1(tmp_path: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path)
    assert gate(tmp_path, *more) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_that_is_none_ends_with_1(tmp_path: Path) -> None:
    assert gate(tmp_path / "none") == 1
    assert call("history", "--results-dir", tmp_path / "none") == 1


def test_a_run_is_compared_with_the_last_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_series(tmp_path, rise=0.1, changed=9)
    assert call("compare", "--stats", paths[9], "--against", "last", "--results-dir", tmp_path) == 0
    assert "8 against 8 requests" in capsys.readouterr().out


def test_a_comparison_with_nothing_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_past_run(tmp_path, 1)
    assert call("compare", "--stats", path, "--against", "last", "--results-dir", tmp_path) == 1
    assert "holds no earlier run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--stats", "a.json"),
        ("--against", "last"),
        ("--with-cache-stats", "a.json"),
        ("--with-cache-stats", "a.json", "--baseline-stats", "b.json", "--against", "last"),
        ("--stats", "a.json", "--against", "last", "--baseline-stats", "b.json"),
        (),
    ],
)
def test_half_of_a_comparison_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", *arguments) == 1
    assert "give either --with-cache-stats and --baseline-stats" in capsys.readouterr().err
