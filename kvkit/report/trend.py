"""Trends in a terminal: a line a run, with the interval of its median drawn to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from rich.console import Console

from kvkit.history.trend import MIN_RUNS, Point, Shift, Trend
from kvkit.report import wording
from kvkit.report.history import say

_DRAWN_WIDTH = 48

_LABEL_WIDTH = 40

_LEAST_SPAN = 1.1
"""Of the scale, highest over lowest: what lies closer together than that is to look as if it did."""


class _Marks(NamedTuple):
    low: str
    line: str
    median: str
    high: str


_IN_TERMINAL = _Marks("├", "─", "●", "┤")
_PLAIN = _Marks("|", "-", "o", "|")


def print_trends(trends: Sequence[Trend], console: Console) -> None:
    marks = _IN_TERMINAL if console.is_terminal else _PLAIN
    for trend in trends:
        say(console, f"{title(trend)}: median TTFT, ms", "bold")
        for text in trend_lines(trend, marks):
            console.print(f"  {text}", markup=False, soft_wrap=True)
        say(console, f"  {verdict(trend)}", "bold yellow" if trend.shift else "")
        console.print()


def title(trend: Trend) -> str:
    apart = f" ({', '.join(trend.told_apart)})" if trend.told_apart else ""
    return f"{trend.scenario}, {trend.mode}, round {trend.number} - {wording.ROUND_NAMES[trend.name]}{apart}"


def verdict(trend: Trend) -> str:
    """Whether TTFT shifted, in one sentence."""
    if trend.shift is not None:
        return f"Shift: {_shifted(trend.shift)}"
    counted = sum(point.counts for point in trend.points)
    if not trend.judged:
        return f"No shift can be told from {counted} runs that count: at least {MIN_RUNS} are needed."
    return f"No shift in {counted} runs."


def _shifted(shift: Shift) -> str:
    rise, low, high = (signed((ratio - 1) * 100) for ratio in (shift.ratio, shift.interval.low, shift.interval.high))
    return (
        f"from {shift.first.started:%Y-%m-%d %H:%M} (run {shift.first.run_id}) on {rise} TTFT "
        f"(95 % interval {low} to {high}); "
        f"chance alone makes one as large in {wording.percent(shift.chance * 100)} of such series."
    )


def signed(percent: float) -> str:
    return f"{round(percent, 1) + 0.0:+,.1f} %"


def trend_lines(trend: Trend, marks: _Marks = _PLAIN) -> list[str]:
    """One line a run: when, which, its median, and the interval on a scale that all runs share."""
    drawn = _Scale.of(trend.points)
    lines = [" " * _LABEL_WIDTH + drawn.ends()]
    for point in trend.points:
        if trend.shift is not None and point.run is trend.shift.first:
            lines.append("shift".center(_LABEL_WIDTH + _DRAWN_WIDTH, "-"))
        news = f"  {'; '.join(point.news)}" if point.news else ""
        lines.append(f"{_label(point):{_LABEL_WIDTH}}{drawn.bar(point, marks)}{news}")
    return lines


def _label(point: Point) -> str:
    median = wording.number(point.round.ttft_ms)
    return f"{point.run.started:%Y-%m-%d %H:%M}  {point.run.run_id[:8]:8}  {median:>10}"


class _Scale(NamedTuple):
    low: float
    high: float

    @classmethod
    def of(cls, points: Sequence[Point]) -> _Scale:
        ends = [end for point in points if point.counts for end in _ends(point)]
        low, high = min(ends, default=1.0), max(ends, default=1.0)
        wider = sqrt(max(1.0, _LEAST_SPAN * low / high))
        return cls(low / wider, high * wider)

    def ends(self) -> str:
        low, high = wording.number(self.low), wording.number(self.high)
        return low + high.rjust(_DRAWN_WIDTH - len(low))

    def bar(self, point: Point, marks: _Marks) -> str:
        if not point.counts:
            return wording.validity(point.run.valid) if point.run.valid is False else wording.UNKNOWN
        low, median, high = (self._place(value) for value in _ends(point))
        cells = [" "] * _DRAWN_WIDTH
        if point.round.ttft_interval is not None:
            cells[low : high + 1] = marks.line * (high + 1 - low)
            cells[low], cells[high] = marks.low, marks.high
        cells[median] = marks.median
        return "".join(cells).rstrip()

    def _place(self, value: float) -> int:
        return round((value - self.low) / (self.high - self.low) * (_DRAWN_WIDTH - 1))


def _ends(point: Point) -> tuple[float, float, float]:
    median, interval = point.round.ttft_ms, point.round.ttft_interval
    assert median is not None
    return (interval.low, median, interval.high) if interval else (median, median, median)
