"""How many tokens lie under one key of the store: only whole chunks are stored and found."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from kvkit.observe import vllm
from kvkit.observe.prometheus import Reading

LMCACHE_DEFAULT = 256
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Chunk:
    tokens: int | None
    told_by: str
    """Who told it, or why nobody did."""


async def ask_chunk(
    http: httpx.AsyncClient,
    *,
    configured: int | None,
    lmcache_url: str | None,
    connector: str | None,
    engine: Reading,
) -> Chunk:
    """Find the chunk: configured, told by LMCache's server, LMCache's default, or vLLM's block.

    Args:
        http: sends no key.
        configured: `service.chunk_tokens`.
        lmcache_url: of LMCache's server, if one is part of the deployment.
        connector: the connector's class, if the engine names it.
        engine: what one instance told after its first request: a connector's counters appear with its first call.
    """
    if configured is not None:
        return Chunk(configured, "service.chunk_tokens")
    if lmcache_url is not None and (told := await _of_lmcache_server(http, lmcache_url)) is not None:
        return Chunk(told, "LMCache's server")
    if lmcache_url is not None or (connector or "").startswith("LMCache"):
        return Chunk(LMCACHE_DEFAULT, "LMCache's default")
    if connector == "MooncakeStoreConnector" or (connector is None and _calls_mooncake(engine)):
        return Chunk(vllm.block_tokens(engine), "vLLM's KV block")
    return Chunk(None, "the engine does not name its connector" if connector is None else f"connector {connector}")


async def _of_lmcache_server(http: httpx.AsyncClient, url: str) -> int | None:
    try:
        answer = (await http.get(f"{url.rstrip('/')}/status", timeout=_TIMEOUT_S)).json()
    except (httpx.HTTPError, ValueError):
        return None
    told = answer.get("chunk_size") if isinstance(answer, dict) else None
    return told if isinstance(told, int) and told > 0 else None


def _calls_mooncake(engine: Reading) -> bool:
    return any(key.startswith("vllm:mooncake_store_operation_total") for key in engine.counters)
