"""The table at the end of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvkit.report import wording
from kvkit.report.escape import for_terminal
from kvkit.results.stats import RoundSummary

_HEADINGS = ("Level", "Requests/s", "TTFT p50, ms", "TTFT p99, ms", "TPOT mean, ms", "Valid")

_PLAIN_WIDTH = 160


def print_sweep(levels: Sequence[tuple[str, RoundSummary]], stopped: str, console: Console) -> None:
    """One line a level, named and with the round that was judged, and why there are no more."""
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    table = Table(title="Sweep: the last round of each level", title_justify="left")
    held = next((summary.goodput for _, summary in levels if summary.goodput is not None), None)
    headings = _HEADINGS if held is None else (*_HEADINGS, f"Within {wording.objectives(held)}, requests/s")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"Level", "Valid"} else "right")
    for label, summary in levels:
        good = [] if held is None else [wording.number(summary.goodput.requests_per_s if summary.goodput else None, 2)]
        table.add_row(*(Text(for_terminal(cell)) for cell in (label, *_cells(summary), *good)))
    if levels:
        console.print(table)
    console.print(Text(for_terminal(f"Stopped: {stopped}.")), soft_wrap=True)


def _cells(summary: RoundSummary) -> tuple[str, ...]:
    return (
        wording.number(summary.throughput.requests_per_s, 2),
        wording.number(summary.ttft_ms.p50),
        wording.number(summary.ttft_ms.p99),
        wording.number(summary.tpot_ms.mean, 2),
        wording.validity(summary.valid),
    )
