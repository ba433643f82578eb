"""LMCache's server and Mooncake's master."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from kvkit.observe import lmcache, mooncake
from kvkit.observe.prometheus import Change, Reading, parse
from kvkit.observe.reset import ResetError


@pytest.mark.parametrize(
    ("submitted", "completed", "busy"),
    [(5.0, 3.0, "2 stores of LMCache on their way to the second tier"), (5, 5, None)],
)
def test_stores_on_their_way_keep_lmcache_busy(submitted: float, completed: float, busy: str | None) -> None:
    seen = Reading(
        {
            "lmcache_mp_l2_store_submitted_requests_total": submitted,
            'lmcache_mp_l2_store_completed_requests_total{l2_name="plugin"}': completed,
        }
    )
    assert lmcache.busy(seen) == busy


def test_an_lmcache_that_tells_nothing_is_not_called_busy() -> None:
    assert lmcache.busy(Reading(problem="no answer")) is None


def test_a_chunk_that_another_request_is_loading_is_no_failed_load() -> None:
    name = "lmcache_mp_l2_prefetch_failure_chunks_total"
    seen = Change(
        {f'{name}{{reason="l1_oom"}}': 1, f'{name}{{reason="not_found"}}': 2, f'{name}{{reason="l1_contended"}}': 4}
    )
    assert lmcache.failed_loads(seen) == 3


def clear(answer: httpx.Response) -> list[httpx.Request]:
    asked: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
            await lmcache.clear_first_tier(http, "http://host:8085/")

    asyncio.run(story())
    return asked


def test_only_the_first_tier_is_cleared_and_nothing_in_use() -> None:
    (request,) = clear(httpx.Response(200, json={"status": "ok"}))
    assert (request.method, str(request.url)) == ("POST", "http://host:8085/cache/clear")
    assert json.loads(request.content) == {"tier": "l1", "force": False}


def test_a_first_tier_that_is_not_cleared_is_an_error_with_the_servers_words() -> None:
    with pytest.raises(ResetError, match="http://host:8085/cache/clear: HTTP 503: not initialized"):
        clear(httpx.Response(503, text="not initialized"))


@pytest.mark.parametrize(
    ("host", "url"),
    [("10.0.0.1", "http://10.0.0.1:9003/metrics"), ("fd00::1", "http://[fd00::1]:9003/metrics")],
)
def test_the_masters_address(host: str, url: str) -> None:
    assert mooncake.metrics_url(host, 9003) == url


def test_the_rate_of_loads_from_the_second_tier_is_read() -> None:
    """As OpenTelemetry's exporter for Prometheus writes LMCache's histogram."""
    name = "lmcache_mp_l2_load_throughput_GB_per_second"
    labels = '{l2_name="plugin",otel_scope_name="lmcache_mp.perf"}'
    page = f"# TYPE {name} histogram\n{name}_count{labels} 4.0\n{name}_sum{labels} 6.0\n"
    read = parse(page, lmcache.NAMES).counters
    assert {key.partition("{")[0]: value for key, value in read.items()} == {f"{name}_count": 4, f"{name}_sum": 6}
