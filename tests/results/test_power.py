"""How many requests show a change: the arithmetic, what is drawn and judged with that number, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from math import exp, log
from pathlib import Path

import numpy as np
import pytest

from kvkit.results.bootstrap import estimate, ratio_of_medians
from kvkit.results.errors import ResultsError
from kvkit.results.noise import NoiseFloor
from kvkit.results.power import SEEN_SHARE, Noise, powers
from kvkit.results.speedup import Interval, Speedup
from kvkit.results.verdict import judge
from tests.results.making import STARTED, eight, provenance, run_stats, summary, write_pair_of_runs, write_run

ONE_PERCENT = Noise(scatter=0.1, drift=0.0)
"""With 100 requests the standard error of a log ratio is 0.01."""


def noise(ratio: float, low: float, high: float, pairs: int = 1000) -> Noise:
    return Noise.of(Speedup(ratio, Interval(low, high), pairs), Interval(low, high))


def test_the_scatter_is_half_the_interval_over_two_deviates() -> None:
    # Of 1,000 pairs t and its expansion are still 1.9633.
    found = noise(1.0, exp(-0.0196), exp(0.0196))
    assert found.scatter == pytest.approx(0.0196 / 1.9633 * 1000**0.5, rel=1e-4)
    assert found.drift == 0


def test_a_change_has_to_leave_the_interval_and_the_noise_floor_behind() -> None:
    # q = 2.3155: Φ(2.3155) Φ(2.3155 / √3) = 0.98971 · 0.90936 = 0.9000. With 10,000 requests s is 0.001.
    shown = log(1 + ONE_PERCENT.smallest_change(10_000))
    assert shown == pytest.approx((1.9603 + 2.3155) * 0.001, abs=1e-6)


def test_four_times_the_requests_show_half_the_change() -> None:
    shown = [log(1 + ONE_PERCENT.smallest_change(requests)) for requests in (2_000, 8_000)]
    assert shown[0] / shown[1] == pytest.approx(2, rel=1e-3)


def test_the_number_told_is_the_fewest() -> None:
    requests = ONE_PERCENT.requests(0.05)
    assert requests is not None
    assert ONE_PERCENT.smallest_change(requests) <= 0.05 < ONE_PERCENT.smallest_change(requests - 1)


def test_a_drift_between_the_cold_rounds_hides_smaller_changes_whatever_the_number() -> None:
    drifting = noise(1.1, 1.08, 1.12)
    assert drifting.requests(0.09) is None
    assert drifting.requests(0.11) is not None


def test_with_that_number_the_change_is_seen_as_often_as_told() -> None:
    change, measurements = 0.2, 150
    scatter = noise_of_drawn(np.random.default_rng(0))
    requests = scatter.requests(change)
    assert requests is not None
    seen = sum(is_seen(requests, change, np.random.default_rng(seed)) for seed in range(1, measurements + 1))
    # Of 150, three standard errors of a share of 0.9 are 0.073.
    assert seen / measurements == pytest.approx(SEEN_SHARE, abs=0.075)


def drawn(source: np.random.Generator, prompts: np.ndarray, times: float = 1) -> list[float]:
    """TTFTs of the same prompts, each with a noise of its own."""
    return list(prompts / times * (1 + source.exponential(0.2, len(prompts))))


def noise_of_drawn(source: np.random.Generator) -> Noise:
    prompts = source.lognormal(0, 0.5, 5_000)
    (aa,) = estimate(drawn(source, prompts), drawn(source, prompts), [ratio_of_medians])
    assert aa is not None
    assert aa.interval is not None
    assert aa.interval.holds(1)
    return Noise.of(aa, aa.interval)


def is_seen(requests: int, change: float, source: np.random.Generator) -> bool:
    prompts = source.lognormal(0, 0.5, requests)
    first, second, hits = drawn(source, prompts), drawn(source, prompts), drawn(source, prompts, 1 + change)
    (aa,), (found,) = (estimate(slow, fast, [ratio_of_medians]) for slow, fast in ((first, second), (second, hits)))
    return judge(found, NoiseFloor(aa)).effect != "no_difference"


def baselines(folder: Path) -> list[str]:
    return [str(folder / "baseline_*_stats_*.json")]


def test_the_newest_baseline_counts(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    records = eight(1, 1.0) + eight(2, 1.0)
    rounds = [summary(records[:8]), summary(records[8:], 2)]
    later = provenance(STARTED + timedelta(hours=1))
    newest = write_run(tmp_path, run_stats("baseline", rounds, provenance=later), records)
    (found,) = powers(baselines(tmp_path), 0.05)
    assert found.path == newest
    assert found.smallest_change is not None
    assert found.requests is not None


def test_without_two_cold_rounds_nothing_is_told_and_why(tmp_path: Path) -> None:
    records = eight(1, 1.0)
    write_run(tmp_path, run_stats("baseline", [summary(records)]), records)
    (found,) = powers(baselines(tmp_path), 0.05)
    assert (found.smallest_change, found.requests) == (None, None)
    assert found.floor.unknown is not None
    assert "two valid rounds" in found.floor.unknown


def test_a_run_with_the_cache_is_no_baseline(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    with pytest.raises(ResultsError, match=r"key mode: found with-cache, expected baseline"):
        powers([str(tmp_path / "with_cache_*_stats_*.json")], 0.05)
