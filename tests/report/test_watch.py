"""What `kvkit watch` shows."""

from __future__ import annotations

import io
import re

from rich.console import Console

from kvkit.observe.live import Group, Level, Look, Rate, Seen
from kvkit.report.watch import watch_screen

KEYS = Level("keys", "master_key_count")
STORED = Level("stored", "master_allocated_bytes", "bytes")
PUT = Rate("keys put", "master_batch_put_start_items_total")
URL = "http://here:9003/metrics"


def look(put: float | None, problem: str | None = None, *, told: bool = True) -> Look:
    seen = (Seen(KEYS, True, 1234.0), Seen(STORED, True, 7.3e9), Seen(PUT, told, put))
    return Look(URL, (Group("Mooncake master", seen),), problem)


CONTROL = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")


def shown(*looks: Look, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=terminal,
        width=80,
        height=50,
        highlight=False,
        color_system=None,
        legacy_windows=False,
    )
    with watch_screen(2.0, console) as show:
        for each in looks:
            show([each])
    return CONTROL.sub("", out.getvalue()).rstrip()


def test_a_log_gets_a_line_for_each_look() -> None:
    first, second = shown(look(None), look(2.5)).splitlines()
    assert first.partition(" ")[2] == "Mooncake master here:9003: keys 1,234, stored 7.3 GB, keys put -"
    assert second.endswith("keys put 2.50/s")


def test_what_is_not_told_is_unknown() -> None:
    assert shown(look(None, told=False)).rstrip().endswith("keys put unknown")


def test_a_silent_server_is_shown_by_its_reason() -> None:
    (line,) = shown(look(None, f"{URL}: no answer (refused)", told=False)).splitlines()
    assert line.partition(" ")[2] == f"{URL}: no answer (refused)"


def test_a_terminal_gets_a_curve_of_what_was_seen() -> None:
    last = shown(look(None), look(0.0), look(1.0), look(100.0), terminal=True).splitlines()[-1]
    assert last.split() == ["keys", "put", "100/s", "·▁▂█"]


def test_a_restart_is_told_below_the_table() -> None:
    assert shown(look(None, "the server was restarted in between"), terminal=True).splitlines()[-1].strip() == (
        "the server was restarted in between"
    )


def test_words_of_a_server_are_no_markup_and_no_commands() -> None:
    told = shown(Look(URL, (), "[bold]loud[/bold] \x1b[31mred"), terminal=True)
    assert "[bold]loud[/bold]  [31mred" in told


def test_it_fits_into_80_columns() -> None:
    assert max(len(line) for line in shown(look(1.0), terminal=True).splitlines()) <= 80
