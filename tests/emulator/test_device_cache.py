"""The device's pool of blocks: shared by reference, evicted least recently used first."""

import pytest

from kvkit.emulator.engine.device_cache import BlockTable, DeviceCache


def filled(cache: DeviceCache, *keys: str) -> BlockTable:
    """A table that computed these blocks."""
    table = BlockTable()
    shared = keys[: cache.leading_hits(keys)]
    assert cache.acquire(table, shared, len(keys))
    for key in keys[len(shared) :]:
        cache.commit(table, key)
    return table


def test_released_blocks_are_found_again() -> None:
    cache = DeviceCache(4)
    cache.release(filled(cache, "a", "b"))
    assert cache.leading_hits(["a", "b", "c"]) == 2


def test_a_hit_ends_at_the_first_gap() -> None:
    cache = DeviceCache(4)
    cache.release(filled(cache, "a", "b"))
    assert cache.leading_hits(["a", "x", "b"]) == 1


def test_the_least_recently_used_chain_is_evicted_from_its_end() -> None:
    cache = DeviceCache(4)
    cache.release(filled(cache, "a1", "a2"))
    cache.release(filled(cache, "b1", "b2"))
    filled(cache, "c1")
    assert cache.leading_hits(["a1", "a2"]) == 1
    assert cache.leading_hits(["b1", "b2"]) == 2


def test_held_blocks_are_never_evicted() -> None:
    cache = DeviceCache(3)
    filled(cache, "a", "b")
    assert not cache.acquire(BlockTable(), (), 2)
    assert cache.leading_hits(["a", "b"]) == 2


def test_without_room_nothing_is_taken() -> None:
    cache = DeviceCache(3)
    cache.release(filled(cache, "a"))
    table = BlockTable()
    assert not cache.acquire(table, ["a"], 4)
    assert table.blocks == 0
    assert cache.held_blocks == 0


def test_two_holders_share_one_block() -> None:
    cache = DeviceCache(4)
    filled(cache, "a", "b")
    filled(cache, "a", "b")
    assert cache.held_blocks == 2


def test_a_block_that_two_requests_computed_is_kept_once() -> None:
    cache = DeviceCache(4)
    first, second = BlockTable(), BlockTable()
    cache.acquire(first, (), 1)
    cache.acquire(second, (), 1)
    cache.commit(first, "a")
    cache.commit(second, "a")
    assert cache.held_blocks == 1


def test_usage_counts_held_blocks_only() -> None:
    cache = DeviceCache(4)
    cache.release(filled(cache, "a", "b"))
    filled(cache, "c")
    assert cache.usage == pytest.approx(1 / 4)


def test_a_reset_forgets_every_hash() -> None:
    cache = DeviceCache(4)
    cache.release(filled(cache, "a", "b"))
    assert cache.reset()
    assert cache.leading_hits(["a"]) == 0


def test_a_reset_is_refused_while_a_block_is_held() -> None:
    cache = DeviceCache(4)
    table = filled(cache, "a")
    assert not cache.reset()
    assert cache.leading_hits(["a"]) == 1
    cache.release(table)
    assert cache.reset()
