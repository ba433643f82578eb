"""vLLM's counters: which are read, and what they say about a round.

Names and their first releases (vLLM's `v1/metrics/loggers.py`): `prompt_tokens_by_source` since 0.16,
`external_prefix_cache_*` since 0.12, `mooncake_store_operation_*` since 0.22.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvkit.observe.prometheus import Change, Names, Reading

CACHE_CONFIG = "vllm:cache_config_info"
"""Always 1; its labels tell."""

NAMES = Names(
    counters=(
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:prompt_tokens_by_source_total",
        "vllm:prompt_tokens_cached_by_source_total",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:external_prefix_cache_queries_total",
        "vllm:external_prefix_cache_hits_total",
        "vllm:num_preemptions_total",
        "vllm:request_success_total",
        # Load time of asynchronous connectors is queue time, of LMCacheConnectorV1 prefill time.
        "vllm:request_queue_time_seconds_sum",
        "vllm:request_prefill_time_seconds_sum",
        "vllm:time_to_first_token_seconds_sum",
        "vllm:time_to_first_token_seconds_count",
        # MooncakeStoreConnector: proof that bytes came from the store.
        "vllm:mooncake_store_operation_total",
        "vllm:mooncake_store_operation_keys_total",
        "vllm:mooncake_store_operation_bytes_total",
        "vllm:mooncake_store_operation_failed_keys_total",
        "vllm:mooncake_store_operation_time_seconds_sum",
        # LMCacheConnectorV1 exposes its own counters here when PROMETHEUS_MULTIPROC_DIR is set.
        "lmcache:*",
    ),
    states=("vllm:num_requests_running", "vllm:num_requests_waiting", CACHE_CONFIG),
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the KV of a round's prompt tokens came from. `None`: the engine does not tell."""

    computed: int | None = None
    device: int | None = None
    """vLLM's own prefix cache."""
    external: int | None = None
    """The connector."""

    @property
    def total(self) -> int | None:
        if self.computed is None or self.device is None or self.external is None:
            return None
        return self.computed + self.device + self.external


def metrics_url(base_url: str) -> str:
    return f"{root_of(base_url)}/metrics"


def root_of(base_url: str) -> str:
    """The address that vLLM's own routes hang off: the OpenAI base URL without `/v1`."""
    return base_url.rstrip("/").removesuffix("/v1")


def attribute(engine: Change) -> Sources:
    """Sources of the prompt tokens between two readings.

    `prompt_tokens_by_source` is taken where it exists: it is counted with the first token. Else the hits that were
    counted at admission, in which failed loads stay. Else nothing is known.
    """
    if engine.total("vllm:prompt_tokens_by_source_total") is not None:
        return Sources(
            computed=_by_source(engine, "local_compute"),
            device=_by_source(engine, "local_cache_hit"),
            external=_by_source(engine, "external_kv_transfer"),
        )
    prompt = engine.total("vllm:prompt_tokens_total")
    device = engine.total("vllm:prefix_cache_hits_total")
    external = engine.total("vllm:external_prefix_cache_hits_total")
    if prompt is None or device is None or external is None:
        return Sources()
    return Sources(computed=round(prompt - device - external), device=round(device), external=round(external))


def preemptions(engine: Change) -> int:
    return round(engine.total("vllm:num_preemptions_total") or 0)


def failed_requests(engine: Change) -> int:
    """Requests that ended with `finished_reason="error"`; a failed KV load is one."""
    return round(engine.total("vllm:request_success_total", finished_reason="error") or 0)


def failed_loads(engine: Change) -> int:
    """Loads of the MooncakeStoreConnector that were not `ok`."""
    name = "vllm:mooncake_store_operation_total"
    loads = engine.total(name, operation="load_get") or 0
    return round(loads - (engine.total(name, operation="load_get", status="ok") or 0))


def busy(reading: Reading) -> str | None:
    """What the engine is doing, in words; `None` when it is idle or does not tell."""
    running = reading.states.get("vllm:num_requests_running", 0)
    waiting = reading.states.get("vllm:num_requests_waiting", 0)
    return f"{running:g} requests running and {waiting:g} waiting in the engine" if running + waiting else None


def block_tokens(reading: Reading) -> int | None:
    """Tokens of a KV block."""
    return _cache_config(reading, "block_size")


def device_tokens(reading: Reading) -> int | None:
    """Tokens that the engine's own KV cache holds."""
    block, blocks = block_tokens(reading), _cache_config(reading, "num_gpu_blocks")
    return None if block is None or blocks is None else block * blocks


def _cache_config(reading: Reading, label: str) -> int | None:
    told = next((key for key in reading.states if key.startswith(CACHE_CONFIG + "{")), "")
    found = re.search(rf'[{{,]{label}="(\d+)"', told)
    return int(found[1]) if found else None


def _by_source(engine: Change, source: str) -> int:
    return round(engine.total("vllm:prompt_tokens_by_source_total", source=source) or 0)
