"""Did the cache make a difference? Decided by the interval of the speed-up and by the noise floor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kvkit.results.noise import NoiseFloor
from kvkit.results.speedup import MIN_PAIRS, Speedup
from kvkit.results.stats import RunStats

Effect = Literal["better", "worse", "no_difference", "unknown", "invalid"]

_WORST_FIRST: tuple[Effect, ...] = ("invalid", "worse", "unknown", "no_difference", "better")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`invalid` and `unknown` come with their reasons."""

    effect: Effect
    reasons: tuple[str, ...] = ()


def judge(speedup: Speedup | None, floor: NoiseFloor) -> Verdict:
    """What a hit round shows.

    Better or worse: the whole interval lies on one side of 1, and the ratio outside the noise floor. Where the floor is
    unknown, the interval decides alone.
    """
    if speedup is None:
        return Verdict("unknown", ("no request has a time to first token in both modes",))
    if speedup.interval is None:
        return Verdict("unknown", (f"too few pairs for an interval: {speedup.pairs}, at least {MIN_PAIRS} are needed",))
    if speedup.interval.holds(1) or floor.covers(speedup.ratio):
        return Verdict("no_difference")
    return Verdict("better" if speedup.ratio > 1 else "worse")


def worst(effects: Iterable[Effect]) -> Effect:
    """The effect of a whole from those of its parts; of nothing it is `unknown`."""
    found = set(effects)
    return next((effect for effect in _WORST_FIRST if effect in found), "unknown")


def invalid_reasons(stats: RunStats) -> tuple[str, ...]:
    """Why a run is invalid, each with the run's mode; empty when it is not."""
    return _reasons(stats) if stats.valid is False else ()


def unknown_reasons(stats: RunStats) -> tuple[str, ...]:
    """Why it is unknown what a run shows, each with the run's mode; empty when it is known."""
    return _reasons(stats) if stats.valid is None else ()


def _reasons(stats: RunStats) -> tuple[str, ...]:
    return tuple(f"{stats.mode}, {reason}" for reason in stats.invalid_reasons or ("no reason was given",))
