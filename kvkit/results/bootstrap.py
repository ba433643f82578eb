"""Paired bootstrap intervals of speed-ups. SciPy takes half a second to import, so only a comparison imports this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, sqrt
from typing import Any

from kvkit.results.errors import ResultsError
from kvkit.results.record import Record
from kvkit.results.speedup import CONFIDENCE, MIN_PAIRS, Interval, Speedup, Speedups

try:
    import numpy as np
    from scipy import stats
except ImportError as error:
    raise ResultsError(
        f"intervals need the libraries of an extra ({error.name} is missing): pip install 'kvkit[compare]'"
    ) from error

RESAMPLES = 10_000
FEWEST_RESAMPLES = 2_000
"""With another seed a bound then moves by 3 % of half the interval: √(0.025 · 0.975 / 2000) / φ(1.96) / 1.96."""
ENOUGH_VALUES = 10_000_000
"""Values drawn in all, beyond which fewer resamples are drawn: intervals of that many pairs are narrow."""
SEED = 0
"""The same files give the same figures."""

_TRIMMED_SHARE = 0.2
_BATCH_VALUES = 1_000_000
"""Values of resamples held at once, so that memory does not grow with the pairs."""

Values = Any
"""An array of times, a request a column."""
Ratio = Callable[[Values, Values], Values]
"""(baseline, with cache) -> baseline over with cache, over the last axis."""


def ratio_of_medians(baseline: Values, with_cache: Values) -> Values:
    return np.median(baseline, axis=-1) / np.median(with_cache, axis=-1)


def ratio_of_means(baseline: Values, with_cache: Values) -> Values:
    return np.mean(baseline, axis=-1) / np.mean(with_cache, axis=-1)


def trimmed_ratio(baseline: Values, with_cache: Values) -> Values:
    return np.exp(stats.trim_mean(np.log(baseline / with_cache), _TRIMMED_SHARE, axis=-1))


def speedups(pairs: Sequence[tuple[Record, Record]]) -> Speedups:
    """The speed-ups of paired requests, given as (baseline, with cache)."""
    ttft = [(baseline.ttft_s, with_cache.ttft_s) for baseline, with_cache in pairs]
    median, mean, trimmed = _estimate(ttft, (ratio_of_medians, ratio_of_means, trimmed_ratio))
    (tpot,) = _estimate([(baseline.tpot_s, with_cache.tpot_s) for baseline, with_cache in pairs], (ratio_of_means,))
    (e2e,) = _estimate([(baseline.e2e_s, with_cache.e2e_s) for baseline, with_cache in pairs], (ratio_of_means,))
    return Speedups(ttft_median=median, ttft_mean=mean, ttft_trimmed=trimmed, tpot_mean=tpot, e2e_mean=e2e)


def ttft_speedup(pairs: Sequence[tuple[Record, Record]]) -> Speedup | None:
    """The one that verdicts are on, of pairs given as (baseline, with cache)."""
    (median,) = _estimate([(baseline.ttft_s, with_cache.ttft_s) for baseline, with_cache in pairs], (ratio_of_medians,))
    return median


def estimate(baseline: Sequence[float], with_cache: Sequence[float], ratios: Sequence[Ratio]) -> list[Speedup | None]:
    """Ratios of paired times, each with its 95 % interval.

    The interval is the expanded percentile interval of the paired bootstrap: whole pairs are drawn with replacement,
    10,000 times (of more than 1,000 pairs less often, but at least 2,000 times), and the quantiles are taken at
    Φ(-√(n / (n - 1)) · t(0.975, n - 1)) and its mirror image instead of 2.5 and 97.5 %, because
    plain percentile intervals of small samples are too narrow. Source: Hesterberg, "What Teachers Should Know About the
    Bootstrap" (2015), section 3.6; Efron & Tibshirani 1993, ch. 13.

    Why this one: on skewed latencies with stragglers, 20 to 100 pairs, `python benchmarks/interval_coverage.py` finds
    the true value inside it in 99 of 100 measurements for medians and in 90 to 96 for means. Plain percentiles (99, and
    89 to 92) and BCa intervals (87 to 93, and 82 to 85) hold less.
    """
    n = len(baseline)
    times = np.asarray(baseline, dtype=float), np.asarray(with_cache, dtype=float)
    if not n:
        return [None] * len(ratios)

    def all_ratios(baseline: Values, with_cache: Values, axis: int = -1) -> Values:
        return np.stack([ratio(baseline, with_cache) for ratio in ratios])

    with np.errstate(divide="ignore", invalid="ignore"):
        found = all_ratios(*times)
        intervals: list[Interval | None] = [None] * len(ratios)
        if n >= MIN_PAIRS:
            resampled = stats.bootstrap(
                times,
                all_ratios,
                paired=True,
                vectorized=True,
                n_resamples=resamples(n),
                batch=max(1, _BATCH_VALUES // n),
                method="percentile",
                confidence_level=expanded_level(n),
                rng=np.random.default_rng(SEED),
            ).confidence_interval
            intervals = [_interval(*bounds) for bounds in np.transpose([resampled.low, resampled.high])]
    return [
        Speedup(float(ratio), interval, n) if isfinite(ratio) else None
        for ratio, interval in zip(found, intervals, strict=True)
    ]


def stratified_speedup(
    strata: Sequence[tuple[Sequence[float], Sequence[float]]], *, comparisons: int = 1
) -> Speedup | None:
    """The geometric mean over strata (scenarios) of their ratios of medians, so that each weighs the same.

    Pairs are drawn with replacement within each stratum; else as `estimate`, with the level of the smallest stratum.
    Each must have `MIN_PAIRS` for an interval.

    Args:
        strata: paired times as (numerator, denominator).
        comparisons: how many such intervals are to hold together with 95 %; each is taken at 1 - 0.05 / comparisons
            (Bonferroni).
    """
    if not all(len(slow) for slow, _ in strata) or not strata:
        return None
    times = [(np.asarray(slow, dtype=float), np.asarray(fast, dtype=float)) for slow, fast in strata]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.exp(np.mean([np.log(ratio_of_medians(*each)) for each in times]))
        interval = None
        smallest = min(len(slow) for slow, _ in strata)
        if smallest >= MIN_PAIRS:
            resampled = np.exp(np.mean([_resampled_logs(*each, stratum) for stratum, each in enumerate(times)], axis=0))
            tail = (1 - expanded_level(smallest, 1 - (1 - CONFIDENCE) / comparisons)) / 2
            interval = _interval(*np.quantile(resampled, [tail, 1 - tail]))
    return Speedup(float(ratio), interval, sum(len(slow) for slow, _ in strata)) if isfinite(ratio) else None


def _resampled_logs(slow: Values, fast: Values, stratum: int) -> Values:
    """Log ratios of medians of the resamples of one stratum, drawn apart from those of the others."""
    return stats.bootstrap(
        (slow, fast),
        lambda slow, fast, axis=-1: np.log(ratio_of_medians(slow, fast)),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(slow)),
        method="percentile",
        rng=np.random.default_rng([SEED, stratum]),
    ).bootstrap_distribution


def resamples(n: int) -> int:
    """How often to draw `n` pairs."""
    return min(RESAMPLES, max(FEWEST_RESAMPLES, ENOUGH_VALUES // n))


def expanded_level(n: int, confidence: float = CONFIDENCE) -> float:
    """The level that a percentile interval of `n` values must be asked for to cover `confidence`."""
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(1 - 2 * stats.norm.cdf(-sqrt(n / (n - 1)) * t))


def _estimate(pairs: Sequence[tuple[float | None, float | None]], ratios: Sequence[Ratio]) -> list[Speedup | None]:
    """Of the pairs in which both requests have the time."""
    told = [(baseline, with_cache) for baseline, with_cache in pairs if baseline is not None and with_cache is not None]
    return estimate([baseline for baseline, _ in told], [with_cache for _, with_cache in told], ratios)


def _interval(low: float, high: float) -> Interval | None:
    return Interval(float(low), float(high)) if isfinite(low) and isfinite(high) else None
