"""Clear vLLM's own (device) prefix cache, and make sure that it is cleared.

`POST /reset_prefix_cache` (vLLM with `VLLM_SERVER_DEV_MODE=1`) answers HTTP 200 even when blocks are still held: the
body says it since 0.26, before that it is empty. `reset_external` is never asked for: on some connectors it wipes the
whole cluster's store, on others it does nothing and says success.
"""

from __future__ import annotations

import asyncio
import time

import httpx

LIMIT_S = 120.0
_POLL_S = 0.5
_REQUEST_TIMEOUT_S = 30.0
_NOT_OFFERED = (404, 405, 501)


class ResetError(Exception):
    """A cache was not cleared. The message says who answered what."""


class ResetNotOfferedError(ResetError):
    """The engine has no such route."""


async def reset_device_cache(
    http: httpx.AsyncClient, root: str, *, limit_s: float = LIMIT_S, poll_s: float = _POLL_S
) -> None:
    """Ask until the engine says that its prefix cache is empty.

    Args:
        http: sends the API key itself.
        root: the engine's address without `/v1`.
        limit_s: how long to ask again.
        poll_s: the pause between two tries.

    Raises:
        ResetNotOfferedError: the engine does not offer it.
        ResetError: no success within `limit_s`, or an answer that is none.
    """
    url = f"{root}/reset_prefix_cache"
    deadline = time.monotonic() + limit_s
    while True:
        try:
            response = await http.post(url, timeout=_REQUEST_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise ResetError(f"{url}: no answer ({error or type(error).__name__})") from None
        if response.status_code in _NOT_OFFERED:
            raise ResetNotOfferedError(f"{url}: HTTP {response.status_code} (start vLLM with VLLM_SERVER_DEV_MODE=1)")
        if response.status_code != 200:
            raise ResetError(f"{url}: HTTP {response.status_code}: {response.text[:100]}")
        if _succeeded(response):
            return
        if time.monotonic() >= deadline:
            raise ResetError(f"{url}: blocks of the prefix cache are still held after {limit_s:g} s")
        await asyncio.sleep(poll_s)


def _succeeded(response: httpx.Response) -> bool:
    if not response.content.strip():
        return True
    try:
        body = response.json()
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("success") is True
