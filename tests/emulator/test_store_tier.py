"""The store's keys, its eviction, and the counters that a master moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvkit.emulator.store.tier import NO_AVAILABLE_HANDLE, Tier

SIZE = 65_536
KEYS = ["k0", "k1", "k2", "k3"]
FOUR = dict.fromkeys(KEYS, SIZE)


def moved(tier: Tier, call: Callable[[], Any]) -> dict[str, int]:
    """The counters that a call moved, and by how much."""
    before = dict(tier.counters)
    call()
    return {name: value - before.get(name, 0) for name, value in tier.counters.items() if value != before.get(name, 0)}


def holding_four() -> Tier:
    tier = Tier(64 * 2**20)
    tier.put(FOUR)
    return tier


# The numbers below were read from a mooncake_master 0.3.13.post1 whose client made the same calls.


def test_counters_of_a_put() -> None:
    tier = Tier(64 * 2**20)
    assert moved(tier, lambda: tier.put(FOUR)) == {
        "master_batch_put_start_requests_total": 1,
        "master_batch_put_start_items_total": 4,
        "master_batch_put_end_requests_total": 1,
        "master_batch_put_end_items_total": 4,
    }
    assert tier.allocated_bytes == 262_144


def test_counters_of_a_look_up_do_not_tell_hits_from_misses() -> None:
    tier = holding_four()
    assert moved(tier, lambda: tier.exist([*KEYS, "absent"])) == {
        "master_batch_exist_key_requests_total": 1,
        "master_batch_exist_key_items_total": 5,
    }


def test_counters_of_a_get() -> None:
    tier = holding_four()
    assert moved(tier, lambda: tier.get(KEYS)) == {
        "master_batch_get_replica_list_requests_total": 1,
        "master_batch_get_replica_list_items_total": 4,
        "mem_cache_hit_nums_": 4,
        "mem_cache_hit_bytes_total": 262_144,
        "valid_get_nums_": 4,
        "total_get_nums_": 4,
    }


def test_counters_of_a_get_that_finds_a_part() -> None:
    tier = holding_four()
    assert moved(tier, lambda: tier.get(["k0", "k1", "absent", "absent too"])) == {
        "master_batch_get_replica_list_requests_total": 1,
        "master_batch_get_replica_list_partial_successes_total": 1,
        "master_batch_get_replica_list_items_total": 4,
        "master_batch_get_replica_list_failed_items_total": 2,
        "mem_cache_hit_nums_": 2,
        "mem_cache_hit_bytes_total": 131_072,
        "valid_get_nums_": 2,
        "total_get_nums_": 4,
    }


def test_counters_of_a_put_of_what_is_there_already() -> None:
    tier = holding_four()
    assert moved(tier, lambda: tier.put(FOUR)) == {
        "master_batch_put_start_requests_total": 1,
        "master_batch_put_start_failures_total": 1,
        "master_batch_put_start_items_total": 4,
        "master_batch_put_start_failed_items_total": 4,
    }


def test_asking_for_one_key_counts_as_a_hit() -> None:
    tier = holding_four()
    assert moved(tier, lambda: tier.query("k0"))["mem_cache_hit_nums_"] == 1


# End of those numbers.


@pytest.mark.parametrize(("key", "stored"), [("k0", True), ("absent", False)])
def test_a_look_up_tells_what_is_there(key: str, stored: bool) -> None:
    assert holding_four().exist([key]) == [stored]


def test_a_get_tells_sizes() -> None:
    assert holding_four().get(["k0", "absent"]) == [SIZE, None]


def test_the_least_recently_read_key_is_evicted_first() -> None:
    tier = Tier(2 * SIZE)
    tier.put({"read later": SIZE, "not read": SIZE})
    tier.get(["read later"])
    tier.put({"new": SIZE})
    assert tier.keys == ["read later", "new"]
    assert tier.counters["master_evicted_key_count"] == 1
    assert tier.counters["master_evicted_size_bytes"] == SIZE


def test_as_many_keys_are_evicted_as_the_new_one_needs() -> None:
    tier = Tier(3 * SIZE)
    tier.put({"a": SIZE, "b": SIZE, "c": SIZE})
    tier.put({"big": 2 * SIZE})
    assert tier.keys == ["c", "big"]
    assert tier.allocated_bytes == 3 * SIZE


def test_what_is_above_the_capacity_is_refused_and_evicts_nothing() -> None:
    tier = Tier(SIZE)
    tier.put({"a": SIZE})
    assert tier.put({"too big": SIZE + 1}) == [NO_AVAILABLE_HANDLE]
    assert tier.keys == ["a"]
    assert tier.counters["master_put_start_alloc_failures_total"] == 1


def test_remove_all_empties_the_store() -> None:
    tier = holding_four()
    assert tier.remove_all() == 4
    assert (len(tier), tier.allocated_bytes) == (0, 0)
