"""Several engines behind one address: their counters are summed, and what concerns all is asked of each."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx

from kvkit.observe.servers import Changes, Servers
from kvkit.observe.vllm import Sources, attribute

FIRST, SECOND = "http://first:8000", "http://second:8000"

RISES = {"first": {"local_compute": 100, "external_kv_transfer": 7}, "second": {"local_compute": 11}}
"""Prompt tokens by source from one look at an engine to the next."""


class Instances:
    def __init__(self, silent: str = "") -> None:
        self._silent = silent
        self._looks: Counter[str] = Counter()
        self.reset: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if request.url.path == "/reset_prefix_cache":
            self.reset.append(host)
            return httpx.Response(200, json={"success": True})
        if host == self._silent:
            return httpx.Response(503)
        self._looks[host] += 1
        lines = ["# TYPE vllm:prompt_tokens_by_source counter"]
        for source, rise in RISES[host].items():
            total = 1000 + self._looks[host] * rise
            lines.append(f'vllm:prompt_tokens_by_source_total{{engine="0",source="{source}"}} {total}')
        return httpx.Response(200, text="\n".join([*lines, ""]))

    def servers(self, http: httpx.AsyncClient) -> Servers:
        return Servers(http, http, engines=[FIRST, SECOND], lmcache_url=None, mooncake_metrics_url=None)

    def changes(self) -> Changes:
        async def story() -> Changes:
            async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer)) as http:
                servers = self.servers(http)
                before = await servers.snapshot()
                return Changes.between(before, await servers.snapshot())

        return asyncio.run(story())


def test_their_counters_are_summed() -> None:
    assert attribute(Instances().changes().vllm) == Sources(computed=111, device=0, external=7)


def test_when_one_tells_nothing_the_sum_is_unknown() -> None:
    changes = Instances(silent="second").changes()
    assert attribute(changes.vllm) == Sources()
    assert changes.vllm.problem == f"{SECOND}/metrics: HTTP 503"


def test_the_device_cache_of_each_is_cleared() -> None:
    instances = Instances()

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(instances.answer)) as http:
            await instances.servers(http).clear_device_cache()

    asyncio.run(story())
    assert instances.reset == ["first", "second"]


def test_stretches_of_time_add_up() -> None:
    instances = Instances()
    together = Changes.together([instances.changes(), instances.changes()])
    assert attribute(together.vllm) == Sources(computed=222, device=0, external=14)
