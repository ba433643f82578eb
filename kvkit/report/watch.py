"""Servers' counters while they change: a table with curves in a terminal, a line per look elsewhere."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import urlsplit

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kvkit.observe.live import Group as FigureGroup
from kvkit.observe.live import Look, Seen, Unit
from kvkit.report import wording
from kvkit.report.escape import for_terminal

_BARS = "▁▂▃▄▅▆▇█"
_NO_VALUE = "·"
_NAME_WIDTH = 32
_VALUE_WIDTH = 16
_CURVE_WIDTH = 24
_TABLE_WIDTH = _NAME_WIDTH + _VALUE_WIDTH + _CURVE_WIDTH + 4

Show = Callable[[Sequence[Look]], None]


@contextmanager
def watch_screen(interval_s: float, console: Console | None = None) -> Iterator[Show]:
    """What shows each look on standard output."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        yield lambda looks: _print_line(looks, console)
        return
    curves = _Curves(interval_s)
    with Live(console=console, auto_refresh=False) as live:
        yield lambda looks: live.update(curves.draw(looks), refresh=True)


class _Curves:
    """Remembers what was shown, as far as a curve goes back."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._past: defaultdict[tuple[int, str, str], deque[float | None]] = defaultdict(
            lambda: deque(maxlen=_CURVE_WIDTH)
        )

    def draw(self, looks: Sequence[Look]) -> RenderableType:
        heading = (
            f"{datetime.now():%H:%M:%S} every {self._interval_s:g} s, Ctrl-C ends | "
            f"each curve to its own highest, {_NO_VALUE} no figure"
        )
        blocks = [self._block(number, look) for number, look in enumerate(looks)]
        return Group(Text(heading, "dim", no_wrap=True, overflow="ellipsis"), Columns(blocks, width=_TABLE_WIDTH))

    def _block(self, number: int, look: Look) -> RenderableType:
        parts: list[RenderableType] = [Text("")]
        parts += [self._table(number, look, group) for group in look.groups]
        if look.problem is not None:
            parts.append(Text(for_terminal(look.problem), "yellow"))
        return Group(*parts)

    def _table(self, number: int, look: Look, group: FigureGroup) -> Table:
        title = Text(f"{group.kind} ", "bold") + Text(for_terminal(_place(look.url)))
        table = Table(
            title=title, title_justify="left", title_style="", box=None, show_header=False, padding=(0, 1, 0, 0)
        )
        table.add_column(width=_NAME_WIDTH, no_wrap=True)
        table.add_column(width=_VALUE_WIDTH, no_wrap=True, justify="right")
        table.add_column(width=_CURVE_WIDTH, no_wrap=True)
        for seen in group.seen:
            past = self._past[number, group.kind, seen.figure.name]
            past.append(seen.value)
            table.add_row(
                seen.figure.name,
                Text(_value(seen), "" if seen.told else "dim"),
                Text(_curve(past).rjust(_CURVE_WIDTH), "cyan"),
            )
        return table


def _print_line(looks: Sequence[Look], console: Console) -> None:
    told = []
    for look in looks:
        told += [f"{group.kind} {_place(look.url)}: {_figures(group)}" for group in look.groups if look.problem is None]
        if look.problem is not None:
            told.append(look.problem)
    line = f"{datetime.now():%H:%M:%S} " + " | ".join(told)
    console.print(Text(for_terminal(line)), soft_wrap=True)


def _figures(group: FigureGroup) -> str:
    return ", ".join(f"{seen.figure.name} {_value(seen)}" for seen in group.seen)


def _place(url: str) -> str:
    """Host and port; the whole address where it is not the usual one of counters."""
    parts = urlsplit(url)
    return parts.netloc if parts.path == "/metrics" else url


def _value(seen: Seen) -> str:
    if not seen.told:
        return wording.UNKNOWN
    return "-" if seen.value is None else _WORDS[seen.figure.unit](seen.value)


def _curve(past: Sequence[float | None]) -> str:
    """Each value against the highest of the curve."""
    highest = max((value for value in past if value is not None), default=0.0)
    return "".join(_NO_VALUE if value is None else _bar(value, highest) for value in past)


def _bar(value: float, highest: float) -> str:
    """The lowest bar is for nothing at all."""
    return _BARS[max(1, round(value / highest * (len(_BARS) - 1)))] if value > 0 else _BARS[0]


def _rate(value: float) -> str:
    return f"{wording.number(value, 0 if value >= 10 or value == 0 else 2)}/s"


_WORDS: dict[Unit, Callable[[float], str]] = {
    "count": wording.count,
    "bytes": lambda value: decimal(round(value)),
    "share": wording.share,
    "per second": _rate,
    "tokens per second": _rate,
    "bytes per second": lambda value: f"{decimal(round(value))}/s",
}
