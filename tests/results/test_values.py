"""Exact figures of more values than are kept in memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kvkit.results import values
from kvkit.results.distribution import Distribution, percentile
from kvkit.results.values import Values


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "IN_MEMORY", 16)


def of(numbers: list[float], folder: Path) -> Values:
    made = Values(folder)
    made.extend(numbers)
    return made


@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000])
def test_percentiles_are_those_of_all_values_to_the_last_bit(count: int, tmp_path: Path) -> None:
    numbers = [random.Random(count + each).lognormvariate(0, 3) for each in range(count)]
    made = of(numbers, tmp_path)
    assert [made.percentile(percent) for percent in range(101)] == [
        percentile(sorted(numbers), percent) for percent in range(101)
    ]


def test_values_below_zero_and_equal_ones_have_their_places(tmp_path: Path) -> None:
    numbers = [-1.5, 0.0, 2.0, -0.25] * 10 + [2.0] * 20
    assert of(numbers, tmp_path).percentile(10) == -1.5
    assert of(numbers, tmp_path).percentile(60) == 2.0


def test_mean_and_spread_are_the_same_as_in_memory(tmp_path: Path) -> None:
    numbers = [1e-3 * each for each in range(1000)]
    assert of(numbers, tmp_path).distribution().model_dump() == pytest.approx(Distribution.of(numbers).model_dump())


def test_no_value_has_no_percentile() -> None:
    assert Values().distribution().p50 is None
    with pytest.raises(IndexError):
        Values().percentile(50)


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    made = of([1.0] * 100, tmp_path)
    assert (len(made), list(tmp_path.iterdir())) == (100, [])
