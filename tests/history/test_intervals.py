"""Intervals and splits, against figures that were worked out by hand."""

from __future__ import annotations

import random
from math import exp, sqrt

import pytest

from kvkit.history.intervals import best_split, half_width, ratio_between_runs, ratio_of_independent_medians, spread
from kvkit.history.median import median_interval
from kvkit.results.speedup import Interval

# Logarithms -0.01, 0 and 0.01: mean 0, squares 0.0002 over 2 degrees of freedom, so a deviation of 0.01.
BEFORE = [exp(-0.01), 1.0, exp(0.01)]


def test_one_run_against_three_is_a_prediction_interval() -> None:
    ratio, interval = ratio_between_runs([1.1], BEFORE)
    margin = 4.302653 * 0.01 * sqrt(1 / 1 + 1 / 3)  # t(0.975, 2)
    assert ratio == pytest.approx(1.1)
    assert (interval.low, interval.high) == pytest.approx((1.1 / exp(margin), 1.1 * exp(margin)))


def test_the_spread_of_both_sides_is_pooled() -> None:
    # The second side has the same squares around a mean of its own: 0.0004 over 4 degrees of freedom.
    assert spread([2 * value for value in BEFORE], BEFORE) == pytest.approx(0.01)


def test_the_interval_shrinks_with_runs_of_both_sides() -> None:
    assert half_width(0.01, 5, 5) == pytest.approx(2.306004 * 0.01 * sqrt(2 / 5))  # t(0.975, 8)


def test_runs_that_are_all_alike_leave_no_width() -> None:
    assert ratio_between_runs([2.0, 2.0], [1.0, 1.0, 1.0]) == (2.0, Interval(2.0, 2.0))


def test_medians_of_two_samples_of_any_size_are_compared() -> None:
    now, before = [1.1 * (1 + place / 1000) for place in range(21)], [1 + place / 1000 for place in range(41)]
    ratio, interval = ratio_of_independent_medians(now, before)
    assert ratio == pytest.approx(1.1 * 1.010 / 1.020)
    assert interval is not None
    assert 1.05 < interval.low < ratio < interval.high < 1.12


def test_too_few_requests_have_no_interval() -> None:
    assert ratio_of_independent_medians([1.5] * 7, [1.0] * 40) == (1.5, None)


def test_the_interval_of_a_median_is_between_two_of_the_values() -> None:
    # P(B < 2) of ten throws is 11 / 1024 = 1.1 %, P(B < 3) is 5.5 %: from the second to the second last.
    assert median_interval(range(10, 0, -1)) == Interval(2, 9)


def test_the_median_of_seven_has_no_interval() -> None:
    assert median_interval(range(7)) is None


def test_a_clean_shift_is_found_where_it_is() -> None:
    split = best_split([1.00, 1.01, 0.99, 1.02, 0.98, 1.12, 1.10, 1.11, 1.09, 1.13])
    assert split.at == 5
    # 2 of the 252 ways to take five of ten figures split as well.
    assert split.chance == pytest.approx(2 / 252, abs=0.003)


def test_figures_in_no_order_split_as_well_as_chance_does() -> None:
    figures = [1.00, 1.12, 0.99, 1.10, 0.98, 1.02, 1.11, 1.01, 1.09, 1.13]
    assert best_split(figures).chance > 0.2


def test_without_a_change_few_series_are_split() -> None:
    draw = random.Random(1)
    called = sum(best_split([exp(draw.gauss(0, 0.02)) for _ in range(20)]).chance <= 0.05 for _ in range(40))
    assert called <= 6  # 2 are expected; 7 and more come up once in 300


def test_figures_that_are_all_alike_are_not_split() -> None:
    assert best_split([1.0] * 10).chance == 1.0
