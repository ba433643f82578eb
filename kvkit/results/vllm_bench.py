"""The result file of `vllm bench serve`: its keys, written and read.

Keys are those of vLLM 0.32 (`vllm/benchmarks/serve.py`). Older releases have fewer: no `start_times` before 0.15, no
`latencies` and `queue_times` before 0.31.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from kvkit.config import Isolation
from kvkit.results.distribution import Distribution
from kvkit.results.record import Record
from kvkit.results.stats import Mode, RoundName, RoundSummary, RunStats, TokensBySource
from kvkit.results.units import Count, Seconds

_ALWAYS_THERE = frozenset({"date", "model_id", "num_prompts", "duration", "completed", "request_throughput"})
"""In every result file, whatever its version."""


class KvkitPart(BaseModel):
    """What `kvkit export` adds to a result object."""

    run_id: str
    mode: Mode
    scenario: str
    round: int
    round_name: RoundName
    isolation: Isolation | None
    attribution: TokensBySource
    valid: bool | None
    invalid_reasons: list[str]
    fingerprint: str
    request_ids: list[str]
    cached_tokens: list[Count | None]


class Document(BaseModel):
    """What is read of a result object; its figures (`mean_ttft_ms`) are among the extra keys."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    date: str
    model_id: str | None
    num_prompts: Count
    duration: Seconds | None
    completed: Count
    request_throughput: float | None
    total_input_tokens: Count
    total_output_tokens: Count
    output_throughput: float | None = None
    max_concurrency: int | None = None
    backend: str | None = None
    request_rate: float | str | None = None
    burstiness: float | None = None
    input_lens: list[Count | None] | None = None
    output_lens: list[Count | None] | None = None
    ttfts: list[Seconds | None] | None = None
    itls: list[list[Seconds]] | None = None
    latencies: list[Seconds | None] | None = None
    start_times: list[Seconds] | None = None
    queue_times: list[Seconds] | None = None
    errors: list[str] | None = None
    kvkit: KvkitPart | None = None


def as_document(stats: RunStats, summary: RoundSummary, records: Iterable[Record]) -> dict[str, Any]:
    """One round with exactly the keys of `vllm bench serve --save-result --save-detailed`, and `kvkit` beside them.

    Arrays are in the order of the request ids, which is the same in both modes. `null` is what kvkit does not know or
    keep: the tokenizer, generated texts, peaks, and whatever a request did not come to.
    """
    ordered = sorted((record for record in records if record.round == summary.round), key=lambda each: each.request_id)
    tokens, load = summary.tokens, stats.config.get("load", {})
    return {
        "date": f"{stats.provenance.started.astimezone():%Y%m%d-%H%M%S}",
        "endpoint_type": "openai-chat",
        "backend": "openai-chat",
        "label": None,
        "model_id": stats.provenance.engine.model,
        "tokenizer_id": None,
        "num_prompts": summary.requests.total,
        # "inf" is a closed loop; a trace or a ramp has no one rate.
        "request_rate": load.get("rate") if summary.open_loop else "inf",
        "burstiness": load.get("burstiness"),
        "max_concurrency": stats.config.get("test", {}).get("concurrency"),
        "duration": summary.duration_s,
        "completed": summary.requests.succeeded,
        "failed": summary.requests.failed,
        "total_input_tokens": tokens.prompt,
        "total_output_tokens": tokens.completion,
        "request_throughput": summary.throughput.requests_per_s,
        "request_goodput": summary.goodput.requests_per_s if summary.goodput else None,
        "output_throughput": summary.throughput.output_tokens_per_s,
        "total_token_throughput": (tokens.prompt + tokens.completion) / summary.duration_s
        if summary.duration_s
        else None,
        "input_lens": [record.prompt_tokens for record in ordered],
        "output_lens": [record.completion_tokens for record in ordered],
        "ttfts": [record.ttft_s for record in ordered],
        "itls": [list(record.itl_s) for record in ordered],
        "latencies": [record.e2e_s for record in ordered],
        # Each part of a round that was cut off has a zero of its own.
        "start_times": [record.start_s for record in ordered] if summary.parts == 1 else None,
        "queue_times": [record.start_s - record.scheduled_s for record in ordered],
        "generated_texts": [None for _ in ordered],
        "errors": ["" if record.ok else f"{record.failure}: {record.error or ''}" for record in ordered],
        "max_output_tokens_per_s": None,
        "max_concurrent_requests": None,
        "rtfx": None,
        **_figures("ttft", summary.ttft_ms),
        **_figures("tpot", summary.tpot_ms),
        **_figures("itl", summary.itl_ms),
        "kvkit": KvkitPart(
            run_id=stats.run_id,
            mode=stats.mode,
            scenario=stats.scenario,
            round=summary.round,
            round_name=summary.name,
            isolation=summary.isolation,
            attribution=tokens.by_source,
            valid=summary.valid,
            invalid_reasons=list(summary.invalid_reasons),
            fingerprint=stats.workload.fingerprint,
            request_ids=[record.request_id for record in ordered],
            cached_tokens=[record.cached_tokens for record in ordered],
        ).model_dump(mode="json"),
    }


def documents_in(text: str) -> list[Document]:
    """The result objects in a text: one, or one a line (`--append-result`); none where it holds anything else.

    Raises:
        pydantic.ValidationError: they are result objects, and a key of one has a wrong type.
    """
    try:
        objects = [json.loads(text)]
    except (ValueError, RecursionError):
        try:
            objects = [json.loads(line) for line in text.split("\n") if line.strip()]
        except (ValueError, RecursionError):
            return []
    known = all(isinstance(each, dict) and each.keys() >= _ALWAYS_THERE for each in objects)
    return [Document.model_validate(each) for each in objects] if known else []


def _figures(metric: str, distribution: Distribution) -> dict[str, float | None]:
    return {
        f"mean_{metric}_ms": distribution.mean,
        f"median_{metric}_ms": distribution.p50,
        f"std_{metric}_ms": distribution.std,
        f"p99_{metric}_ms": distribution.p99,
    }
