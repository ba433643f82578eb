"""Which server counters show where a hit came from, and what went wrong on the way.

A lower TTFT alone proves nothing: vLLM's own prefix cache makes a second round fast without any store. These
counters do. Names are those of vLLM 0.32, LMCache 0.5.6 and Mooncake 0.3.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvkit.results.stats import Counters


@dataclass(frozen=True, slots=True)
class Witness:
    """One counter that is worth showing to a person."""

    server: str
    meaning: str
    unit: str
    name: str
    labels: tuple[str, ...] = ()
    """Labels that a sample must carry, as exposed: `status="ok"`."""

    @property
    def sample(self) -> str:
        """As Prometheus writes it: the name with the labels."""
        return f"{self.name}{{{','.join(self.labels)}}}" if self.labels else self.name

    def delta(self, deltas: Mapping[str, float]) -> float | None:
        """The sum over the samples of this counter (engines, workers); `None` when no server told it."""
        told = [value for sample, value in deltas.items() if self._matches(sample)]
        return sum(told) if told else None

    def _matches(self, sample: str) -> bool:
        name, _, labels = sample.partition("{")
        return name == self.name and all(label in labels for label in self.labels)


WITNESSES: tuple[Witness, ...] = (
    Witness("Mooncake", "keys read from memory", "keys", "mem_cache_hit_nums_"),
    Witness("Mooncake", "bytes read from memory", "bytes", "mem_cache_hit_bytes_total"),
    Witness("Mooncake", "keys written", "keys", "master_batch_put_start_items_total"),
    Witness("Mooncake", "writes refused, store full", "keys", "master_put_start_alloc_failures_total"),
    Witness("Mooncake", "evictions", "times", "master_successful_evictions_total"),
    Witness("LMCache", "hits in its second tier (the store)", "tokens", "lmcache_mp_lookup_hit_l2_tokens_total"),
    Witness("LMCache", "hits in its first tier (its own memory)", "tokens", "lmcache_mp_lookup_hit_l1_tokens_total"),
    Witness("LMCache", "read from the store (in-process)", "bytes", "lmcache:num_remote_read_bytes_total"),
    Witness("LMCache", "chunks that could not be loaded", "chunks", "lmcache_mp_l2_prefetch_failure_chunks_total"),
    Witness("vLLM", "tokens that the connector promised", "tokens", "vllm:external_prefix_cache_hits_total"),
    Witness(
        "vLLM",
        "read from the store (MooncakeStoreConnector)",
        "bytes",
        "vllm:mooncake_store_operation_bytes_total",
        ('operation="load_get"', 'status="ok"'),
    ),
    Witness(
        "vLLM",
        "keys that could not be loaded",
        "keys",
        "vllm:mooncake_store_operation_failed_keys_total",
        ('operation="load_get"',),
    ),
    Witness(
        "vLLM", "requests ended by an error", "requests", "vllm:request_success_total", ('finished_reason="error"',)
    ),
    Witness("vLLM", "preemptions", "times", "vllm:num_preemptions_total"),
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one witness said of one round in both modes. `None`: not told."""

    witness: Witness
    with_cache: float | None
    baseline: float | None


def gather(with_cache: Counters, baseline: Counters) -> tuple[Evidence, ...]:
    """Every witness that a server of either mode told about."""
    found = (Evidence(witness, told(with_cache, witness), told(baseline, witness)) for witness in WITNESSES)
    return tuple(item for item in found if item.with_cache is not None or item.baseline is not None)


def told(counters: Counters, witness: Witness) -> float | None:
    """What one witness said of a round; `None` when no server told it."""
    # In-process LMCache exposes its counters on vLLM's own /metrics: a name is looked up wherever it was told.
    return witness.delta({**counters.vllm, **counters.lmcache, **counters.mooncake})
