"""Figures that can be checked by hand."""

from __future__ import annotations

import pytest

from kvkit.results.distribution import Distribution, percentile


def test_the_figures_of_five_values() -> None:
    # Sorted 10 20 30 40 100: mean 200/5 = 40.
    # Deviations -30 -20 -10 0 60: squares 900 400 100 0 3600, sum 5000, /5 = 1000, root 31.6228.
    # Positions (5 - 1)·q: p50 at 2.0 = 30; p90 at 3.6 = 40 + .6·60 = 76; p95 at 3.8 = 88; p99 at 3.96 = 97.6.
    figures = Distribution.of([100, 20, 30, 10, 40])
    assert figures.model_dump() == pytest.approx(
        {"mean": 40, "std": 31.6227766, "p50": 30, "p90": 76, "p95": 88, "p99": 97.6}
    )


def test_one_value_is_every_figure_and_has_no_spread() -> None:
    assert Distribution.of([7.0]) == Distribution(mean=7, std=0, p50=7, p90=7, p95=7, p99=7)


def test_no_value_is_unknown_and_not_zero() -> None:
    assert set(Distribution.of([]).model_dump().values()) == {None}


def test_seconds_become_milliseconds_and_what_did_not_happen_is_left_out() -> None:
    # 0.1 s and 0.3 s: mean 200 ms.
    assert Distribution.in_ms([0.1, None, 0.3]).mean == pytest.approx(200)


@pytest.mark.parametrize(
    ("percent", "expected"),
    # numpy.percentile([1, 2, 4], q): positions 0, 0.5, 1, 1.5, 2.
    [(0, 1.0), (25, 1.5), (50, 2.0), (75, 3.0), (100, 4.0)],
)
def test_percentiles_lie_on_the_line_between_neighbours(percent: float, expected: float) -> None:
    assert percentile([1, 2, 4], percent) == expected
