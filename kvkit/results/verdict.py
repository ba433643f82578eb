"""The guide's targets, and how a comparison is judged against them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["met", "not_met", "unknown", "invalid"]

TTFT_REDUCTION_PERCENT = 60.0
"""The guide expects 60 to 70 % less on a cache hit; reaching the lower end meets the target."""

THROUGHPUT_GAIN_PERCENT = 150.0
"""The guide expects 150 to 200 % more on a cache hit; reaching the lower end meets the target."""

TPOT_RISE_PERCENT = 10.0
"""The guide says "close" and gives no number. Decoding does not depend on where the prefix came from, so only scatter
between runs should remain, a few percent on a quiet host: 10 % lets that pass and catches decode steps that wait for
KV transfers. Only a rise counts: TPOT falls when hits replace prefills that used to interrupt other requests' decoding.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One of the guide's targets, held against what was measured in one round."""

    name: str
    round: int
    wanted: str
    value_percent: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """`met`: every target of every hit round. `invalid` and `unknown` come with their reasons."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()


def at_least(name: str, number: int, bound: float, value: float | None) -> Target:
    return Target(name, number, f"at least {bound:.0f} %", value, _outcome(value, value is not None and value >= bound))


def at_most(name: str, number: int, bound: float, value: float | None) -> Target:
    return Target(name, number, f"at most {bound:+.0f} %", value, _outcome(value, value is not None and value <= bound))


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a whole from those of its parts; of nothing it is `unknown`."""
    found = set(outcomes)
    ranked: tuple[Outcome, ...] = ("invalid", "not_met", "unknown", "met")
    return next((outcome for outcome in ranked if outcome in found), "unknown")


def _outcome(value: float | None, holds: bool) -> Outcome:
    if value is None:
        return "unknown"
    return "met" if holds else "not_met"
