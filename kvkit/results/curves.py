"""What a chart draws of a round: distributions, thinned to what an eye can tell apart, and rates of the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from kvkit.results.stats import RoundSummary, Traffic

T = TypeVar("T")


def thinned(items: Sequence[T], most: int) -> list[T]:
    """At most so many items, evenly spaced by position, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def ecdf(values: Iterable[float], most: int) -> list[tuple[float, float]]:
    """The empirical distribution: a value, and the share of all values that are at most as large.

    Thinned evenly by rank, so that the smallest and the largest value are always there.
    """
    ordered = sorted(values)
    return [(ordered[rank], (rank + 1) / len(ordered)) for rank in thinned(range(len(ordered)), most)]


@dataclass(frozen=True, slots=True)
class StoreRate:
    """What went through the store between two looks at it, in bytes per second."""

    from_s: float
    to_s: float
    read: float
    stored: float | None
    """By how much more it holds afterwards: below 0 where keys were evicted. `None`: not told."""


def store_rates(traffic: Traffic, most: int) -> list[StoreRate]:
    """Between looks, of which so many are taken that there are at most as many rates."""
    looks = thinned(range(len(traffic.times_s)), most + 1)
    return [
        StoreRate(
            from_s=traffic.times_s[start],
            to_s=traffic.times_s[end],
            read=_per_s(traffic.read_bytes, traffic.times_s, start, end),
            stored=None if traffic.stored_bytes is None else _per_s(traffic.stored_bytes, traffic.times_s, start, end),
        )
        for start, end in pairwise(looks)
        if traffic.times_s[end] > traffic.times_s[start]
    ]


@dataclass(frozen=True, slots=True)
class LimitLines:
    """Of a with-cache hit round: how TTFT would grow with the prompt if nothing but loading and computing took time."""

    bound_ms_per_token: float
    """The physical limit over prompt tokens, with the round's own share of tokens from the store."""
    compute_ms_per_token: float
    """All computed, at the cold round's rate."""
    break_even_tokens: float | None


def limit_lines(summary: RoundSummary) -> LimitLines | None:
    """`None`: the limit is not known."""
    limit, prompt = summary.limit, summary.tokens.prompt
    if limit is None or not prompt or limit.ttft_bound_ms.value is None or limit.compute_ms_per_token.value is None:
        return None
    return LimitLines(
        bound_ms_per_token=limit.ttft_bound_ms.value * summary.requests.succeeded / prompt,
        compute_ms_per_token=limit.compute_ms_per_token.value,
        break_even_tokens=limit.break_even_tokens.value,
    )


def _per_s(total: Sequence[int], times_s: Sequence[float], start: int, end: int) -> float:
    return (total[end] - total[start]) / (times_s[end] - times_s[start])
