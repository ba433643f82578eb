"""What went to the store and came back from it, by whoever counted it nearest to the engine.

The master counts for all of its clients, and only what is read from memory; the connectors count their own. So a
connector's figure is taken before the master's.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvkit.observe.prometheus import Change
from kvkit.observe.servers import Changes


@dataclass(frozen=True, slots=True)
class Told:
    """A figure and the counter that told it."""

    value: int
    counter: str


@dataclass(frozen=True, slots=True)
class StoreTraffic:
    """Between two looks at the servers. `None`: nobody told."""

    read_bytes: Told | None = None
    written_bytes: Told | None = None
    hit_tokens: Told | None = None
    """Tokens that LMCache's server found in its second tier, which is the store."""

    @property
    def read_something(self) -> bool | None:
        """Whether the store gave anything, by whoever says so; `None`: nobody tells."""
        told = [each.value > 0 for each in (self.hit_tokens, self.read_bytes) if each is not None]
        return any(told) if told else None


_Counters = tuple[tuple[str, dict[str, str]], ...]

_READ: _Counters = (
    ("vllm:mooncake_store_operation_bytes_total", {"operation": "load_get", "status": "ok"}),
    ("lmcache:num_remote_read_bytes_total", {}),
    ("mem_cache_hit_bytes_total", {}),
)
_WRITTEN: _Counters = (
    ("vllm:mooncake_store_operation_bytes_total", {"operation": "save_put", "status": "ok"}),
    ("lmcache:num_remote_write_bytes_total", {}),
    ("lmcache_mp_l2_usage_bytes", {}),
    ("master_allocated_bytes", {}),
)
_HIT_TOKENS: _Counters = (("lmcache_mp_lookup_hit_l2_tokens_total", {}),)


def store_traffic(changes: Changes) -> StoreTraffic:
    """Bytes from and to the store, each by the first counter of its list that a server told."""
    return StoreTraffic(
        read_bytes=_first_told(changes, _READ),
        written_bytes=_first_told(changes, _WRITTEN),
        hit_tokens=_first_told(changes, _HIT_TOKENS),
    )


def _first_told(changes: Changes, counters: _Counters) -> Told | None:
    for name, labels in counters:
        told = [value for server in _servers(changes) if (value := server.total(name, **labels)) is not None]
        if told:
            return Told(round(sum(told)), name)
    return None


def _servers(changes: Changes) -> tuple[Change, ...]:
    # LMCache inside vLLM exposes its counters on vLLM's page or on its own.
    return changes.vllm, changes.lmcache, changes.mooncake
