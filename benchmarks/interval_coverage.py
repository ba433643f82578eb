"""How often an interval holds the true speed-up, and how often a change is seen with the requests that power tells.

    python benchmarks/interval_coverage.py [--measurements 500]

No engine: TTFTs are drawn. Those of the prompts are log-normal (lengths differ), each measurement of one is longer by a
skewed noise (exponential, `NOISE` of it on average, now and then a straggler), and the cache divides it by `SPEEDUP`.

First table: of 95 % intervals, how many hold the truth, for the kit's own (`bootstrap.estimate`), plain percentiles and
BCa. Second table: `PILOT` requests of a baseline tell how many show a change (`power.Noise`); that many are then
measured, and judged as `kvkit compare` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kvkit.results.bootstrap import Ratio, estimate, ratio_of_means, ratio_of_medians
from kvkit.results.noise import NoiseFloor
from kvkit.results.power import SEEN_SHARE, Noise
from kvkit.results.speedup import CONFIDENCE
from kvkit.results.verdict import judge

SPEEDUP = 2.0
PAIRS = (20, 40, 100)
PILOT = 60
CHANGES = (0.05, 0.1, 0.2)
LENGTH_SCATTER, NOISE, STRAGGLERS, STRAGGLER_TIMES = 0.6, 0.1, 0.03, 3.0
FEW_RESAMPLES = 2000

Times = NDArray[np.float64]
Interval = tuple[float, float]


def prompts(count: int, source: np.random.Generator) -> Times:
    """Seconds that each would take without noise."""
    return source.lognormal(0, LENGTH_SCATTER, count)


def measured(seconds: Times, source: np.random.Generator) -> Times:
    noise = 1 + source.exponential(NOISE, len(seconds))
    return seconds * noise * np.where(source.random(len(seconds)) < STRAGGLERS, STRAGGLER_TIMES, 1)


def own(slow: Times, fast: Times, ratio: Ratio) -> Interval:
    (found,) = estimate(list(slow), list(fast), [ratio])
    assert found is not None
    assert found.interval is not None
    return found.interval.low, found.interval.high


def textbook(method: Literal["percentile", "BCa"]) -> Callable[[Times, Times, Ratio], Interval]:
    def interval(slow: Times, fast: Times, ratio: Ratio) -> Interval:
        found = stats.bootstrap(
            (slow, fast),
            lambda slow, fast, axis=-1: ratio(slow, fast),
            paired=True,
            vectorized=True,
            n_resamples=FEW_RESAMPLES,
            method=method,
            confidence_level=CONFIDENCE,
            rng=np.random.default_rng(0),
        ).confidence_interval
        return found.low, found.high

    return interval


METHODS = {"own": own, "percentile": textbook("percentile"), "BCa": textbook("BCa")}
RATIOS: dict[str, Ratio] = {"median": ratio_of_medians, "mean": ratio_of_means}


def coverage(method: Callable[[Times, Times, Ratio], Interval], ratio: Ratio, pairs: int, measurements: int) -> float:
    """Of endless pairs both ratios are `SPEEDUP`: the noise of both modes is the same."""
    held = 0
    for seed in range(measurements):
        source = np.random.default_rng(seed)
        seconds = prompts(pairs, source)
        low, high = method(measured(seconds, source), measured(seconds / SPEEDUP, source), ratio)
        held += low <= SPEEDUP <= high
    return held / measurements


def seen_with(requests: int, change: float, source: np.random.Generator) -> bool:
    """Whether a comparison of so many requests in each round has a verdict other than "no difference"."""
    seconds = prompts(requests, source)
    first, second = measured(seconds, source), measured(seconds, source)
    hits = measured(seconds / (1 + change), source)
    (aa,), (found,) = (
        estimate(list(slow), list(fast), [ratio_of_medians]) for slow, fast in ((first, second), (second, hits))
    )
    return judge(found, NoiseFloor(aa)).effect == "better"


def planned(change: float, measurements: int) -> tuple[list[int], float]:
    """The requests that each pilot asks for, and the share of measurements of that size that see the change."""
    asked, seen = [], 0
    for seed in range(measurements):
        source = np.random.default_rng(seed)
        seconds = prompts(PILOT, source)
        (aa,) = estimate(list(measured(seconds, source)), list(measured(seconds, source)), [ratio_of_medians])
        assert aa is not None
        assert aa.interval is not None
        requests = Noise.of(aa, aa.interval).requests(change)
        if requests is None:  # a pilot whose two rounds happen to lie apart
            continue
        asked.append(requests)
        seen += seen_with(requests, change, source)
    return asked, seen / len(asked)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=int, default=500)
    measurements = parser.parse_args().measurements
    print(f"truth inside the {CONFIDENCE:.0%} interval, in % of {measurements} measurements")
    print(f"{'ratio of':10}{'pairs':>6}" + "".join(f"{name:>12}" for name in METHODS))
    for name, ratio in RATIOS.items():
        for pairs in PAIRS:
            shares = [coverage(method, ratio, pairs, measurements) for method in METHODS.values()]
            print(f"{name:10}{pairs:>6}" + "".join(f"{share:>12.1%}" for share in shares), flush=True)
    print(f"\nchange seen with the requests that a pilot of {PILOT} tells (wanted {SEEN_SHARE:.0%})")
    print(f"{'change':>8}{'requests, median':>18}{'10 to 90 %':>16}{'seen':>8}")
    for change in CHANGES:
        asked, seen = planned(change, measurements)
        low, middle, high = np.quantile(asked, [0.1, 0.5, 0.9])
        print(f"{change:>8.0%}{middle:>18,.0f}{f'{low:,.0f} to {high:,.0f}':>16}{seen:>8.1%}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
