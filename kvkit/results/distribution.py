"""Mean, spread and percentiles of a set of values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor
from statistics import fmean, pstdev

from pydantic import BaseModel, ConfigDict


class Distribution(BaseModel):
    """Six figures of one metric, in the metric's unit. All are `None` when there was no value to describe."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    mean: float | None
    std: float | None
    """Population standard deviation (divisor n), as `numpy.std` and `vllm bench serve` print it."""
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution:
        ordered = sorted(values)
        if not ordered:
            return cls(mean=None, std=None, p50=None, p90=None, p95=None, p99=None)
        return cls(
            mean=fmean(ordered),
            std=pstdev(ordered),
            p50=percentile(ordered, 50),
            p90=percentile(ordered, 90),
            p95=percentile(ordered, 95),
            p99=percentile(ordered, 99),
        )

    @classmethod
    def in_ms(cls, seconds: Iterable[float | None]) -> Distribution:
        """Describe durations in milliseconds; those that did not happen are left out."""
        return cls.of(value * 1000 for value in seconds if value is not None)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the sorted values lie, interpolated linearly between neighbours.

    Position (n - 1) · percent / 100 from zero: type 7 of Hyndman & Fan, "Sample Quantiles in Statistical
    Packages" (1996), which is `numpy.percentile`'s default.

    Raises:
        IndexError: `ordered` is empty.
    """
    position = (len(ordered) - 1) * percent / 100
    below = floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
