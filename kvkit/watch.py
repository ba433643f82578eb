"""The servers' counters while they change, look by look, until somebody stops it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count

import httpx

from kvkit.config import Config
from kvkit.load.client import open_http
from kvkit.observe import live, lmcache, mooncake, vllm
from kvkit.observe.live import Look, ServerKind, WatchedServer
from kvkit.observe.prometheus import read

_ANSWER_WITHIN_S = 5.0
"""A server that takes longer is shown as silent: the others are not kept waiting for it."""

Show = Callable[[Sequence[Look]], None]


class WatchError(Exception):
    """There is nothing to watch. The message is complete: print it as it is."""


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    """Of `/metrics`."""
    kind: ServerKind | None = None
    """`None`: what it tells says what it is."""
    api_key: str | None = None


def addresses_of(config: Config | None, metrics: Sequence[str]) -> list[Address]:
    """Every server that a configuration names, and those at further addresses.

    Raises:
        WatchError: there is none, or an address is none.
    """
    for url in metrics:
        if not re.match(r"https?://[^/\s]+", url):
            raise WatchError(
                f"--metrics: found {url!r}, allowed is the address of a /metrics: http://HOST:PORT/metrics"
            )
    found = [*(_named_in(config) if config else ()), *(Address(url) for url in metrics)]
    if not found:
        raise WatchError("Nothing to watch: give --config FILE, --metrics URL, or both")
    return found


def _named_in(config: Config) -> list[Address]:
    api, cache, store = config.openai_api, config.lmcache, config.mooncake
    key = api.api_key.get_secret_value()
    named = [Address(vllm.metrics_url(url), "vLLM", key) for url in api.instances or (api.base_url,)]
    if cache is not None:
        named.append(Address(lmcache.metrics_url(cache.url), "LMCache server"))
    if store is not None:
        named.append(Address(mooncake.metrics_url(store.master_ip, store.metrics_port), "Mooncake master"))
    return named


def run(addresses: Sequence[Address], *, interval_s: float, show: Show) -> None:
    """Look at all servers every `interval_s` seconds and show it, until Ctrl-C."""
    try:
        asyncio.run(watch(addresses, interval_s=interval_s, show=show))
    except KeyboardInterrupt:
        return


async def watch(addresses: Sequence[Address], *, interval_s: float, show: Show, looks: int | None = None) -> None:
    """Show so many looks; without a number, go on."""
    async with AsyncExitStack() as clients:
        servers = [
            (WatchedServer(address.url, address.kind), await clients.enter_async_context(open_http(address.api_key)))
            for address in addresses
        ]
        due_s = time.monotonic()
        for number in count(1):
            show(await asyncio.gather(*(_look(server, http) for server, http in servers)))
            if number == looks:
                return
            due_s = max(due_s + interval_s, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())


async def _look(server: WatchedServer, http: httpx.AsyncClient) -> Look:
    reading = await read(http, server.url, live.NAMES, timeout_s=_ANSWER_WITHIN_S)
    return server.look(reading, time.monotonic())
