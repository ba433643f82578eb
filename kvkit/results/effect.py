"""What a single run shows: its hit rounds against its own cold round. Only a comparison of two modes shows a gain."""

from __future__ import annotations

from dataclasses import dataclass

from kvkit.results.stats import RoundSummary, RunStats
from kvkit.results.verdict import (
    Target,
    Verdict,
    change_percent,
    invalid_reasons,
    judge,
    reduction_percent,
    throughput_target,
    tpot_target,
    ttft_target,
)


@dataclass(frozen=True, slots=True)
class CacheEffect:
    """The guide's targets, held against each hit round of one run, over each round's successful requests."""

    targets: tuple[Target, ...]
    verdict: Verdict


def cache_effect(stats: RunStats) -> CacheEffect:
    """Judge a run by itself. An invalid run has no targets: what it shows is no effect of the cache."""
    if reasons := invalid_reasons(stats):
        return CacheEffect((), Verdict("invalid", reasons))
    cold = next((summary for summary in stats.rounds if summary.name == "cold_start"), None)
    hits = [summary for summary in stats.rounds if summary.name == "cache_hit"]
    measured = [target for hit in hits for target in _targets(cold, hit)] if cold else []
    return CacheEffect(*judge((stats,), measured))


def _targets(cold: RoundSummary, hit: RoundSummary) -> tuple[Target, ...]:
    return (
        ttft_target(hit.round, reduction_percent(hit.ttft_ms.mean, cold.ttft_ms.mean)),
        throughput_target(hit.round, change_percent(hit.throughput.requests_per_s, cold.throughput.requests_per_s)),
        tpot_target(hit.round, "the cold round", change_percent(hit.tpot_ms.mean, cold.tpot_ms.mean)),
    )
