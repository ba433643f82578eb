"""Tokens under one key of the store: configured, told, or unknown."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from kvkit.observe.chunk import Chunk, ask_chunk
from kvkit.observe.prometheus import Reading

PAGE = {'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"}': 1.0}
CALLED = {'vllm:mooncake_store_operation_total{operation="save_put",status="ok"}': 3.0}


@pytest.mark.parametrize(
    ("configured", "lmcache", "connector", "counters", "expected"),
    [
        (512, httpx.Response(200, json={"chunk_size": 64}), None, {}, Chunk(512, "service.chunk_tokens")),
        (None, httpx.Response(200, json={"chunk_size": 64}), None, {}, Chunk(64, "LMCache's server")),
        (None, httpx.Response(404), None, {}, Chunk(256, "LMCache's default")),
        (None, None, "LMCacheConnectorV1", {}, Chunk(256, "LMCache's default")),
        (None, None, "MooncakeStoreConnector", {}, Chunk(16, "vLLM's KV block")),
        (None, None, None, CALLED, Chunk(16, "vLLM's KV block")),
        (None, None, None, {}, Chunk(None, "the engine does not name its connector")),
        (None, None, "OffloadingConnector", {}, Chunk(None, "connector OffloadingConnector")),
    ],
)
def test_who_tells_the_chunk(
    configured: int | None,
    lmcache: httpx.Response | None,
    connector: str | None,
    counters: dict[str, float],
    expected: Chunk,
) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://cache:8085/status"
        assert lmcache is not None
        return lmcache

    async def story() -> Chunk:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
            return await ask_chunk(
                http,
                configured=configured,
                lmcache_url="http://cache:8085" if lmcache else None,
                connector=connector,
                engine=Reading(counters=counters, states=PAGE),
            )

    assert asyncio.run(story()) == expected
