"""What a single run shows: its hit rounds against its own cold round. Only a comparison of two modes shows a gain."""

from __future__ import annotations

from dataclasses import dataclass

from kvkit.results.stats import RoundSummary, RunStats
from kvkit.results.targets import (
    Outcome,
    Target,
    change_percent,
    judge_targets,
    reduction_percent,
    throughput_target,
    tpot_target,
    ttft_target,
    worst,
)
from kvkit.results.verdict import invalid_reasons, unknown_reasons


@dataclass(frozen=True, slots=True)
class CacheEffect:
    """The guide's targets, held against each hit round of one run, over each round's successful requests."""

    targets: tuple[Target, ...]
    outcome: Outcome
    """`met`: every target of every hit round."""
    reasons: tuple[str, ...]
    """Why it is invalid or unknown."""


def cache_effect(stats: RunStats) -> CacheEffect:
    """Judge a run by itself. An invalid run has no targets: what it shows is no effect of the cache."""
    if invalid := invalid_reasons(stats):
        return CacheEffect((), "invalid", invalid)
    cold = next((summary for summary in stats.rounds if summary.name == "cold_start"), None)
    hits = [summary for summary in stats.rounds if summary.name == "cache_hit"]
    measured = [target for hit in hits for target in _targets(cold, hit)] if cold else []
    unknown = unknown_reasons(stats) + (() if measured else ("there is no cache-hit round to judge",))
    targets = judge_targets(measured, known=not unknown)
    return CacheEffect(targets, worst(target.outcome for target in targets), unknown or _not_measured(targets))


def _not_measured(targets: tuple[Target, ...]) -> tuple[str, ...]:
    return tuple(f"round {target.round}: {target.name} is unknown" for target in targets if target.outcome == "unknown")


def _targets(cold: RoundSummary, hit: RoundSummary) -> tuple[Target, ...]:
    ttft = ttft_target(hit.round, reduction_percent(hit.ttft_ms.mean, cold.ttft_ms.mean))
    tpot = tpot_target(hit.round, "the cold round", change_percent(hit.tpot_ms.mean, cold.tpot_ms.mean))
    if hit.open_loop:  # both rounds complete what arrives
        return ttft, tpot
    gain = change_percent(hit.throughput.requests_per_s, cold.throughput.requests_per_s)
    return ttft, throughput_target(hit.round, gain), tpot
