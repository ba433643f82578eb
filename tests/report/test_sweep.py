"""The table at the end of a sweep."""

from __future__ import annotations

import io

from rich.console import Console

from kvkit.report.sweep import print_sweep
from kvkit.results.stats import RoundSummary
from tests.results.making import failure, success, summary


def printed(levels: list[tuple[str, RoundSummary]], stopped: str) -> list[list[str]]:
    """The cells of each line of the table that holds any, then the last line as one cell."""
    console = Console(file=io.StringIO(), width=160)
    print_sweep(levels, stopped, console)
    assert isinstance(console.file, io.StringIO)
    *table, last = console.file.getvalue().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table if "│" in line] + [[last]]


def test_each_level_has_a_line_and_the_reason_stands_below() -> None:
    lines = printed(
        [("rate 1", summary([success()])), ("rate 2", summary([failure()], valid=False))], "rate 2 is INVALID: why"
    )
    assert lines == [
        ["rate 1", "0.96", "1,000.0", "1,000.0", "20.00", "valid"],
        ["rate 2", "unknown", "unknown", "unknown", "unknown", "INVALID"],
        ["Stopped: rate 2 is INVALID: why."],
    ]


def test_goodput_has_a_column_where_objectives_were_stated() -> None:
    records = [success("a", ttft_s=0.46), success("b", ttft_s=0.96)]
    level, _ = printed([("rate 1", summary(records, objectives={"ttft_ms": 500.0}))], "it was the last level")
    assert level == ["rate 1", "2.00", "710.0", "955.0", "20.00", "valid", "1.00"]


def test_without_a_level_only_the_reason_is_told() -> None:
    assert printed([], "rate 1 was not measured to its end") == [["Stopped: rate 1 was not measured to its end."]]
