"""The median TTFT of one round over all runs of a series, and whether it shifted on the way."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvkit.history.past import PastRound, PastRun
from kvkit.results.differences import since
from kvkit.results.speedup import Interval
from kvkit.results.stats import Mode, RoundName

LEVEL = 0.02
"""A shift is called where chance makes one as large in at most so many series without any. Stricter than the usual 5 %,
because three scenarios in two modes and two rounds are twelve trends on one screen."""

MIN_RUNS = 9
"""With fewer, no order of the figures is so rare: of eight, those of a clean shift split as well in 2 of the 70 ways to
take four of them."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run in a trend."""

    run: PastRun
    round: PastRound
    news: tuple[str, ...]
    """What is not as it was in the run before: versions, the load generator."""

    @property
    def counts(self) -> bool:
        """An INVALID run is shown and counts for nothing."""
        return self.run.valid is not False and bool(self.round.ttft_ms)


@dataclass(frozen=True, slots=True)
class Shift:
    """From one run on, TTFT is another."""

    first: PastRun
    """The first run after it."""
    ratio: float
    """Geometric mean after over before."""
    interval: Interval
    """95 %, as if the place had been known. It was chosen for the largest shift, so this lies a little too far out."""
    chance: float
    """How often as large a shift comes up in the same figures in another order."""


@dataclass(frozen=True, slots=True)
class Trend:
    """One round of one scenario, mode and workload, oldest run first."""

    scenario: str
    mode: Mode
    number: int
    name: RoundName
    told_apart: tuple[str, ...]
    """By what it differs from other series of the same scenario and mode; empty where there is no other."""
    points: tuple[Point, ...]
    shift: Shift | None

    @property
    def judged(self) -> bool:
        """Whether there are enough runs to call a shift."""
        return sum(point.counts for point in self.points) >= MIN_RUNS


def trends(runs: Iterable[PastRun]) -> tuple[Trend, ...]:
    """The trend of every round of every series, in the order of the series' names.

    Raises:
        ResultsError: a series is long enough to be judged, and SciPy is not installed.
    """
    by_series: dict[tuple[str, str, str], list[PastRun]] = defaultdict(list)
    for run in runs:
        by_series[run.series].append(run)
    found: list[Trend] = []
    for series, members in sorted(by_series.items()):
        others = [other for other in by_series if other[:2] == series[:2] and other != series]
        told_apart = _told_apart(series[2], [other[2] for other in others])
        for number in sorted({one.number for run in members for one in run.rounds}):
            found.append(_trend(number, members, told_apart))
    return tuple(found)


def _trend(number: int, runs: Sequence[PastRun], told_apart: tuple[str, ...]) -> Trend:
    points: list[Point] = []
    for run in runs:
        if (one := run.round(number)) is not None:
            points.append(Point(run, one, _news(points[-1].run, run) if points else ()))
    return Trend(
        scenario=runs[0].scenario,
        mode=runs[0].mode,
        number=number,
        name=points[-1].round.name,
        told_apart=told_apart,
        points=tuple(points),
        shift=_shift([point for point in points if point.counts]),
    )


def _shift(points: Sequence[Point]) -> Shift | None:
    """The largest one, where chance does not make one as large too often."""
    if len(points) < MIN_RUNS:
        return None
    from kvkit.history.intervals import best_split, ratio_between_runs  # noqa: PLC0415 - SciPy is slow to import

    figures = [point.round.ttft_ms for point in points if point.round.ttft_ms]
    split = best_split(figures)
    if split.chance > LEVEL:
        return None
    ratio, interval = ratio_between_runs(figures[split.at :], figures[: split.at])
    return Shift(points[split.at].run, ratio, interval, split.chance)


def _news(before: PastRun, now: PastRun) -> tuple[str, ...]:
    return since(
        *({"engine": one.engine_version, "kvkit": one.kvkit_version, "host": one.host} for one in (now, before))
    )


def _told_apart(conditions: str, others: Sequence[str]) -> tuple[str, ...]:
    """The conditions that are not the same in all series, as this one has them."""
    ours = _flat(json.loads(conditions))
    theirs = [_flat(json.loads(other)) for other in others]
    return tuple(f"{name} {value}" for name, value in ours.items() if any(one.get(name) != value for one in theirs))


def _flat(conditions: dict[str, object]) -> dict[str, object]:
    workload = conditions.pop("workload")
    assert isinstance(workload, dict)
    return workload | conditions
