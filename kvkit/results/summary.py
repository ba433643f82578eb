"""From the records of one round to its summary, and from the summaries to the run's validity."""

from __future__ import annotations

from collections.abc import Sequence

from kvkit.config import Isolation
from kvkit.results.client_lag import client_problems
from kvkit.results.stats import (
    ClientLag,
    Counters,
    Goodput,
    RequestCounts,
    RoundName,
    RoundSummary,
    Throughput,
    Tokens,
    TokensBySource,
    Traffic,
)
from kvkit.results.tally import Tally


def round_name(number: int) -> RoundName:
    """Round 1 is the cold start; every later round repeats its prompts and is a cache hit."""
    return "cold_start" if number == 1 else "cache_hit"


def summarise_round(
    tally: Tally,
    *,
    number: int,
    isolation: Isolation | None,
    by_source: TokensBySource,
    counters: Counters,
    valid: bool | None,
    invalid_reasons: Sequence[str],
    max_failed_ratio: float,
    client: ClientLag | None = None,
    traffic: Traffic | None = None,
    ideal_hit_ratio: float | None = None,
    open_loop: bool = False,
) -> RoundSummary:
    """Summarise one round from what its records told. Definitions: `docs/metrics.md`.

    `valid` and `invalid_reasons` are what the servers' counters said. More failures than `max_failed_ratio` of the
    requests make the round invalid too: what is left is no longer the workload that was meant. So does a client that
    could not keep up. `ideal_hit_ratio` is what the workload states for this round; `open_loop` says that requests had
    times of their own to start at. Of a round of several parts, `client` is that of the last one: judged, and not kept.
    """
    reasons = list(invalid_reasons)
    if tally.failed > max_failed_ratio * tally.total:
        valid = False
        reasons.append(f"{tally.failed} of {tally.total} requests failed (limit {max_failed_ratio * 100:g} %)")
    ttft_ms = tally.ttft_ms.distribution()
    if client is not None and (problems := client_problems(client, ttft_ms.p50)):
        valid = False
        reasons += problems
    duration_s = tally.duration_s if tally.parts == 1 else None
    return RoundSummary(
        round=number,
        name=round_name(number),
        isolation=isolation,
        requests=RequestCounts(
            total=tally.total,
            succeeded=tally.succeeded,
            failed=tally.failed,
            failed_by_kind=dict(sorted(tally.failed_by_kind.items())),
        ),
        ttft_ms=ttft_ms,
        ttft_from_scheduled_ms=tally.from_scheduled_ms.distribution() if open_loop else None,
        tpot_ms=tally.tpot_ms.distribution(),
        itl_ms=tally.itl_ms.distribution(),
        e2e_ms=tally.e2e_ms.distribution(),
        throughput=Throughput(
            requests_per_s=tally.succeeded / duration_s if duration_s else None,
            output_tokens_per_s=tally.completion_tokens / duration_s if duration_s else None,
        ),
        goodput=Goodput(
            objectives=tally.objectives,
            requests=tally.good,
            requests_per_s=tally.good / duration_s if duration_s else None,
        )
        if tally.objectives
        else None,
        duration_s=duration_s,
        parts=tally.parts,
        tokens=Tokens(
            prompt=tally.prompt_tokens,
            completion=tally.completion_tokens,
            cached=tally.cached_tokens,
            expected_prompt=tally.expected_prompt_tokens,
            by_source=by_source,
            hit_ratio=_hit_ratio(by_source),
            ideal_hit_ratio=ideal_hit_ratio,
        ),
        counters=counters,
        client=client if tally.parts == 1 else None,
        traffic=traffic if tally.parts == 1 else None,
        valid=valid,
        invalid_reasons=tuple(reasons),
    )


def run_validity(rounds: Sequence[RoundSummary]) -> tuple[bool | None, tuple[str, ...]]:
    """Validity of a whole run and the reasons, each with its round.

    One invalid round makes the run invalid; else one unknown round makes it unknown.
    """
    reasons = tuple(f"round {r.round}: {reason}" for r in rounds for reason in r.invalid_reasons)
    verdicts = {r.valid for r in rounds}
    if False in verdicts:
        return False, reasons
    return (None if None in verdicts else True), reasons


def _hit_ratio(sources: TokensBySource) -> float | None:
    if sources.computed is None or sources.device is None or sources.external is None:
        return None
    hits = sources.device + sources.external
    return hits / (hits + sources.computed) if hits + sources.computed else None
