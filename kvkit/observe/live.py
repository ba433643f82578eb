"""Servers looked at again and again: what each holds now, and how fast its counters rose since the look before.

Two looks are held against each other as the two ends of a round are: a counter that fell means a restart, and then
there is no rate, and never a negative one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kvkit.observe import lmcache, mooncake, vllm
from kvkit.observe.prometheus import Change, Names, Reading, change

ServerKind = Literal["vLLM", "LMCache server", "LMCache in vLLM", "Mooncake master"]

Unit = Literal["count", "bytes", "share", "per second", "tokens per second", "bytes per second"]


@dataclass(frozen=True, slots=True)
class Level:
    """A gauge, as it stands."""

    name: str
    gauge: str
    unit: Unit = "count"
    optional: bool = False
    """Not worth a word where the server has no such gauge."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a counter rose, over the time between two looks."""

    name: str
    counter: str
    unit: Unit = "per second"
    labels: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """How much one counter rose over how much another did: of what was asked for between two looks."""

    name: str
    part: str
    whole: str
    unit: Unit = "share"
    optional: bool = False


Figure = Level | Rate | Share

_BY_SOURCE = "vllm:prompt_tokens_by_source_total"
_STORE_BYTES = "vllm:mooncake_store_operation_bytes_total"
_LOOKED_UP = "lmcache_mp_lookup_requested_tokens_total"

