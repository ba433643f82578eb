"""When requests of an open loop want to start."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

import pytest

from kvkit.config import Load
from kvkit.load.arrivals import ArrivalError, rate_of, start_offsets
from kvkit.workload.request import Message, Request


def requests(count: int) -> list[Request]:
    return [Request(f"r{i}", f"r{i}", (Message("user", "x"),), prompt_tokens=1, max_tokens=1) for i in range(count)]


def offsets(count: int = 5, seed: int = 0, **load: Any) -> tuple[float, ...]:
    made = start_offsets(Load.model_validate(load), requests(count), seed)
    assert made is not None
    return made


def gaps(starts: tuple[float, ...]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(starts)]


def spread(starts: tuple[float, ...]) -> float:
    """Standard deviation of the gaps over their mean."""
    return pstdev(gaps(starts)) / fmean(gaps(starts))


def test_a_closed_loop_has_no_times() -> None:
    assert start_offsets(Load(), requests(3), 0) is None


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert offsets(arrival="constant", rate=4) == pytest.approx((0, 0.25, 0.5, 0.75, 1.0))


def test_a_rate_alone_is_a_poisson_process_whose_gaps_scatter_as_much_as_they_last() -> None:
    # The exponential distribution: standard deviation equals mean, within 2 % at 20,000 gaps.
    assert spread(offsets(20_001, rate=10)) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("burstiness", [0.25, 4.0])
def test_burstiness_is_the_shape_of_the_gaps(burstiness: float) -> None:
    # The gamma distribution's standard deviation is its mean over the root of its shape: 2 and 0.5.
    starts = offsets(20_001, rate=10, burstiness=burstiness)
    assert spread(starts) == pytest.approx(burstiness**-0.5, rel=0.05)


@pytest.mark.parametrize("load", [{"arrival": "constant"}, {"arrival": "poisson"}, {"burstiness": 0.5}])
def test_few_requests_offer_exactly_the_stated_rate(load: dict[str, Any]) -> None:
    assert rate_of(offsets(6, rate=2.5, **load)) == pytest.approx(2.5)


def test_a_ramp_goes_linearly_from_one_rate_to_the_other() -> None:
    # Three gaps, at 1, 2.5 and 4 requests per second.
    assert gaps(offsets(4, arrival="ramp", ramp_from=1, ramp_to=4)) == pytest.approx([1.0, 0.4, 0.25])


def test_a_trace_arrives_as_it_was_recorded() -> None:
    recorded = [replace(request, arrival_s=at) for request, at in zip(requests(3), (0.0, 0.0, 7.5), strict=True)]
    assert start_offsets(Load(arrival="trace"), recorded, 0) == (0.0, 0.0, 7.5)


def test_a_workload_without_times_can_not_arrive_as_a_trace() -> None:
    with pytest.raises(ArrivalError, match=r"load\.arrival: found 'trace', but this scenario's requests"):
        start_offsets(Load(arrival="trace"), requests(2), 0)


def test_the_seed_decides() -> None:
    assert offsets(rate=1, seed=3) == offsets(rate=1, seed=3)
    assert offsets(rate=1, seed=3) != offsets(rate=1, seed=4)


@pytest.mark.parametrize("load", [{"arrival": "constant"}, {"arrival": "poisson"}])
def test_a_single_request_arrives_at_once(load: dict[str, Any]) -> None:
    starts = offsets(1, rate=2, **load)
    assert starts == (0.0,)
    assert rate_of(starts) is None


def test_at_most_bursts_are_still_told_from_each_other() -> None:
    assert all(rate_of(offsets(2, rate=1, burstiness=0.05, seed=seed)) is not None for seed in range(300))
