"""How many requests a change takes to be seen, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvkit.report import wording
from kvkit.report.history import line, say
from kvkit.results.power import SEEN_SHARE, Power

_PLAIN_WIDTH = 160


def print_powers(found: Sequence[Power], change_percent: float, console: Console) -> None:
    """A line a scenario, and what is not known of it, with the reason."""
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    change = f"{change_percent:g} %"
    table = Table(
        title=f"What it takes to see a change of the median TTFT in {SEEN_SHARE * 100:.0f} of 100 measurements",
        title_justify="left",
        box=box.HEAVY_HEAD if console.is_terminal else box.ASCII,
    )
    for heading in ("Scenario", "Requests", "Noise (A/A)", "Smallest change seen", f"Requests for {change}"):
        table.add_column(heading, justify="left" if heading == "Scenario" else "right")
    for power in found:
        table.add_row(*(Text(line(cell)) for cell in _cells(power)))
    console.print(table)
    for power in found:
        if (reason := power.floor.unknown) is not None:
            say(console, f"{power.scenario}: unknown: {reason} ({power.path})", "yellow")
        elif power.requests is None:
            say(
                console,
                f"{power.scenario}: no number of requests shows {change}: the two cold rounds of this baseline lie "
                f"further apart ({wording.speedup(power.floor.aa)}), whatever their number ({power.path})",
                "yellow",
            )
    say(console, "Requests are those of a round (test.requests_per_scenario, or --requests), the same in both modes.")


def _cells(power: Power) -> tuple[str, ...]:
    pairs = power.floor.aa.pairs if power.floor.aa is not None else None
    shown = power.smallest_change
    return (
        power.scenario,
        wording.count(pairs),
        wording.noise_floor(power.floor),
        wording.UNKNOWN if shown is None else wording.percent(shown * 100),
        wording.count(power.requests)
        if power.requests is not None
        else "none"
        if shown is not None
        else wording.UNKNOWN,
    )
