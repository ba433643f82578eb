"""The store's traffic while a round goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx
import pytest

from kvkit.observe.sampling import StoreSampler, StoreSamples

URL = "http://master:9003/metrics"


def page(read: object, held: object | None = None) -> httpx.Response:
    lines = ["# HELP mem_cache_hit_bytes_total 7 of them", f"mem_cache_hit_bytes_total {read}"]
    if held is not None:
        lines += [f"master_allocated_bytes {held}", "master_allocated_bytes_of_others 1"]
    return httpx.Response(200, text="\n".join(lines) + "\n")


def sample(answers: Sequence[httpx.Response | Exception], *, url: str | None = URL) -> tuple[StoreSampler, float]:
    """Look until all answers were given, after which none comes any more; also the instant at which it began."""
    left = list(answers)
    used_up = asyncio.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        given = left.pop(0) if left else httpx.ConnectError("refused")
        if not left:
            used_up.set()
        if isinstance(given, Exception):
            raise given
        return given

    async def story() -> tuple[StoreSampler, float]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            began_s = time.monotonic()
            async with StoreSampler(http, url, every_s=0.001) as store:
                if url is not None:
                    await used_up.wait()
            return store, began_s

    return asyncio.run(asyncio.wait_for(story(), 10))


def seen(answers: Sequence[httpx.Response | Exception]) -> StoreSamples | None:
    store, began_s = sample(answers)
    return store.since(began_s)


def test_bytes_are_counted_from_the_first_look_on() -> None:
    samples = seen([page(100, 50), page(150, 80), page(250, 60)])
    assert samples is not None
    assert (samples.read_bytes, samples.stored_bytes) == ((0, 50, 150), (0, 30, 10))


def test_times_are_counted_from_the_rounds_start_on() -> None:
    store, began_s = sample([page(0), page(0)])
    samples = store.since(began_s - 100)
    assert samples is not None
    assert all(100 <= time_s < 110 for time_s in samples.times_s)
    assert list(samples.times_s) == sorted(samples.times_s)


def test_what_the_store_holds_is_unknown_where_it_does_not_tell() -> None:
    samples = seen([page(0), page(7)])
    assert samples is not None
    assert samples.stored_bytes is None


@pytest.mark.parametrize(
    "silence",
    [httpx.ConnectError("refused"), httpx.Response(500, text="mem_cache_hit_bytes_total 5\n"), page("many")],
    ids=["no answer", "an error", "no number"],
)
def test_a_look_that_failed_is_left_out(silence: httpx.Response | Exception) -> None:
    samples = seen([page(0), silence, page(9)])
    assert samples is not None
    assert samples.read_bytes == (0, 9)


def test_a_store_that_was_restarted_is_unknown() -> None:
    assert seen([page(100), page(5), page(200)]) is None


def test_a_store_that_told_once_is_unknown() -> None:
    assert seen([page(100)]) is None


def test_the_last_look_is_after_the_rounds_end() -> None:
    async def story() -> StoreSampler:
        looks = iter((page(0), page(4)))
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(looks))) as http:
            async with StoreSampler(http, URL, every_s=3600) as store:
                pass
            return store

    samples = asyncio.run(story()).since(0.0)
    assert samples is not None
    assert samples.read_bytes == (0, 4)


def test_without_an_address_nothing_is_asked() -> None:
    store, began_s = sample([], url=None)
    assert store.since(began_s) is None