FIGURES: Mapping[ServerKind, tuple[Figure, ...]] = {
    "vLLM": (
        Level("requests running", "vllm:num_requests_running"),
        Level("requests waiting", "vllm:num_requests_waiting"),
        Rate("prompt tokens computed", _BY_SOURCE, "tokens per second", {"source": "local_compute"}),
        Rate("prompt tokens from its own cache", _BY_SOURCE, "tokens per second", {"source": "local_cache_hit"}),
        Rate("prompt tokens from the connector", _BY_SOURCE, "tokens per second", {"source": "external_kv_transfer"}),
        Share("hit share of its own cache", "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
        Share(
            "hit share of the connector",
            "vllm:external_prefix_cache_hits_total",
            "vllm:external_prefix_cache_queries_total",
        ),
        Level("KV memory in use", "vllm:kv_cache_usage_perc", "share"),
        Rate("put into the store", _STORE_BYTES, "bytes per second", {"operation": "save_put"}, optional=True),
        Rate("got from the store", _STORE_BYTES, "bytes per second", {"operation": "load_get"}, optional=True),
        Rate("failed keys", "vllm:mooncake_store_operation_failed_keys_total", optional=True),
        Rate("preemptions", "vllm:num_preemptions_total"),
    ),
    "LMCache server": (
        Level("first tier", "lmcache_mp_l1_memory_usage_bytes", "bytes"),
        Level("second tier", "lmcache_mp_l2_usage_bytes", "bytes"),
        Rate("tokens looked up", _LOOKED_UP, "tokens per second"),
        Share("hit share", "lmcache_mp_lookup_hit_tokens_total", _LOOKED_UP),
        Share("hit share of the second tier", "lmcache_mp_lookup_hit_l2_tokens_total", _LOOKED_UP),
        Rate("chunks put into the second tier", "lmcache_mp_l2_store_completed_objects_chunks_total"),
        Rate("chunks got from the second tier", "lmcache_mp_l2_prefetch_load_completed_chunks_total"),
        Rate("chunks evicted from the first", "lmcache_mp_l1_evicted_chunks_total"),
        Rate("chunks evicted from the second", "lmcache_mp_l2_evicted_objects_chunks_total"),
    ),
    "LMCache in vLLM": (
        Level("own memory", "lmcache:local_cache_usage", "bytes"),
        Level("remote", "lmcache:remote_cache_usage", "bytes"),
        Share("hit share", "lmcache:num_hit_tokens_total", "lmcache:num_requested_tokens_total"),
        Rate("put into the store", "lmcache:num_remote_write_bytes_total", "bytes per second"),
        Rate("got from the store", "lmcache:num_remote_read_bytes_total", "bytes per second"),
        Rate("keys evicted from own memory", "lmcache:local_cpu_evict_keys_count_total"),
    ),
    "Mooncake master": (
        Level("keys", mooncake.KEY_COUNT),
        Level("stored", "master_allocated_bytes", "bytes"),
        Level("capacity", "master_total_capacity_bytes", "bytes"),
        Level("clients", "master_active_clients"),
        Rate("keys put", "master_batch_put_start_items_total"),
        Rate("puts without room", "master_put_start_alloc_failures_total"),
        Rate("keys got", "mem_cache_hit_nums_"),
        Rate("bytes got", "mem_cache_hit_bytes_total", "bytes per second"),
        Share("hit share of gets", "valid_get_nums_", "total_get_nums_"),
        Rate("keys evicted", "master_evicted_key_count"),
    ),
}
"""In the order in which they are shown."""

NAMES = Names(
    counters=(
        *vllm.NAMES.counters,
        *lmcache.NAMES.counters,
        *mooncake.NAMES.counters,
        "master_evicted_key_count",
    ),
    levels=tuple(one.gauge for figures in FIGURES.values() for one in figures if isinstance(one, Level)),
)
"""Of any server: what it is shows in what it tells."""


_NONE_OF_THEM = "tells no counter of vLLM, LMCache or Mooncake; an LMCache server has none before its first request"


@dataclass(frozen=True, slots=True)
class Seen:
    figure: Figure
    told: bool
    """Whether the server has such a counter at all."""
    value: float | None
    """`None` where it is not told, at the first look, after a restart, and of a share where nothing was asked for."""


@dataclass(frozen=True, slots=True)
class Group:
    kind: ServerKind
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one server."""

    url: str
    groups: tuple[Group, ...]
    problem: str | None = None
    """Why nothing, or no rate, is known of it."""


class WatchedServer:
    """Remembers the last look that the server answered, so that a silence in between costs no figure.

    Args:
        url: of its `/metrics`.
        kind: what it is, where that is known: then its figures are shown as unknown when it does not tell them.
    """

    def __init__(self, url: str, kind: ServerKind | None = None) -> None:
        self.url = url
        self.kind = kind
        self._before: tuple[Reading, float] | None = None

    def look(self, now: Reading, at_s: float) -> Look:
        """What this reading, taken at this instant of a monotonic clock, tells since the one before."""
        if now.problem is not None:
            return Look(self.url, self._groups(Reading(), Change(), None), now.problem)
        before, self._before = self._before, (now, at_s)
        if before is None:
            return self._told(now, Change(), None)
        risen = change(before[0], now)
        return self._told(now, risen, at_s - before[1] if risen.problem is None else None)

    def _told(self, now: Reading, risen: Change, over_s: float | None) -> Look:
        groups = self._groups(now, risen, over_s)
        if not groups:
            return Look(self.url, (), f"{self.url}: {_NONE_OF_THEM}")
        return Look(self.url, groups, risen.problem)

    def _groups(self, now: Reading, risen: Change, over_s: float | None) -> tuple[Group, ...]:
        groups = []
        for kind, figures in FIGURES.items():
            seen = tuple(_see(figure, now, risen, over_s) for figure in figures)
            if kind == self.kind or any(one.told for one in seen):
                groups.append(Group(kind, tuple(one for one in seen if one.told or not one.figure.optional)))
        return tuple(groups)


def _see(figure: Figure, now: Reading, risen: Change, over_s: float | None) -> Seen:
    if isinstance(figure, Level):
        value = Change(now.levels).total(figure.gauge)
        return Seen(figure, value is not None, value)
    counted = Change(now.counters)
    if isinstance(figure, Share):
        told = counted.total(figure.part) is not None and counted.total(figure.whole) is not None
        part, whole = risen.total(figure.part), risen.total(figure.whole)
        return Seen(figure, told, part / whole if told and over_s and part is not None and whole else None)
    told = counted.total(figure.counter) is not None
    rose = risen.total(figure.counter, **figure.labels)
    return Seen(figure, told, rose / over_s if told and over_s and rose is not None else None)
