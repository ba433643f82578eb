"""From result objects of `vllm bench serve` to runs that can be compared.

Such an object tells neither where tokens came from nor what was sent. Its prompts depend on seed and dataset alone, so
that two files sent the same ones is assumed, and held against the prompts' lengths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from kvkit.results.distribution import Distribution
from kvkit.results.errors import ResultsError
from kvkit.results.foreign import NO_SOURCES, NOT_TOLD, ImportedRun, Origin, foreign_stats
from kvkit.results.record import Record
from kvkit.results.stats import Counters, Mode, RequestCounts, RoundSummary, Throughput, Tokens, TokensBySource
from kvkit.results.summary import summarise_round
from kvkit.results.tally import Tally
from kvkit.results.vllm_bench import Document

_ASSUMED = "that both modes sent the same prompts is assumed: requests are paired by their position in the file"

_WITHOUT_DETAILS = (
    "the file has no input_lens, output_lens and ttfts: requests cannot be paired, and the figures are of all requests "
    "of each mode; save it with vllm bench serve --save-result --save-detailed"
)


class _Row(NamedTuple):
    """What the arrays of an object have at one place."""

    input_len: int | None
    output_len: int | None
    ttft_s: float | None
    gaps_s: list[float]
    latency_s: float | None
    start_s: float
    waited_s: float
    """For its turn, before its start."""
    error: str
    """Empty where it succeeded."""
    name: str
    cached_tokens: int | None


def runs_of(path: Path, documents: Iterable[Document], mode: Mode) -> tuple[ImportedRun, ...]:
    """Objects that `kvkit export` wrote belong to their run; others are rounds 1, 2, ... of one run in this mode.

    Raises:
        ResultsError: the arrays of an object differ in length, or it has no date.
    """
    runs: dict[Origin, list[Document]] = defaultdict(list)
    for document in documents:
        told = document.kvkit
        origin = (
            Origin(told.run_id, told.mode, told.scenario, told.fingerprint)
            if told
            else Origin(NOT_TOLD, mode, "vllm bench serve", NOT_TOLD)
        )
        runs[origin].append(document)
    return tuple(_run(path, origin, of_run) for origin, of_run in runs.items())


def _run(path: Path, origin: Origin, documents: Sequence[Document]) -> ImportedRun:
    summaries: list[RoundSummary] = []
    records: list[Record] = []
    for place, document in enumerate(documents, start=1):
        number = document.kvkit.round if document.kvkit else place
        of_round = _records(path, number, document)
        summaries.append(_summary(number, document, of_round))
        records += of_round
    first = documents[0]
    stats = foreign_stats(
        path,
        origin,
        summaries,
        started=_started(path, first.date),
        model=first.model_id,
        config={
            "model": {"name": first.model_id},
            "test": {"concurrency": first.max_concurrency},
            **first.model_dump(include={"backend", "request_rate", "burstiness"}),
        },
    )
    return ImportedRun(stats, tuple(records))


def _records(path: Path, number: int, document: Document) -> list[Record]:
    """A record for each place in the arrays; none where an array that pairing needs is missing."""
    lengths, answers, ttfts = document.input_lens, document.output_lens, document.ttfts
    if lengths is None or answers is None or ttfts is None:
        return []
    total = len(lengths)
    told = document.kvkit
    names = told.request_ids if told else [f"{place:06d}" for place in range(1, total + 1)]
    arrays: dict[str, Sequence[Any]] = {  # in the order of a row's fields
        "output_lens": answers,
        "ttfts": ttfts,
        "itls": document.itls or [[]] * total,
        "latencies": document.latencies or _latencies(ttfts, document.itls),
        "start_times": document.start_times or [0.0] * total,
        "queue_times": document.queue_times or [0.0] * total,
        "errors": document.errors or [""] * total,
        "kvkit.request_ids": names,
        "kvkit.cached_tokens": told.cached_tokens if told else [None] * total,
    }
    for key, values in arrays.items():
        if len(values) != total:
            raise ResultsError(f"{path}: key {key}: found {len(values)} entries, input_lens has {total}")
    return [_record(number, _Row(*row)) for row in zip(lengths, *arrays.values(), strict=True)]


def _latencies(ttfts: Sequence[float | None], itls: Sequence[list[float]] | None) -> list[float | None]:
    """TTFT and the gaps after it, where the release that wrote the file did not keep latencies."""
    if itls is None:
        return [None for _ in ttfts]
    return [None if ttft is None else ttft + sum(gaps) for ttft, gaps in zip(ttfts, itls, strict=False)]


def _record(number: int, row: _Row) -> Record:
    # vLLM keeps zeros for a request that failed, some of them without an error.
    ok = not row.error and bool(row.output_len)
    return Record(
        request_id=row.name,
        round=number,
        group=row.name,
        scheduled_s=row.start_s - row.waited_s,
        start_s=row.start_s,
        ttft_s=row.ttft_s if ok else None,
        e2e_s=row.latency_s if ok else None,
        itl_s=tuple(row.gaps_s),
        expected_prompt_tokens=row.input_len or 0,
        prompt_tokens=row.input_len,
        cached_tokens=row.cached_tokens,
        completion_tokens=row.output_len if ok else None,
        ok=ok,
        error_kind=None if ok else "unknown",
        error=row.error or None,
    )


def _summary(number: int, document: Document, records: Sequence[Record]) -> RoundSummary:
    told = document.kvkit
    if told:
        known = {"name": told.round_name, "valid": told.valid, "invalid_reasons": tuple(told.invalid_reasons)}
    else:
        known = {"name": "unknown", "invalid_reasons": (NO_SOURCES, _ASSUMED if records else _WITHOUT_DETAILS)}
    summary = (
        summarise_round(
            Tally.of(records),
            number=number,
            isolation=told.isolation if told else None,
            by_source=told.attribution if told else TokensBySource(),
            counters=Counters(),
            valid=None,
            invalid_reasons=(),
            max_failed_ratio=1,
        )
        if records
        else _summary_without_records(number, document)
    )
    throughput = Throughput(requests_per_s=document.request_throughput, output_tokens_per_s=document.output_throughput)
    return summary.model_copy(update={**known, "duration_s": document.duration, "throughput": throughput})


def _summary_without_records(number: int, document: Document) -> RoundSummary:
    failed = document.num_prompts - document.completed
    return RoundSummary(
        round=number,
        name="unknown",
        isolation=None,
        requests=RequestCounts(
            total=document.num_prompts,
            succeeded=document.completed,
            failed=failed,
            failed_by_kind={"unknown": failed} if failed else {},
        ),
        ttft_ms=_distribution(document, "ttft"),
        tpot_ms=_distribution(document, "tpot"),
        itl_ms=_distribution(document, "itl"),
        e2e_ms=_distribution(document, "e2el"),
        throughput=Throughput(requests_per_s=None, output_tokens_per_s=None),
        duration_s=None,
        tokens=Tokens(
            prompt=document.total_input_tokens,
            completion=document.total_output_tokens,
            cached=None,
            expected_prompt=document.total_input_tokens,
            by_source=TokensBySource(),
        ),
        counters=Counters(),
        valid=None,
        invalid_reasons=(),
    )


def _distribution(document: Document, metric: str) -> Distribution:
    """Only the percentiles that `--metric-percentiles` asked for are there."""
    told = document.model_extra or {}
    names = {"mean": "mean", "std": "std", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
    return Distribution.model_validate({ours: told.get(f"{theirs}_{metric}_ms") for ours, theirs in names.items()})


def _started(path: Path, date: str) -> datetime:
    """`vllm bench serve` writes the local time of the machine that measured, which is taken for this one's."""
    try:
        return datetime.strptime(date, "%Y%m%d-%H%M%S").astimezone()
    except ValueError:
        raise ResultsError(f"{path}: key date: found {date!r}, expected YYYYmmdd-HHMMSS") from None
