"""Rounds sent by worker processes: how they are split, that their records come in, and that no process stays."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from kvkit.load.client import ChatClient, ChatSettings
from kvkit.load.lag import LoopLag
from kvkit.load.share import Share
from kvkit.load.workers import (
    EVENTS_PER_S_AND_STREAM,
    EVENTS_PER_S_AND_WORKER,
    WorkerError,
    choose_workers,
    send_round,
    split,
)
from kvkit.results.record import Record
from kvkit.workload.request import Message, Request
from tests.load import chunks
from tests.load.scripted import STALL, ScriptedServer, serving

KEY = "sk-very-secret"


def request(name: str, after: str | None = None) -> Request:
    return Request(name, name, (Message("user", name),), prompt_tokens=1, max_tokens=3, after=after)


def share(*requests: Request, concurrency: int | None = None) -> Share:
    return Share(round_number=2, requests=requests, concurrency=concurrency)


def names(shares: Sequence[Share]) -> list[str]:
    return [" ".join(request.request_id for request in share.requests) for share in shares]


def test_requests_are_dealt_out_in_turn() -> None:
    assert names(split(share(*map(request, "abcde")), 2)) == ["a c e", "b d"]


def test_requests_that_follow_each_other_stay_together_in_their_order() -> None:
    a1, a2, a3 = request("a1"), request("a2", after="a1"), request("a3", after="a2")
    b1, b2 = request("b1"), request("b2", after="b1")
    assert names(split(share(a1, b1, a2, request("c1"), b2, a3), 2)) == ["a1 a2 c1 a3", "b1 b2"]


@pytest.mark.parametrize(("concurrency", "shared_out"), [(7, [3, 2, 2]), (3, [1, 1, 1]), (None, [None] * 3)])
def test_the_concurrency_is_shared_out(concurrency: int | None, shared_out: list[int | None]) -> None:
    whole = share(*map(request, "abcdefgh"), concurrency=concurrency)
    assert [part.concurrency for part in split(whole, 3)] == shared_out


def test_each_request_keeps_its_own_start() -> None:
    whole = replace(share(*map(request, "abc")), starts=[0.0, 0.5, 1.5])
    assert [part.starts for part in split(whole, 2)] == [[0.0, 1.5], [0.5]]


STREAMS_OF_ONE = EVENTS_PER_S_AND_WORKER // EVENTS_PER_S_AND_STREAM


@pytest.mark.parametrize(
    ("streams", "cores", "workers"),
    [(1, 8, 1), (STREAMS_OF_ONE, 8, 1), (STREAMS_OF_ONE + 1, 8, 2), (10 * STREAMS_OF_ONE, 4, 4)],
)
def test_workers_are_as_many_as_the_streams_want_and_the_cores_allow(
    streams: int, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    many = share(*(request(f"r{number}") for number in range(2000)), concurrency=streams)
    assert choose_workers("auto", many) == workers


def test_requests_that_arrive_slowly_want_one_worker() -> None:
    # 2,000 requests of 3 tokens over 1,999 s: about 3 events a second
    slow = Share(1, [request(f"r{number}") for number in range(2000)], None, starts=[float(n) for n in range(2000)])
    assert choose_workers("auto", slow) == 1


@pytest.mark.parametrize(("concurrency", "workers"), [(None, 2), (1, 1), (8, 2)])
def test_there_are_no_more_workers_than_requests_to_send_side_by_side(concurrency: int | None, workers: int) -> None:
    two_sessions = share(request("a1"), request("a2", "a1"), request("b1"), concurrency=concurrency)
    assert choose_workers(4, two_sessions) == workers


def play(
    server: ScriptedServer, *, requests: int, then: Callable[[asyncio.Task[None], list[Record]], object]
) -> tuple[list[Record], tuple[LoopLag, ...]]:
    """Send `requests` from two workers, and call `then` on the round and its records when the first request is in."""
    records: list[Record] = []
    lags: tuple[LoopLag, ...] = ()

    async def story() -> None:
        nonlocal lags
        async with serving(server), ChatClient(ChatSettings(server.url, "m", 0.0, 20.0, KEY)) as client:
            whole = share(*(request(f"r{number}") for number in range(requests)))

            async def send() -> None:
                nonlocal lags
                lags = await send_round(client, whole, workers=2, on_record=records.append)

            running = asyncio.create_task(send())
            await server.asked.wait()
            then(running, records)
            await running

    asyncio.run(story())
    return records, lags


def nothing(_running: asyncio.Task[None], _records: list[Record]) -> None:
    """The round goes its way."""


def test_every_record_of_every_worker_comes_in_once_on_one_clock() -> None:
    server = ScriptedServer(chunks.good("a", "b", "c"))
    records, lags = play(server, requests=6, then=nothing)
    assert sorted(record.request_id for record in records) == [f"r{number}" for number in range(6)]
    assert all(record.ok and record.round == 2 for record in records)
    assert len(lags) == 2
    assert all(0 <= record.scheduled_s <= record.start_s for record in records)  # none began before the agreed instant
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed_ends_the_round_with_its_name_and_the_signal() -> None:
    def kill_one(_running: asyncio.Task[None], _records: list[Record]) -> None:
        process = multiprocessing.active_children()[0]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(WorkerError, match=r"worker process \d of 2 was ended by SIGKILL"):
        play(ScriptedServer([STALL]), requests=2, then=kill_one)
    assert multiprocessing.active_children() == []


def test_a_round_that_is_stopped_leaves_no_process() -> None:
    with pytest.raises(asyncio.CancelledError):
        play(ScriptedServer([STALL]), requests=2, then=lambda running, _records: running.cancel())
    assert multiprocessing.active_children() == []


def test_a_start_is_held_against_the_client_only_where_nothing_else_can_delay_it() -> None:
    a1, a2 = request("a1"), request("a2", after="a1")
    thinking = replace(a2, think_time_s=1.0)
    open_loop = replace(share(a1, request("b")), starts=[0.0, 1.0])
    assert open_loop.held_to_schedule
    assert replace(open_loop, requests=[a1, thinking]).held_to_schedule
    assert not replace(open_loop, requests=[a1, a2]).held_to_schedule
    assert not replace(open_loop, concurrency=4).held_to_schedule
    assert not share(a1, request("b")).held_to_schedule
