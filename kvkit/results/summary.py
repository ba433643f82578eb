"""From the records of one round to its summary, and from the summaries to the run's validity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvkit.config import Isolation
from kvkit.results.distribution import Distribution
from kvkit.results.record import Record
from kvkit.results.stats import (
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
) -> RoundSummary:
    """Summarise one round. Definitions: `docs/metrics.md`.

    `valid` and `invalid_reasons` are what the servers' counters said. More failures than `max_failed_ratio` of the
    requests make the round invalid too: what is left is no longer the workload that was meant.
    """
    succeeded = [record for record in records if record.ok]
    counts = _count(records)
    reasons = list(invalid_reasons)
    if counts.failed > max_failed_ratio * counts.total:
        valid = False
        reasons.append(f"{counts.failed} of {counts.total} requests failed (limit {max_failed_ratio * 100:g} %)")
    duration_s = _duration_s(succeeded)
    tokens = _sum_tokens(succeeded, by_source)
    return RoundSummary(
        round=number,
        name=round_name(number),
        isolation=isolation,
        requests=counts,
        ttft_ms=Distribution.in_ms(record.ttft_s for record in succeeded),
        tpot_ms=Distribution.in_ms(record.tpot_s for record in succeeded),
        itl_ms=Distribution.in_ms(gap for record in succeeded for gap in record.itl_s),
        e2e_ms=Distribution.in_ms(record.e2e_s for record in succeeded),
        throughput=Throughput(
            requests_per_s=len(succeeded) / duration_s if duration_s else None,
            output_tokens_per_s=tokens.completion / duration_s if duration_s else None,
        ),
        duration_s=duration_s,
        tokens=tokens,
        counters=counters,
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


def _sum_tokens(succeeded: Sequence[Record], by_source: TokensBySource) -> Tokens:
    told_cached = [record.cached_tokens for record in succeeded if record.cached_tokens is not None]
    return Tokens(
        prompt=sum(record.prompt_tokens or 0 for record in succeeded),
        completion=sum(record.completion_tokens or 0 for record in succeeded),
        cached=sum(told_cached) if told_cached else None,
        expected_prompt=sum(record.expected_prompt_tokens for record in succeeded),
        by_source=by_source,
    )
