"""How fast a hit round could have been: the time that its bytes take, and that of computing the rest.

With, per request of a hit round and in seconds:

    load   = tokens from the store · KV bytes per token / store bandwidth
    rest   = tokens computed in the hit round · c
    bound  = load + rest
    share  = bound / mean TTFT
    fixed  = mean TTFT - bound, at least 0
    break-even = fixed / (c - l)    in tokens, where l = KV bytes per token / store bandwidth

`c` is the time of computing one prompt token in the cold round. Computing is taken as linear in tokens, which for a
long prompt makes the rest look cheaper than it is: the bound stays a bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvkit.results.evidence import Witness, told
from kvkit.results.stats import Counters, Figure, PhysicalLimit, RoundSummary

DISAGREEMENT = 0.05
"""Share by which the bytes that were read may differ from the model's own figure before it is worth a remark. Loads
move whole blocks, so with a right dtype the two are equal but for requests that failed on the way."""

_GET = ('operation="load_get"', 'status="ok"')
_CONNECTOR_BYTES = Witness("vLLM", "bytes loaded", "bytes", "vllm:mooncake_store_operation_bytes_total", _GET)
_CONNECTOR_TIME = Witness("vLLM", "load time", "s", "vllm:mooncake_store_operation_time_seconds_sum", _GET)
_SERVER_RATES = Witness("LMCache", "load rates", "GB/s", "lmcache_mp_l2_load_throughput_GB_per_second_sum")
_SERVER_LOADS = Witness("LMCache", "loads", "times", "lmcache_mp_l2_load_throughput_GB_per_second_count")
_SERVER_TOKENS = Witness("LMCache", "hits in the store", "tokens", "lmcache_mp_lookup_hit_l2_tokens_total")
_STORE_BYTES = Witness("Mooncake", "bytes read", "bytes", "mem_cache_hit_bytes_total")
_PREFILL_TIME = Witness("vLLM", "prefill time", "s", "vllm:request_prefill_time_seconds_sum")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is known of engine and store before anything is sent."""

    kv_bytes_per_token: Figure
    """By the model's configuration."""
    bandwidth_gb_s: float | None
    """Of the store, as it was measured elsewhere."""
    workers: int | None
    """Ranks that load their part of a request's KV at the same time; `None`: the engine does not tell."""


def physical_limit(cold: RoundSummary, hit: RoundSummary, deployment: Deployment) -> PhysicalLimit:
    """Hold a with-cache hit round against what its cold round and the store allow. Formulas: at this file's head."""
    read = _bytes_read_per_token(hit)
    size = deployment.kv_bytes_per_token if deployment.kv_bytes_per_token.value is not None or read is None else read
    bandwidth = _bandwidth(hit.counters, deployment)
    compute = _compute_ms_per_token(cold)
    from_store = _per_request(_tokens_from_store(hit), hit)
    load_per_token = _load_ms_per_token(size, bandwidth)
    load_ms = _product(from_store, load_per_token)
    compute_ms = _product(_per_request(hit.tokens.by_source.computed, hit), compute.value)
    bound = _bound(load_ms, compute_ms, from_store, (size, bandwidth, compute))
    share = bound.value / hit.ttft_ms.mean if bound.value is not None and hit.ttft_ms.mean else None
    return PhysicalLimit(
        kv_bytes_per_token=size,
        store_bandwidth_gb_s=bandwidth,
        compute_ms_per_token=compute,
        store_tokens_per_request=from_store,
        load_ms=load_ms,
        compute_ms=compute_ms,
        ttft_bound_ms=bound,
        share_reached=share,
        break_even_tokens=_break_even(bound, hit.ttft_ms.mean, compute.value, load_per_token),
        remarks=tuple(_remarks(deployment.kv_bytes_per_token, read, share)),
    )


def _tokens_from_store(hit: RoundSummary) -> float | None:
    """External tokens, without those that an LMCache server had in its own memory: other requests had loaded them."""
    external, second_tier = hit.tokens.by_source.external, told(hit.counters, _SERVER_TOKENS)
    return external if external is None or second_tier is None else min(external, second_tier)


def _bytes_read_per_token(hit: RoundSummary) -> Figure | None:
    """Bytes that were read over the tokens that they were read for, where the counters tell both.

    In-process LMCache does not: it counts its hits over all of its tiers together.
    """
    by_connector = told(hit.counters, _CONNECTOR_BYTES), hit.tokens.by_source.external
    by_server = told(hit.counters, _STORE_BYTES), told(hit.counters, _SERVER_TOKENS)
    for (read, tokens), words in (
        (by_connector, "counters: bytes that vLLM's connector loaded / external tokens"),
        (by_server, "counters: bytes read from Mooncake / tokens that LMCache hit in its second tier"),
    ):
        if read and tokens:
            return Figure(value=read / tokens, source=words)
    return None


