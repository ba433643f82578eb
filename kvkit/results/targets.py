"""The guide's targets, and how measured figures are held against them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Outcome = Literal["met", "not_met", "unknown", "invalid"]

TTFT_REDUCTION = "TTFT reduction"
THROUGHPUT_GAIN = "throughput gain"

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


def ttft_target(number: int, reduction: float | None) -> Target:
    return _at_least(TTFT_REDUCTION, number, TTFT_REDUCTION_PERCENT, reduction)


def throughput_target(number: int, gain: float | None) -> Target:
    return _at_least(THROUGHPUT_GAIN, number, THROUGHPUT_GAIN_PERCENT, gain)


def tpot_target(number: int, over: str, rise: float | None) -> Target:
    holds = rise is not None and rise <= TPOT_RISE_PERCENT
    return Target(f"TPOT rise over {over}", number, f"at most {TPOT_RISE_PERCENT:.0f} %", rise, _outcome(rise, holds))


def change_percent(value: float | None, reference: float | None) -> float | None:
    """(value - reference) / reference in percent; `None` when one is unknown or the reference is 0."""
    if value is None or not reference:
        return None
    return (value - reference) / reference * 100


def reduction_percent(value: float | None, reference: float | None) -> float | None:
    """(reference - value) / reference in percent; `None` when one is unknown or the reference is 0."""
    if value is None or not reference:
        return None
    return (reference - value) / reference * 100


def judge_targets(measured: Iterable[Target], *, known: bool) -> tuple[Target, ...]:
    """Targets of runs that are not invalid.

    Where the servers of a run do not tell where its tokens came from, the measured values stand, but whether the cache
    met its targets is not known.
    """
    return tuple(target if known else replace(target, outcome="unknown") for target in measured)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a whole from those of its parts; of nothing it is `unknown`."""
    found = set(outcomes)
    ranked: tuple[Outcome, ...] = ("invalid", "not_met", "unknown", "met")
    return next((outcome for outcome in ranked if outcome in found), "unknown")


def _at_least(name: str, number: int, bound: float, value: float | None) -> Target:
    return Target(name, number, f"at least {bound:.0f} %", value, _outcome(value, value is not None and value >= bound))


def _outcome(value: float | None, holds: bool) -> Outcome:
    if value is None:
        return "unknown"
    return "met" if holds else "not_met"
