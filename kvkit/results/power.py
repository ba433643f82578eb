"""How many requests a change of the TTFT takes to be seen, at the noise of the newest baseline."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, log, log1p, sqrt
from pathlib import Path

from kvkit.results.noise import NoiseFloor
from kvkit.results.pairing import runs_by_scenario
from kvkit.results.run import Run
from kvkit.results.speedup import MIN_PAIRS, Interval, Speedup

SEEN_SHARE = 0.9
"""Of the measurements, in which the verdict is not "no difference"."""
_MOST = 10**9


@dataclass(frozen=True, slots=True)
class Power:
    """What one scenario's baseline lets see."""

    scenario: str
    path: Path
    """The newest baseline's stats file."""
    floor: NoiseFloor
    smallest_change: float | None
    """Seen with as many requests as that run sent; 0.05 is 5 %. `None`, as below: the noise is unknown."""
    requests: int | None
    """With which the change asked for is seen. `None` also where no number is enough: the drift alone covers it."""


def powers(baseline_globs: Sequence[str], change: float) -> list[Power]:
    """Of each scenario's newest baseline: what it takes to see a change of the median TTFT by a factor 1 + `change`.

    Raises:
        ResultsError: a glob matches nothing, a file cannot be read or is no baseline, or SciPy is not installed.
    """
    found = runs_by_scenario(baseline_globs, "baseline")
    return [_of(Run.read(*files[-1]), change) for files in found.values()]


def _of(run: Run, change: float) -> Power:
    floor = NoiseFloor.of([run])
    smallest = requests = None
    if floor.aa is not None and floor.aa.interval is not None:
        noise = Noise.of(floor.aa, floor.aa.interval)
        smallest, requests = noise.smallest_change(floor.aa.pairs), noise.requests(change)
    return Power(run.stats.scenario, run.path, floor, smallest, requests)


@dataclass(frozen=True, slots=True)
class Noise:
    """Of the log ratio of two medians of the same requests."""

    scatter: float
    """Its standard error with one pair; with n pairs it is 1/√n of that."""
    drift: float
    """What more requests do not take away: how far the two rounds lie apart where their interval leaves 1 out."""

    @classmethod
    def of(cls, aa: Speedup, interval: Interval) -> Noise:
        half_width = log(interval.high / interval.low) / 2
        drift = 0.0 if interval.holds(1) else abs(log(aa.ratio))
        return cls(scatter=half_width / _deviates(aa.pairs) * sqrt(aa.pairs), drift=drift)

    def smallest_change(self, requests: int) -> float:
        """The change that is seen in `SEEN_SHARE` of the measurements with so many requests a round.

        A change δ (in logs) is seen when its estimate D lies further from 0 than the A/A comparison A and half an
        interval w together: the interval of D leaves 0 out, and D is outside the noise floor |A| + w (`verdict.judge`).
        D and A have the standard error s = scatter / √n and share one round, so their correlation is ±1/2. Then
        D - A and D + A are independent, with s and √3 s, and P(D - |A| > w) = Φ(q) Φ(q / √3) where δ = w + q s.
        """
        return exp((_deviates(requests) + _margin()) * self.scatter / sqrt(requests) + self.drift) - 1

    def requests(self, change: float) -> int | None:
        """The fewest with which `change` is seen; `None` where the drift covers it."""
        if log1p(change) <= self.drift:
            return None
        counts = range(MIN_PAIRS, _MOST)
        found = bisect_left(counts, True, key=lambda requests: self.smallest_change(requests) <= change)
        return counts[found] if found < len(counts) else None


def _deviates(pairs: int) -> float:
    """Half an interval of so many pairs, in standard errors: 1.96 of many."""
    from scipy import stats  # noqa: PLC0415 - slow to import, and in an extra

    from kvkit.results.bootstrap import expanded_level  # noqa: PLC0415 - as scipy

    return float(stats.norm.ppf((1 + expanded_level(pairs)) / 2))


@cache
def _margin() -> float:
    """How far beyond half an interval a change has to lie, in standard errors: q of `Noise.smallest_change`."""
    from scipy import optimize, stats  # noqa: PLC0415 - slow to import, and in an extra

    return float(optimize.brentq(lambda q: stats.norm.cdf(q) * stats.norm.cdf(q / sqrt(3)) - SEEN_SHARE, 0, 10))
