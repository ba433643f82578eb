"""A round while it runs: moving in a terminal, as lines elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from kvkit.report import wording
from kvkit.results.record import Record
from kvkit.results.running import RunningFigures, RunningRound

_REDRAW_S = 0.2
"""At least so long between two drawings: drawing keeps the event loop from stamping tokens."""

_BAR_WIDTH = 30

_STEPS = 10
"""Lines of a round where there is no terminal."""


class RoundProgress(Protocol):
    def start(self, total: int) -> None:
        """A round of so many requests begins."""

    def add(self, record: Record) -> None:
        """A request of it has ended."""

    def stop(self) -> None:
        """It is over, or never began."""


class MovingProgress:
    """A bar with the figures so far below it: for a terminal.

    It is drawn when a request ends and at no other time: a timer or a thread would run while tokens come.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._round = RunningRound(0)
        self._began_s = self._drawn_s = 0.0

    def start(self, total: int) -> None:
        self._round = RunningRound(total)
        self._began_s = time.monotonic()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._draw()

    def add(self, record: Record) -> None:
        self._round.add(record)
        if time.monotonic() - self._drawn_s >= _REDRAW_S:
            self._draw()

    def stop(self) -> None:
        if self._live is not None:
            self._draw()
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        assert self._live is not None
        self._drawn_s = time.monotonic()
        figures, elapsed_s = self._round.figures(), self._drawn_s - self._began_s
        bar = Padding(ProgressBar(total=figures.total, completed=figures.ended, width=_BAR_WIDTH), (0, 0, 0, 2))
        lines = (
            f"  {_place(figures, elapsed_s)}",
            f"  {_latency(figures)}; {_pace(figures)}; {figures.failed} failed",
            f"  {_cached(figures)}",
        )
        told = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        if figures.failed:
            told.highlight_words([f"{figures.failed} failed"], "red")
        self._live.update(Group(bar, told), refresh=True)


class ProgressLines:
    """A line at every tenth of a round: for a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._round = RunningRound(0)
        self._lines = 0
        self._began_s = 0.0

    def start(self, total: int) -> None:
        self._round = RunningRound(total)
        self._lines = 0
        self._began_s = time.monotonic()

    def add(self, record: Record) -> None:
        self._round.add(record)
        figures = self._round.figures()
        due = figures.ended * _STEPS // figures.total
        if due > self._lines:
            self._lines = due
            place = _place(figures, time.monotonic() - self._began_s)
            told = (_latency(figures), _pace(figures), f"{figures.failed} failed", _cached(figures))
            self._console.print(Text(f"  Progress {place}: {'; '.join(told)}"), soft_wrap=True)

    def stop(self) -> None:
        """Nothing stays open."""


def _latency(figures: RunningFigures) -> str:
    return f"TTFT mean {wording.number(figures.ttft_mean_ms)} ms, p95 {wording.number(figures.ttft_p95_ms)} ms"


def _pace(figures: RunningFigures) -> str:
    return f"{wording.number(figures.requests_per_s, 2)} req/s"


def _cached(figures: RunningFigures) -> str:
    if figures.cached_tokens is None:
        return f"cached tokens {wording.UNKNOWN}"
    return f"cached {wording.share(figures.cached_ratio)} of {wording.count(figures.prompt_tokens)} prompt tokens"


def _place(figures: RunningFigures, elapsed_s: float) -> str:
    place = f"{figures.ended}/{figures.total} after {_clock(elapsed_s)}"
    left_s = figures.left_s(elapsed_s)
    if left_s is None:
        return f"{place}, time left {wording.UNKNOWN}"
    return f"{place}, about {_clock(left_s)} left" if figures.ended < figures.total else place


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
