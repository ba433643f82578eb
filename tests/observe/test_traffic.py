"""Bytes to and from the store, by whoever counted them nearest to the engine."""

from __future__ import annotations

import pytest

from kvkit.observe.prometheus import Change
from kvkit.observe.servers import NOT_CONFIGURED, Changes
from kvkit.observe.traffic import StoreTraffic, Told, store_traffic

OPERATION = "vllm:mooncake_store_operation_bytes_total"
LOADED, SAVED = (f'{OPERATION}{{operation="{name}",status="ok"}}' for name in ("load_get", "save_put"))
FAILED = f'{OPERATION}{{operation="load_get",status="partial_failure"}}'
ABSENT = Change(problem=NOT_CONFIGURED)


def traffic(
    vllm: dict[str, float] | None = None,
    lmcache: dict[str, float] | None = None,
    master: dict[str, float] | None = None,
) -> StoreTraffic:
    servers = (ABSENT if values is None else Change(values) for values in (vllm, lmcache, master))
    return store_traffic(Changes(*servers))


MASTER = {"mem_cache_hit_bytes_total": 900.0, "master_allocated_bytes": 800.0}


def test_the_connectors_own_count_comes_before_the_masters() -> None:
    seen = traffic(vllm={LOADED: 10.0, FAILED: 5.0, SAVED: 20.0}, master=MASTER)
    assert (seen.read_bytes, seen.written_bytes) == (Told(10, OPERATION), Told(20, OPERATION))


def test_else_the_master_tells() -> None:
    seen = traffic(vllm={}, lmcache={"lmcache_mp_lookup_hit_l2_tokens_total": 256.0}, master=MASTER)
    assert seen.read_bytes == Told(900, "mem_cache_hit_bytes_total")
    assert seen.written_bytes == Told(800, "master_allocated_bytes")
    assert seen.hit_tokens == Told(256, "lmcache_mp_lookup_hit_l2_tokens_total")


@pytest.mark.parametrize("where", ["vllm", "lmcache"])
def test_lmcache_inside_vllm_is_read_wherever_it_exposes_its_counters(where: str) -> None:
    seen = traffic(**{where: {"lmcache:num_remote_read_bytes_total": 7.0}})
    assert seen.read_bytes == Told(7, "lmcache:num_remote_read_bytes_total")


def test_what_nobody_tells_is_unknown_and_no_zero() -> None:
    assert traffic(vllm={"vllm:prompt_tokens_total": 5.0}) == StoreTraffic()


@pytest.mark.parametrize(
    ("told", "something"),
    [
        ({}, None),
        ({"read_bytes": 0}, False),
        ({"read_bytes": 0, "hit_tokens": 0}, False),
        ({"read_bytes": 0, "hit_tokens": 256}, True),
        ({"read_bytes": 9, "hit_tokens": 0}, True),
    ],
)
def test_the_store_gave_something_if_anybody_says_so(told: dict[str, int], something: bool | None) -> None:
    assert StoreTraffic(**{name: Told(value, name) for name, value in told.items()}).read_something is something
