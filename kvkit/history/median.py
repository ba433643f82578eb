"""The interval of one run's median, from its order statistics: no library and no resampling."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, lgamma, log

from kvkit.results.speedup import CONFIDENCE, MIN_PAIRS, Interval


def median_interval(values: Iterable[float]) -> Interval | None:
    """Covers the median that the values were drawn from in at least 95 of 100 samples.

    From the k-th smallest to the k-th largest value, where k is the largest number with P(B < k) <= 2.5 % for B
    binomial with n trials of 1/2. Holds for every continuous distribution. Source: Hahn & Meeker, "Statistical
    Intervals" (1991), section 5.2. `None` with fewer than `MIN_PAIRS` values.
    """
    ordered = sorted(values)
    if len(ordered) < MIN_PAIRS:
        return None
    k = _rank(len(ordered))
    return Interval(ordered[k - 1], ordered[-k])


def _rank(n: int) -> int:
    """The largest k with P(B < k) within the tail; at least 1 from six values on."""
    tail, k = 0.0, 0
    while (tail := tail + _binomial_half(n, k)) <= (1 - CONFIDENCE) / 2:
        k += 1
    return k


def _binomial_half(n: int, k: int) -> float:
    return exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2))
