"""Speed-ups with their intervals: known values, how often the interval holds the truth, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kvkit.results.bootstrap import (
    Ratio,
    estimate,
    expanded_level,
    ratio_of_means,
    ratio_of_medians,
    speedups,
    trimmed_ratio,
)
from kvkit.results.speedup import Interval, Speedup
from tests.results.making import eight


def one(baseline: list[float], with_cache: list[float], ratio: Ratio = ratio_of_medians) -> Speedup | None:
    (found,) = estimate(baseline, with_cache, [ratio])
    return found


def test_each_ratio_of_four_requests() -> None:
    # Medians 6 and 2, means 8 and 2.25; ratios 4, 4, 2 and 4: their logs without the lowest and highest 20 % of four,
    # which is none, have the mean log(4 · 4 · 2 · 4) / 4.
    baseline, with_cache = [4.0, 8.0, 4.0, 16.0], [1.0, 2.0, 2.0, 4.0]
    found = estimate(baseline, with_cache, [ratio_of_medians, ratio_of_means, trimmed_ratio])
    assert [each.ratio for each in found if each] == pytest.approx([6 / 2, 8 / 2.25, 128**0.25])


def test_the_trimmed_ratio_leaves_a_fifth_out_at_each_end() -> None:
    # Ten ratios; the two lowest and the two highest do not count.
    ratios = [0.001, 0.002, *[3.0] * 6, 500.0, 900.0]
    assert trimmed_ratio(np.array(ratios), np.ones(10)) == pytest.approx(3.0)


def test_fewer_than_eight_pairs_have_no_interval() -> None:
    assert one([2.0] * 7, [1.0] * 7) == Speedup(2.0, None, 7)
    assert one([2.0] * 8, [1.0] * 8) == Speedup(2.0, Interval(2.0, 2.0), 8)


def test_no_pairs_and_times_of_zero_are_unknown() -> None:
    assert one([], []) is None
    assert one([1.0] * 8, [0.0] * 8) is None


def test_pairing_takes_out_what_both_modes_share() -> None:
    # Prompts from short to 100 times as long: the ratio of each pair is 2 within 1 %, and only the pairs know it.
    lengths = np.geomspace(1, 100, 20)
    wobble = np.where(np.arange(20) % 2, 1.01, 0.99)
    found = one(list(2 * lengths * wobble), list(lengths), ratio_of_means)
    assert found is not None
    assert found.interval is not None
    assert found.interval.low > 1.9
    assert found.interval.high < 2.1


def test_the_same_files_give_the_same_figures() -> None:
    pairs = list(zip(eight(2, 1.0), eight(2, 0.25, turned=3), strict=True))
    assert speedups(pairs) == speedups(pairs)


def test_tpot_is_of_the_pairs_that_have_one() -> None:
    pairs = list(zip(eight(2, 1.0), eight(2, 0.25), strict=True))
    found = speedups([(baseline, with_cache) for baseline, with_cache in pairs])
    assert found.tpot_mean is not None
    assert (round(found.tpot_mean.ratio, 9), found.tpot_mean.pairs) == (1.0, 8)
    # E2E is TTFT + 40 ms: (1.0 + 0.04) / (0.25 + 0.04).
    assert found.e2e_mean is not None
    assert found.e2e_mean.ratio == pytest.approx(1.04 / 0.29)


@pytest.mark.parametrize("n", [8, 20])
def test_the_expanded_level_makes_up_for_the_narrowness_of_small_samples(n: int) -> None:
    # Resampled means spread by √((n - 1) / n) of the standard error, and Student's t bounds a mean of normal values:
    # a percentile interval at this level is as wide as the t interval.
    rng = np.random.default_rng(n)
    values = rng.standard_normal(n)
    means = rng.choice(values, (50_000, n)).mean(axis=1)
    low, high = np.quantile(means, [(1 - expanded_level(n)) / 2, (1 + expanded_level(n)) / 2])
    from scipy import stats

    t_low, t_high = stats.t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / np.sqrt(n))
    assert high - low == pytest.approx(t_high - t_low, rel=0.05)


def coverage(ratio: Ratio, n: int, trials: int = 200) -> float:
    """How often the interval holds the true ratio, 2, of skewed latencies whose pairs share their prompt's length."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(trials):
        length = np.exp(0.5 * rng.standard_normal(n))
        slow, fast = length * np.exp(0.4 * rng.standard_normal((2, n)))
        found = one(list(2 * slow), list(fast), ratio)
        assert found is not None
        assert found.interval is not None
        held += found.interval.holds(2.0)
    return held / trials


@pytest.fixture
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvkit.results.bootstrap.RESAMPLES", 1000)


@pytest.mark.usefixtures("_fewer_resamples")
def test_the_interval_of_medians_holds_the_truth_in_95_of_100() -> None:
    assert coverage(ratio_of_medians, 30) >= 0.95


@pytest.mark.usefixtures("_fewer_resamples")
def test_the_interval_of_means_holds_the_truth_in_92_of_100() -> None:
    assert coverage(ratio_of_means, 30) >= 0.92


def test_memory_does_not_grow_with_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def spying(baseline: Any, with_cache: Any) -> Any:
        held.append(baseline.size)
        return ratio_of_means(baseline, with_cache)

    monkeypatch.setattr("kvkit.results.bootstrap.RESAMPLES", 500)
    one([2.0] * 10_000, [1.0] * 10_000, spying)
    assert max(held) <= 1_000_000


def test_scipy_is_imported_by_neither_the_command_line_nor_a_run() -> None:
    look = "import sys; sys.exit(any(name.startswith('scipy') for name in sys.modules))"
    code = f"import kvkit.cli, kvkit.bench, kvkit.report.terminal; {look}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
