"""How sure a change is. SciPy takes half a second to import, so only what judges changes imports this."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log, sqrt
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy import stats

from kvkit.results.bootstrap import RESAMPLES, SEED, Values, expanded_level  # tells what to install, if need be
from kvkit.results.speedup import CONFIDENCE, MIN_PAIRS, Interval

_BATCH_VALUES = 1_000_000

_MIN_PART = 2
"""Runs on each side of a shift: one by itself is what a gate judges."""

_SHUFFLES = 9_999


def ratio_between_runs(now: Sequence[float], before: Sequence[float]) -> tuple[float, Interval]:
    """The geometric mean of one figure of several runs over that of earlier runs, with its 95 % interval.

    Each run counts as one observation, so how far runs of the same thing lie apart is in the interval: Student's t of
    the logarithms, with the spread of both sides pooled and n + m - 2 degrees of freedom. One run against m earlier
    ones is the special case that is known as the prediction interval. Source: Hahn & Meeker, "Statistical Intervals"
    (1991), section 4.7; Welch's test is not usable with one run on a side.

    Args:
        now: the figure of each run, above 0; at least one.
        before: likewise; at least three runs in all.
    """
    new, old = ([log(value) for value in values] for values in (now, before))
    distance = fmean(new) - fmean(old)
    margin = half_width(spread(now, before), len(new), len(old))
    return exp(distance), Interval(exp(distance - margin), exp(distance + margin))


def spread(now: Sequence[float], before: Sequence[float]) -> float:
    """The standard deviation of the logarithms within the two sides, pooled: how far apart runs of one thing lie."""
    sides = [np.log(np.asarray(values, dtype=float)) for values in (now, before)]
    squares = sum(float(np.sum((side - side.mean()) ** 2)) for side in sides)
    return sqrt(squares / (len(now) + len(before) - 2))


def half_width(deviation: float, now: int, before: int) -> float:
    """Half the width of the interval of `ratio_between_runs`, as a difference of logarithms."""
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, now + before - 2))
    return t * deviation * sqrt(1 / now + 1 / before)


def ratio_of_independent_medians(now: Sequence[float], before: Sequence[float]) -> tuple[float, Interval | None]:
    """The median of one sample over that of another one, with its 95 % interval, for requests that are no pairs.

    The expanded percentile interval of the bootstrap, as for pairs (`kvkit.results.bootstrap.estimate`), but each
    side is drawn from by itself; the level is that of the smaller side. It holds what differs between requests, and
    nothing of what differs between two runs of the same thing. `None` with fewer than `MIN_PAIRS` on a side.

    Source: Efron & Tibshirani 1993, ch. 8.
    """
    samples = np.asarray(now, dtype=float), np.asarray(before, dtype=float)
    ratio = float(np.median(samples[0]) / np.median(samples[1]))
    smaller = min(len(now), len(before))
    if smaller < MIN_PAIRS:
        return ratio, None

    def medians(new: Values, old: Values, axis: int = -1) -> Values:
        return np.median(new, axis=axis) / np.median(old, axis=axis)

    drawn = stats.bootstrap(
        samples,
        medians,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_VALUES // max(len(now), len(before))),
        method="percentile",
        confidence_level=expanded_level(smaller),
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    low, high = float(drawn.low), float(drawn.high)
    return ratio, Interval(low, high) if isfinite(low) and isfinite(high) else None


class Split(NamedTuple):
    """Where a series of figures falls into two parts that differ most."""

    at: int
    """Of the first figure of the second part."""
    chance: float
    """How often a series without any change, in another order by chance, falls into parts that differ as much."""


def best_split(values: Sequence[float]) -> Split:
    """Find it, and hold it against chance.

    The split is the one with the largest sum of squares between its parts, of the logarithms; the chance is the share
    of 9,999 random orders of the same figures whose best split has one at least as large, so that having looked at all
    splits is paid for. Source: Sen & Srivastava, "On tests for detecting change in mean" (1975); Edgington &
    Onghena, "Randomization Tests" (2007), ch. 3 on the share.

    Args:
        values: above 0, oldest first; at least four.
    """
    logs = np.log(np.asarray(values, dtype=float))
    logs -= logs.mean()
    between = _between(logs)
    best = int(np.argmax(between))
    rng = np.random.default_rng(SEED)
    batch = max(1, _BATCH_VALUES // len(logs))
    larger = 0
    for start in range(0, _SHUFFLES, batch):
        orders = rng.permuted(np.tile(logs, (min(batch, _SHUFFLES - start), 1)), axis=1)
        # Orders that split into the very same two parts differ in the last digit.
        larger += int(np.sum(_between(orders).max(axis=-1) >= between[best] * (1 - 1e-9)))
    return Split(at=best + _MIN_PART, chance=(larger + 1) / (_SHUFFLES + 1))


def _between(logs: Values) -> Values:
    """The sum of squares between the two parts, for every split; of figures whose mean is 0, over the last axis."""
    n = logs.shape[-1]
    places = np.arange(1, n + 1)[_MIN_PART - 1 : n - _MIN_PART]
    sums = np.cumsum(logs, axis=-1)[..., _MIN_PART - 1 : n - _MIN_PART]
    return sums**2 * n / (places * (n - places))
