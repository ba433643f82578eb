"""What a chart draws of a round."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kvkit.results.curves import StoreRate, ecdf, limit_lines, store_rates, thinned
from kvkit.results.stats import Figure, PhysicalLimit, Traffic
from tests.results.making import success, summary


def test_few_items_are_all_there() -> None:
    assert thinned("abc", 3) == ["a", "b", "c"]


@pytest.mark.parametrize("many", [11, 100, 10_000])
def test_many_items_are_thinned_evenly_with_the_first_and_the_last(many: int) -> None:
    kept = thinned(range(many), 10)
    assert (len(kept), kept[0], kept[-1]) == (10, 0, many - 1)
    gaps = {later - earlier for earlier, later in pairwise(kept)}
    assert max(gaps) - min(gaps) <= 1


def test_the_distribution_is_the_share_of_values_that_are_at_most_as_large() -> None:
    assert ecdf([30, 10, 20, 20], 10) == [(10, 0.25), (20, 0.5), (20, 0.75), (30, 1.0)]


def test_a_thinned_distribution_has_the_smallest_and_the_largest_value() -> None:
    curve = ecdf(range(1000), 5)
    assert (len(curve), curve[0], curve[-1]) == (5, (0, 0.001), (999, 1.0))


TRAFFIC = Traffic(times_s=(0.0, 1.0, 3.0), read_bytes=(0, 100, 100), stored_bytes=(0, 50, 30))


def test_rates_are_bytes_over_the_time_between_looks() -> None:
    assert store_rates(TRAFFIC, 10) == [StoreRate(0.0, 1.0, 100.0, 50.0), StoreRate(1.0, 3.0, 0.0, -10.0)]


def test_a_thinned_rate_is_that_of_all_the_time_that_it_stands_for() -> None:
    assert store_rates(TRAFFIC, 1) == [StoreRate(0.0, 3.0, 100 / 3, 10.0)]


def test_what_was_not_told_has_no_rate() -> None:
    silent = TRAFFIC.model_copy(update={"stored_bytes": None})
    assert [rate.stored for rate in store_rates(silent, 10)] == [None, None]


def limit(bound_ms: float | None) -> PhysicalLimit:
    told = Figure(value=0.5, source="")
    return PhysicalLimit(
        kv_bytes_per_token=told,
        store_bandwidth_gb_s=told,
        compute_ms_per_token=told,
        store_tokens_per_request=None,
        load_ms=None,
        compute_ms=None,
        ttft_bound_ms=Figure(value=bound_ms, source=""),
        share_reached=None,
        break_even_tokens=Figure(value=None, source=""),
        remarks=(),
    )


def test_the_limit_goes_through_its_bound_at_the_mean_length_of_the_prompts() -> None:
    # Two prompts of 1,001 tokens.
    lines = limit_lines(summary([success("a"), success("b")], 2, limit=limit(100.1)))
    assert lines is not None
    assert lines.bound_ms_per_token == pytest.approx(0.1)
    assert lines.compute_ms_per_token == 0.5
    assert lines.break_even_tokens is None


@pytest.mark.parametrize("unknown", [None, limit(None)])
def test_there_are_no_lines_without_a_limit(unknown: PhysicalLimit | None) -> None:
    assert limit_lines(summary([success("a")], 2, limit=unknown)) is None
