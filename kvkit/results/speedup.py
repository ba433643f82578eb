"""How many times faster with the cache, paired by request. What is computed of it is in `bootstrap.py`."""

from __future__ import annotations

from dataclasses import dataclass

MIN_PAIRS = 8
"""With fewer, no interval is shown: resamples of so few requests take too few different values to tell one."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Covers the true value in 95 of 100 measurements."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Speedup:
    """A time in the baseline over the same time with the cache. Dimensionless; above 1 the cache helped."""

    ratio: float
    interval: Interval | None
    """`None` with fewer than `MIN_PAIRS` pairs, or where a time of 0 leaves nothing to divide by."""
    pairs: int
    """Requests that stand behind it."""

    def inverse(self) -> Speedup:
        """The slow-down: the same time with the cache over that in the baseline."""
        bounds = self.interval and Interval(1 / self.interval.high, 1 / self.interval.low)
        return Speedup(1 / self.ratio, bounds, self.pairs)


@dataclass(frozen=True, slots=True)
class Speedups:
    """The speed-ups of one round. `None`: no pair has the time, or it is 0."""

    ttft_median: Speedup | None
    """Ratio of the medians. The verdict is on this one: a few outliers do not move it."""
    ttft_mean: Speedup | None
    """Ratio of the means, which every request moves, the slowest most."""
    ttft_trimmed: Speedup | None
    """What a typical request gains: the mean of the paired log ratios without the highest and the lowest 20 % of them,
    as a ratio. Source: Tukey & McLaughlin 1963; Wilcox 2017, ch. 3."""
    tpot_mean: Speedup | None
    e2e_mean: Speedup | None
    """At a fixed concurrency the ratio of throughputs: requests per second are concurrency / mean E2E (Little 1961)."""
