"""The servers of a run, looked at together."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import pytest

from kvkit.observe import quiet
from kvkit.observe.prometheus import Reading
from kvkit.observe.reset import ResetError
from kvkit.observe.servers import NOT_CONFIGURED, Servers, Snapshot, lost_meanwhile

T = TypeVar("T")

ENGINE, LMCACHE, MASTER = "http://engine:8000", "http://cache:8085", "http://master:9003/metrics"


class Site:
    """An engine, an LMCache server and a Mooncake master; remembers who was asked what, with which key."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: dict[str, str | None] = {}
        self.running = [0]
        """Requests running in the engine, look by look; the last stays."""
        self.stores = [(0, 0)]
        """LMCache's stores to its second tier, submitted and completed, look by look; the last stays."""
        self.clear_status = 200

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.host}{request.url.path}")
        self.keys[request.url.host] = request.headers.get("Authorization")
        match request.url.host, request.url.path:
            case "engine", "/metrics":
                return httpx.Response(200, text=f"vllm:num_requests_running {_next(self.running)}\n")
            case "engine", "/reset_prefix_cache":
                return httpx.Response(200, json={"success": True})
            case "cache", "/metrics":
                submitted, completed = _next(self.stores)
                return httpx.Response(
                    200,
                    text="# TYPE lmcache_mp_l2_store_submitted_requests_total counter\n"
                    f"lmcache_mp_l2_store_submitted_requests_total {submitted}\n"
                    "# TYPE lmcache_mp_l2_store_completed_requests_total counter\n"
                    f"lmcache_mp_l2_store_completed_requests_total {completed}\n",
                )
            case "cache", "/cache/clear":
                return httpx.Response(self.clear_status)
            case "master", "/metrics":
                return httpx.Response(200, text="master_key_count 5\n")
        return httpx.Response(404)


def _next(values: list[T]) -> T:
    return values.pop(0) if len(values) > 1 else values[0]


def ask(
    site: Site,
    what: Callable[[Servers], Awaitable[T]],
    *,
    lmcache: str | None = LMCACHE,
    master: str | None = MASTER,
) -> T:
    async def story() -> T:
        transport = httpx.MockTransport(site.answer)
        key = {"Authorization": "Bearer key"}
        async with (
            httpx.AsyncClient(transport=transport, headers=key) as engine_http,
            httpx.AsyncClient(transport=transport) as http,
        ):
            return await what(
                Servers(engine_http, http, engines=[ENGINE], lmcache_url=lmcache, mooncake_metrics_url=master)
            )

    return asyncio.run(story())


def test_a_snapshot_asks_every_server_and_gives_the_key_to_the_engine_alone() -> None:
    site = Site()
    seen = ask(site, Servers.snapshot)
    assert sorted(site.asked) == ["GET cache/metrics", "GET engine/metrics", "GET master/metrics"]
    assert site.keys == {"engine": "Bearer key", "cache": None, "master": None}
    assert seen.mooncake.levels == {"master_key_count": 5.0}
    assert seen.problems() == ()


def test_a_server_without_an_address_is_not_asked_and_no_problem() -> None:
    site = Site()
    seen = ask(site, Servers.snapshot, lmcache=None, master=None)
    assert site.asked == ["GET engine/metrics"]
    assert (seen.lmcache.problem, seen.mooncake.problem, seen.problems()) == (NOT_CONFIGURED, NOT_CONFIGURED, ())


def test_clearing_reaches_the_engine_and_then_lmcaches_first_tier() -> None:
    site = Site()
    ask(site, Servers.clear_device_cache)
    assert site.asked == ["POST engine/reset_prefix_cache", "POST cache/cache/clear"]


def test_without_an_lmcache_server_only_the_engine_is_cleared() -> None:
    site = Site()
    ask(site, Servers.clear_device_cache, lmcache=None)
    assert site.asked == ["POST engine/reset_prefix_cache"]


def test_a_first_tier_that_stays_is_an_error() -> None:
    site = Site()
    site.clear_status = 500
    with pytest.raises(ResetError, match="cache:8085/cache/clear: HTTP 500"):
        ask(site, Servers.clear_device_cache)


@pytest.mark.parametrize(
    ("running", "stores", "looks"),
    [([0], [(3, 3)], 2), ([1, 1, 0], [(3, 3)], 4), ([0], [(3, 1), (3, 2), (3, 3)], 4), ([0], [(3, 3), (4, 4)], 3)],
)
def test_quiet_is_an_idle_engine_and_no_store_on_its_way(
    running: list[int], stores: list[tuple[int, int]], looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvkit.observe.servers.wait_quiet", functools.partial(quiet.wait_quiet, poll_s=0))
    site = Site()
    site.running, site.stores = running, stores
    assert ask(site, Servers.wait_quiet) is None
    assert site.asked.count("GET engine/metrics") == looks


RESTARTED = Reading(process_started_s=2.0)
THERE, GONE = Reading(process_started_s=1.0), Reading(problem="http://master:9003/metrics: no answer (refused)")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (THERE, THERE, ()),
        (THERE, GONE, (f"the store was lost in this round: {GONE.problem}",)),
        (
            THERE,
            Reading(process_started_s=2.0),
            ("the store was lost in this round: the server was restarted in between",),
        ),
        (GONE, GONE, ()),
        (GONE, THERE, ()),
    ],
)
def test_a_store_that_was_lost_in_a_round_is_told(before: Reading, after: Reading, told: tuple[str, ...]) -> None:
    absent = Reading(problem=NOT_CONFIGURED)
    lost = lost_meanwhile(Snapshot((), absent, before), Snapshot((), absent, after))
    assert lost == told
