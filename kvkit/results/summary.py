"""From the records of one round to its summary, and from the summaries to the run's validity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kvkit.config import Isolation
from kvkit.results.client_lag import client_problems
from kvkit.results.distribution import Distribution
from kvkit.results.record import Record
from kvkit.results.stats import (
    ClientLag,
    Counters,
    RequestCounts,
    RoundName,
    RoundSummary,
    Throughput,
    Tokens,
    TokensBySource,
)


def round_name(number: int) -> RoundName:
    """Round 1 is the cold start; every later round repeats its prompts and is a cache hit."""
    return "cold_start" if number == 1 else "cache_hit"


def summarise_round(
    records: Sequence[Record],
    *,
    number: int,
    isolation: Isolation | None,
    by_source: TokensBySource,
    counters: Counters,
    valid: bool | None,
    invalid_reasons: Sequence[str],
    max_failed_ratio: float,
    client: ClientLag | None = None,
    ideal_hit_ratio: float | None = None,
    open_loop: bool = False,
) -> RoundSummary:
    """Summarise one round. Definitions: `docs/metrics.md`.

    `valid` and `invalid_reasons` are what the servers' counters said. More failures than `max_failed_ratio` of the
    requests make the round invalid too: what is left is no longer the workload that was meant. So does a client that
    could not keep up. `ideal_hit_ratio` is what the workload states for this round; `open_loop` says that requests had
    times of their own to start at. Of a round of several parts, `client` is that of the last one: judged, and not kept.
    """
    succeeded = [record for record in records if record.ok]
    counts = _count(records)
    reasons = list(invalid_reasons)
    if counts.failed > max_failed_ratio * counts.total:
        valid = False
        reasons.append(f"{counts.failed} of {counts.total} requests failed (limit {max_failed_ratio * 100:g} %)")
    ttft_ms = Distribution.in_ms(record.ttft_s for record in succeeded)
    if client is not None and (problems := client_problems(client, ttft_ms.p50)):
        valid = False
        reasons += problems
    parts = max((record.part for record in records), default=1)
    duration_s = _duration_s(succeeded) if parts == 1 else None
    tokens = _sum_tokens(succeeded, by_source, ideal_hit_ratio)
    return RoundSummary(
        round=number,
        name=round_name(number),
        isolation=isolation,
        requests=counts,
        ttft_ms=ttft_ms,
        ttft_from_scheduled_ms=_from_scheduled(succeeded) if open_loop else None,
        tpot_ms=Distribution.in_ms(record.tpot_s for record in succeeded),
        itl_ms=Distribution.in_ms(gap for record in succeeded for gap in record.itl_s),
        e2e_ms=Distribution.in_ms(record.e2e_s for record in succeeded),
        throughput=Throughput(
            requests_per_s=len(succeeded) / duration_s if duration_s else None,
            output_tokens_per_s=tokens.completion / duration_s if duration_s else None,
        ),
        duration_s=duration_s,
        parts=parts,
        tokens=tokens,
        counters=counters,
        client=client if parts == 1 else None,
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


def _count(records: Sequence[Record]) -> RequestCounts:
    by_kind = Counter(record.failure for record in records if record.failure is not None)
    failed = sum(by_kind.values())
    return RequestCounts(
        total=len(records),
        succeeded=len(records) - failed,
        failed=failed,
        failed_by_kind=dict(sorted(by_kind.items())),
    )


def _duration_s(succeeded: Sequence[Record]) -> float | None:
    ends = [record.start_s + record.e2e_s for record in succeeded if record.e2e_s is not None]
    if not ends:
        return None
    return max(ends) - min(record.start_s for record in succeeded)


def _from_scheduled(succeeded: Sequence[Record]) -> Distribution:
    return Distribution.in_ms(
        record.start_s + record.ttft_s - record.scheduled_s for record in succeeded if record.ttft_s is not None
    )


def sum_if_told(values: Iterable[int | None]) -> int | None:
    """The sum of those that were told; `None` when none was."""
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _sum_tokens(succeeded: Sequence[Record], by_source: TokensBySource, ideal_hit_ratio: float | None) -> Tokens:
    return Tokens(
        prompt=sum(record.prompt_tokens or 0 for record in succeeded),
        completion=sum(record.completion_tokens or 0 for record in succeeded),
        cached=sum_if_told(record.cached_tokens for record in succeeded),
        expected_prompt=sum_if_told(record.expected_prompt_tokens for record in succeeded),
        by_source=by_source,
        hit_ratio=_hit_ratio(by_source),
        ideal_hit_ratio=ideal_hit_ratio,
    )


def _hit_ratio(sources: TokensBySource) -> float | None:
    if sources.computed is None or sources.device is None or sources.external is None:
        return None
    hits = sources.device + sources.external
    return hits / (hits + sources.computed) if hits + sources.computed else None