def _bandwidth(counters: Counters, deployment: Deployment) -> Figure:
    """Of the run itself where its counters tell it, else as configured.

    A load counts its whole time, so loads that overlap share the link and each looks slower than the store is.
    """
    moved, seconds = told(counters, _CONNECTOR_BYTES), told(counters, _CONNECTOR_TIME)
    rates, loads = told(counters, _SERVER_RATES), told(counters, _SERVER_LOADS)
    if moved and seconds and deployment.workers:
        words = "counters: bytes that vLLM's connector loaded / the summed time of its loads"
        ranks = f", × {deployment.workers} ranks that load at once" if deployment.workers > 1 else ""
        return Figure(value=moved / seconds / 1e9 * deployment.workers, source=words + ranks)
    if rates and loads:
        return Figure(value=rates / loads, source="counters: mean rate of LMCache's loads from its second tier")
    if deployment.bandwidth_gb_s is not None:
        return Figure(value=deployment.bandwidth_gb_s, source="configured: mooncake.bandwidth_gb_s")
    if moved and seconds:
        return Figure(
            value=None,
            source="the engine does not tell how many ranks load at once (VLLM_SERVER_DEV_MODE=1); "
            "set mooncake.bandwidth_gb_s",
        )
    return Figure(value=None, source="no counter tells the time of loads; set mooncake.bandwidth_gb_s")


def _compute_ms_per_token(cold: RoundSummary) -> Figure:
    """By the engine's prefill time, else by TTFT, which also holds the wait for other requests."""
    computed = cold.tokens.by_source.computed
    if not computed:
        return Figure(value=None, source="how many tokens the cold round computed is not known")
    if seconds := told(cold.counters, _PREFILL_TIME):
        return Figure(value=seconds * 1000 / computed, source="cold round: the engine's prefill time / tokens computed")
    if cold.ttft_ms.mean is None:
        return Figure(value=None, source="the cold round has no TTFT")
    return Figure(
        value=cold.ttft_ms.mean * cold.requests.succeeded / computed,
        source="cold round: TTFT, with its wait for other requests / tokens computed",
    )


def _load_ms_per_token(size: Figure, bandwidth: Figure) -> float | None:
    if size.value is None or bandwidth.value is None:
        return None
    return size.value / (bandwidth.value * 1e9) * 1000


def _bound(
    load_ms: float | None, compute_ms: float | None, from_store: float | None, inputs: Iterable[Figure]
) -> Figure:
    if load_ms is not None and compute_ms is not None:
        return Figure(value=load_ms + compute_ms, source="loading from the store + computing the rest")
    if from_store is None:
        return Figure(value=None, source="where the prompt tokens came from is not known")
    return Figure(value=None, source="; ".join(figure.source for figure in inputs if figure.value is None))


def _break_even(bound: Figure, ttft_ms: float | None, compute: float | None, load: float | None) -> Figure:
    if bound.value is None or ttft_ms is None or compute is None or load is None:
        return Figure(value=None, source=bound.source if bound.value is None else "the hit round has no TTFT")
    if load >= compute:
        return Figure(
            value=None,
            source=f"there is none: loading a token takes {load:.3g} ms, computing it {compute:.3g} ms, "
            "so the cache never pays",
        )
    fixed = max(0.0, ttft_ms - bound.value)
    return Figure(
        value=fixed / (compute - load),
        source=f"{fixed:.3g} ms beyond the bound; {compute:.3g} ms to compute a token, {load:.3g} ms to load it",
    )


def _remarks(by_model: Figure, read: Figure | None, share: float | None) -> Iterable[str]:
    if by_model.value and read is not None and read.value is not None:
        ratio = read.value / by_model.value
        if abs(ratio - 1) > DISAGREEMENT:
            yield (
                f"{read.value:,.0f} bytes were read per token ({read.source}), {by_model.value:,.0f} are the model's "
                f"({by_model.source}): {ratio:.2f} times as many. Another dtype of the KV cache, ranks that each load "
                "the same KV, or others who read from the store"
            )
    if share is not None and share > 1:
        yield (
            f"the bound is {share:.2f} times the measured TTFT: the store is faster than its bandwidth here says, "
            "which loads that overlap, or a canary of one key, show too low"
        )


def _per_request(tokens: float | None, summary: RoundSummary) -> float | None:
    return tokens / summary.requests.succeeded if tokens is not None and summary.requests.succeeded else None


def _product(left: float | None, right: float | None) -> float | None:
    return left * right if left is not None and right is not None else None
