"""Where a prompt token's KV comes from, as the counters tell it: computed, device, external."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from kvkit.emulator import FaultKind
from tests.emulator.driving import TEMPLATE_TOKENS, Deployment, deployed, document, quick, until

pytestmark = pytest.mark.anyio

DOCUMENT_TOKENS = 100
PROMPT_TOKENS = DOCUMENT_TOKENS + TEMPLATE_TOKENS
FULL_BLOCKS = PROMPT_TOKENS // 16
CACHED = 96
"""Whole blocks of 16 below the last of 107 prompt tokens."""


async def new_sources(emulator: Deployment, text: str, **fields: object) -> dict[str, float]:
    """Tokens by source of one more request."""
    before = await emulator.sources()
    await emulator.usage(text, **fields)
    after = await emulator.sources()
    return {source: after[source] - before[source] for source in after}


async def test_a_new_prompt_is_computed(emulator: Deployment) -> None:
    tokens = await new_sources(emulator, document(DOCUMENT_TOKENS, "cold"))
    assert tokens == {"computed": PROMPT_TOKENS, "device": 0, "external": 0}


async def test_a_repeated_prompt_comes_from_the_device(emulator: Deployment) -> None:
    text = document(DOCUMENT_TOKENS, "warm")
    await emulator.usage(text)
    assert await new_sources(emulator, text) == {"computed": PROMPT_TOKENS - CACHED, "device": CACHED, "external": 0}


async def test_after_a_reset_it_comes_from_the_store(emulator: Deployment) -> None:
    text = document(DOCUMENT_TOKENS, "exte")
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    assert await new_sources(emulator, text) == {"computed": PROMPT_TOKENS - CACHED, "device": 0, "external": CACHED}


async def test_loaded_tokens_are_on_the_device_afterwards(emulator: Deployment) -> None:
    text = document(DOCUMENT_TOKENS, "load")
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    await emulator.usage(text)
    assert (await new_sources(emulator, text))["device"] == CACHED


async def test_usage_tells_device_and_external_as_one_number(emulator: Deployment) -> None:
    text = document(DOCUMENT_TOKENS, "once")
    await emulator.usage(text)
    from_device = await emulator.cached_tokens(text)
    await emulator.quiet_and_reset()
    assert from_device == await emulator.cached_tokens(text) == CACHED


async def test_prompts_with_a_common_document_share_its_blocks(emulator: Deployment) -> None:
    shared = document(DOCUMENT_TOKENS, "shar")
    await emulator.usage(f"{shared} what")
    tokens = await new_sources(emulator, f"{shared} when")
    assert tokens == {"computed": PROMPT_TOKENS + 1 - CACHED, "device": CACHED, "external": 0}


async def test_a_prefix_on_the_device_is_continued_from_the_store(emulator: Deployment) -> None:
    long = document(200, "cont")
    short = document(DOCUMENT_TOKENS, "cont")
    await emulator.usage(long)
    await emulator.quiet_and_reset()
    await emulator.usage(short)  # the first 96 tokens are on the device now
    assert await new_sources(emulator, long) == {"computed": 207 - 192, "device": 96, "external": 96}


async def test_another_cache_salt_misses_everywhere(emulator: Deployment) -> None:
    text = document(DOCUMENT_TOKENS, "salt")
    await emulator.usage(text, cache_salt="one")
    assert (await new_sources(emulator, text, cache_salt="two"))["computed"] == PROMPT_TOKENS


async def test_without_a_connector_nothing_is_external() -> None:
    async with deployed(quick(connector="none")) as emulator:
        text = document(DOCUMENT_TOKENS, "base")
        await emulator.usage(text)
        assert (await new_sources(emulator, text))["device"] == CACHED
        await emulator.quiet_and_reset()
        assert await new_sources(emulator, text) == {"computed": PROMPT_TOKENS, "device": 0, "external": 0}
        reading = await emulator.engine_metrics()
        assert reading.total("vllm:external_prefix_cache_queries_total") == 0
        assert (await emulator.store_metrics()).total("master_key_count") == 0


@pytest.fixture(scope="module")
async def with_lmcache(anyio_backend: str) -> AsyncIterator[Deployment]:
    async with deployed(quick(connector="lmcache-mp")) as deployment:
        yield deployment


async def stored_keys(emulator: Deployment) -> float:
    return (await emulator.store_metrics()).total("master_key_count")


async def test_lmcache_stores_and_finds_whole_chunks_of_256_tokens(with_lmcache: Deployment) -> None:
    before = await stored_keys(with_lmcache)
    text = document(600, "chun")
    await with_lmcache.usage(text)
    await with_lmcache.quiet_and_reset()
    assert await stored_keys(with_lmcache) - before == 2
    assert await new_sources(with_lmcache, text) == {"computed": 607 - 512, "device": 0, "external": 512}


async def test_a_prompt_below_one_chunk_never_reaches_the_store(with_lmcache: Deployment) -> None:
    before = await stored_keys(with_lmcache)
    await with_lmcache.usage(document(200, "shor"))
    await with_lmcache.quiet_and_reset()
    assert await stored_keys(with_lmcache) == before


async def test_reset_external_does_not_reach_the_store_behind_lmcache(with_lmcache: Deployment) -> None:
    text = document(300, "keep")
    await with_lmcache.usage(text)
    await with_lmcache.quiet_and_reset()
    assert await with_lmcache.reset_device(reset_external="true")
    assert (await new_sources(with_lmcache, text))["external"] == 256


async def test_queries_and_hits_are_counted_per_tier(emulator: Deployment) -> None:
    text = document(DOCUMENT_TOKENS, "quer")
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    before = await emulator.engine_metrics()
    await emulator.usage(text)
    await emulator.usage(text)
    after = await emulator.engine_metrics()
    moved = {
        name: after.total(f"vllm:{name}_total") - before.total(f"vllm:{name}_total")
        for name in (
            "prefix_cache_queries",
            "prefix_cache_hits",
            "external_prefix_cache_queries",
            "external_prefix_cache_hits",
            "prompt_tokens",
            "prompt_tokens_cached",
            "generation_tokens",
        )
    }
    assert moved == {
        "prefix_cache_queries": 2 * PROMPT_TOKENS,
        "prefix_cache_hits": CACHED,
        "external_prefix_cache_queries": PROMPT_TOKENS + PROMPT_TOKENS - CACHED,
        "external_prefix_cache_hits": CACHED,
        "prompt_tokens": 2 * PROMPT_TOKENS,
        "prompt_tokens_cached": 2 * CACHED,
        "generation_tokens": 2,
    }


async def test_engine_and_store_agree_on_the_bytes_that_moved(emulator: Deployment) -> None:
    async def moved_bytes() -> list[float]:
        engine, store = await emulator.engine_metrics(), await emulator.store_metrics()
        name = "vllm:mooncake_store_operation_bytes_total"
        return [
            engine.total(name, operation="load_get", status="ok"),
            store.total("mem_cache_hit_bytes_total"),
            engine.total(name, operation="save_put", status="ok"),
            store.total("master_allocated_bytes"),
        ]

    before = await moved_bytes()
    text = document(DOCUMENT_TOKENS, "byte")
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    await emulator.usage(text)
    read, stored = CACHED * 327_680, FULL_BLOCKS * 16 * 327_680
    after = await moved_bytes()
    assert [now - then for now, then in zip(after, before, strict=True)] == [read, read, stored, stored]


async def test_what_is_stored_is_not_stored_again(emulator: Deployment) -> None:
    text = document(DOCUMENT_TOKENS, "twic")
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    before = await emulator.store_metrics()
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    after = await emulator.store_metrics()
    name = "master_batch_put_start_requests_total"
    assert after.total(name) == before.total(name)


async def test_a_full_store_evicts_and_the_evicted_prompt_is_computed() -> None:
    one_prompt = FULL_BLOCKS * 16 * 1000
    async with deployed(quick(kv_bytes_per_token=1000, external_capacity_bytes=one_prompt)) as emulator:
        first, second = document(DOCUMENT_TOKENS, "old0"), document(DOCUMENT_TOKENS, "new0")
        for text in (first, second):
            await emulator.usage(text)
            await emulator.quiet_and_reset()
        assert (await new_sources(emulator, second))["external"] == CACHED
        await emulator.quiet_and_reset()
        assert (await new_sources(emulator, first))["computed"] == PROMPT_TOKENS


async def test_a_reset_is_refused_while_a_request_holds_blocks(emulator: Deployment) -> None:
    await emulator.set_fault(FaultKind.STALL)
    url = f"{emulator.addresses.engine}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "Hold"}], "stream": True, "ignore_eos": True}
    async with emulator.http.stream("POST", url, json=body) as answer:
        await anext(answer.aiter_raw())
        refused = await emulator.reset_device()
    await emulator.set_fault(FaultKind.NONE)
    assert refused is False
    await emulator.quiet_and_reset()


async def test_a_reset_is_refused_while_a_prompt_is_being_stored() -> None:
    bytes_a_second_that_never_end = 1.0
    async with deployed(quick(external_bandwidth=bytes_a_second_that_never_end)) as emulator:
        await emulator.usage(document(DOCUMENT_TOKENS, "slow"))
        assert await emulator.reset_device() is False


async def test_reset_external_empties_the_whole_store() -> None:
    async with deployed(quick()) as emulator:
        text = document(DOCUMENT_TOKENS, "wipe")
        await emulator.usage(text)
        await emulator.quiet_and_reset()
        assert await emulator.reset_device(reset_external="true")
        assert (await emulator.store_metrics()).total("master_key_count") == 0
        assert (await new_sources(emulator, text))["computed"] == PROMPT_TOKENS


async def test_another_engine_finds_what_the_first_one_stored() -> None:
    text = document(DOCUMENT_TOKENS, "inst")
    async with deployed(quick(role="store")) as store:
        as_engine = quick(role="engine", store_address=store.addresses.store_rpc)
        async with deployed(as_engine) as first:
            await first.usage(text)
            await first.quiet_and_reset()
        async with deployed(as_engine) as second:
            assert (await new_sources(second, text))["external"] == CACHED


async def test_a_store_that_dies_turns_hits_into_misses() -> None:
    text = document(DOCUMENT_TOKENS, "dead")
    async with contextlib.AsyncExitStack() as store_lives:
        store = await store_lives.enter_async_context(deployed(quick(role="store")))
        async with deployed(quick(role="engine", store_address=store.addresses.store_rpc)) as engine:
            await engine.usage(text)
            await engine.quiet_and_reset()
            await store_lives.aclose()
            assert (await new_sources(engine, text))["computed"] == PROMPT_TOKENS
            reading = await engine.engine_metrics()
    name = "vllm:mooncake_store_operation_total"
    assert reading.total(name, operation="lookup_exists", status="error") == 1


async def test_a_load_takes_queue_time_and_lets_others_go_on() -> None:
    bandwidth_that_never_ends = 1.0
    async with deployed(quick(role="store")) as store:
        address = store.addresses.store_rpc
        async with deployed(quick(role="engine", store_address=address)) as writer:
            await writer.usage(document(DOCUMENT_TOKENS, "wait"))
            await writer.quiet_and_reset()
        slow = quick(role="engine", store_address=address, external_bandwidth=bandwidth_that_never_ends)
        async with deployed(slow) as reader:
            loading = asyncio.create_task(reader.usage(document(DOCUMENT_TOKENS, "wait")))
            await until(lambda: _loads_under_way(reader))
            assert (await reader.usage("Others go on"))["completion_tokens"] == 1
            assert not loading.done()
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading


async def _loads_under_way(emulator: Deployment) -> float:
    reading = await emulator.engine_metrics()
    return reading.total("vllm:num_requests_kv_fetch_by_stage", stage="in_progress")
