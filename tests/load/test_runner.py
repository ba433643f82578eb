"""Who starts when. Requests end when the test says so; no clock is involved."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from kvkit.load.runner import run_round
from kvkit.results.record import Record
from kvkit.workload.request import Message, Request


def request(name: str, after: str | None = None) -> Request:
    return Request(name, name, (Message("user", name),), prompt_tokens=1, max_tokens=1, after=after)


class Stage:
    """Knows which requests have started, and ends them on command."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.started: list[str] = []
        self.scheduled_s: dict[str, float] = {}
        self.kept: list[str] = []
        self.cancelled: list[str] = []
        self._ends: dict[str, asyncio.Future[bool]] = {}
        self._starting: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def send(self, request: Request, scheduled_s: float) -> Record:
        name = request.request_id
        self.log.append(f"send {name}")
        self.started.append(name)
        self.scheduled_s[name] = scheduled_s
        self._ends[name] = asyncio.get_running_loop().create_future()
        self._starting[name].set()
        try:
            ok = await self._ends[name]
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return Record(name, round=1, group=name, scheduled_s=scheduled_s, start_s=scheduled_s, ok=ok)

    def keep(self, record: Record) -> None:
        self.log.append(f"keep {record.request_id}")
        self.kept.append(record.request_id)

    async def end(self, name: str, *, ok: bool = True) -> None:
        self._ends[name].set_result(ok)
        await settle()

    async def until_started(self, name: str) -> None:
        await self._starting[name].wait()

    async def round(
        self,
        *requests: Request,
        concurrency: int | None = None,
        on_record: Callable[[Record], None] | None = None,
    ) -> asyncio.Task[None]:
        running = asyncio.create_task(
            run_round(requests, send=self.send, concurrency=concurrency, on_record=on_record or self.keep)
        )
        await settle()
        return running


async def settle() -> None:
    """Let every task run until it waits for something that the test holds."""
    for _ in range(10):
        await asyncio.sleep(0)


def play(story: Callable[[Stage], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await story(Stage())

    asyncio.run(bounded())


def test_without_a_limit_all_start_at_once_in_order() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(*(request(name) for name in "abcde"))
        assert stage.started == list("abcde")
        for name in "ecadb":
            await stage.end(name)
        await running
        assert stage.kept == list("ecadb")

    play(story)


def test_with_a_limit_the_next_starts_when_one_ends() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(*(request(name) for name in "abcd"), concurrency=2)
        assert stage.started == ["a", "b"]
        await stage.end("b")
        assert stage.started == ["a", "b", "c"]
        await stage.end("c")
        await stage.end("a")
        await stage.end("d")
        await running

    play(story)


def test_a_turn_starts_when_the_one_before_it_has_ended() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(request("a1"), request("b1"), request("a2", after="a1"), request("b2", after="b1"))
        assert stage.started == ["a1", "b1"]
        await stage.end("b1")
        assert stage.started == ["a1", "b1", "b2"]
        await stage.end("a1")
        assert stage.started == ["a1", "b1", "b2", "a2"]
        await stage.end("a2")
        await stage.end("b2")
        await running

    play(story)


def test_a_turn_starts_also_after_a_failed_one() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(request("a1"), request("a2", after="a1"))
        await stage.end("a1", ok=False)
        assert stage.started == ["a1", "a2"]
        await stage.end("a2")
        await running

    play(story)


def test_a_waiting_turn_holds_up_no_other_request() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(request("a1"), request("a2", after="a1"), request("b"), concurrency=2)
        assert stage.started == ["a1", "b"]
        await stage.end("a1")
        await stage.end("a2")
        await stage.end("b")
        await running

    play(story)


def test_of_those_that_may_start_the_earliest_starts_first() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(request("a1"), request("a2", after="a1"), request("b"), request("c"), concurrency=1)
        for name in ("a1", "a2", "b", "c"):
            await stage.end(name)
        await running
        assert stage.started == ["a1", "a2", "b", "c"]

    play(story)


def test_a_request_is_scheduled_when_its_place_becomes_free() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(request("a"), request("b"), concurrency=1)
        before = asyncio.get_running_loop().time()
        await stage.end("a")
        assert stage.scheduled_s["a"] <= before <= stage.scheduled_s["b"]
        await stage.end("b")
        await running

    play(story)


def test_a_record_is_kept_before_the_next_request_is_sent() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(request("a"), request("b"), concurrency=1)
        await stage.end("a")
        assert stage.log == ["send a", "keep a", "send b"]
        await stage.end("b")
        await running

    play(story)


def test_stopping_keeps_what_has_ended_and_cancels_the_rest() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(*(request(name) for name in "abcd"), concurrency=3)
        await stage.end("a")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert stage.kept == ["a"]
        assert sorted(stage.cancelled) == ["b", "c", "d"]

    play(story)


def test_a_record_that_cannot_be_kept_ends_the_round() -> None:
    async def story(stage: Stage) -> None:
        def full_disk(_record: Record) -> None:
            raise OSError(28, "No space left on device")

        running = await stage.round(request("a"), request("b"), on_record=full_disk)
        await stage.end("a")
        with pytest.raises(OSError, match="No space left"):
            await running
        assert stage.cancelled == ["b"]

    play(story)


def test_a_request_that_follows_nobody_is_refused() -> None:
    async def story(stage: Stage) -> None:
        running = await stage.round(request("a2", after="a1"), request("a1"))
        with pytest.raises(ValueError, match="a2 comes after a1, which is no earlier request"):
            await running
        assert stage.started == []

    play(story)


class TestOpenLoop:
    """Arrivals lie in the past or an hour ahead, so that no test waits for a clock."""

    PAST_S = 1000.0
    """The round began so long ago."""

    def arrivals(self, stage: Stage, *requests: Request, starts: list[float], concurrency: int | None = None) -> Any:
        self.epoch_s = time.monotonic() - self.PAST_S
        return run_round(
            requests,
            send=stage.send,
            concurrency=concurrency,
            on_record=stage.keep,
            starts=starts,
            epoch_s=self.epoch_s,
        )

    def test_a_request_is_scheduled_at_its_arrival_however_late_it_starts(self) -> None:
        async def story(stage: Stage) -> None:
            running = asyncio.create_task(self.arrivals(stage, request("a"), request("b"), starts=[1.0, 2.5]))
            await settle()
            assert stage.scheduled_s == {"a": self.epoch_s + 1.0, "b": self.epoch_s + 2.5}
            await stage.end("a")
            await stage.end("b")
            await running

        play(story)

    def test_a_request_does_not_start_before_its_arrival(self) -> None:
        async def story(stage: Stage) -> None:
            running = asyncio.create_task(
                self.arrivals(stage, request("a"), request("b"), starts=[1.0, self.PAST_S + 3600])
            )
            await settle()
            await stage.end("a")
            assert stage.started == ["a"]
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        play(story)

    def test_a_request_starts_once_it_is_due(self) -> None:
        async def story(stage: Stage) -> None:
            running = asyncio.create_task(self.arrivals(stage, request("a"), starts=[self.PAST_S + 0.02]))
            await stage.until_started("a")
            assert time.monotonic() >= stage.scheduled_s["a"]
            await stage.end("a")
            await running

        play(story)

    def test_a_turn_keeps_its_arrival_while_it_waits_for_the_one_before_it(self) -> None:
        async def story(stage: Stage) -> None:
            running = asyncio.create_task(
                self.arrivals(stage, request("a1"), request("a2", after="a1"), starts=[1.0, 2.0])
            )
            await settle()
            assert stage.started == ["a1"]
            await stage.end("a1")
            assert stage.scheduled_s["a2"] == self.epoch_s + 2.0
            await stage.end("a2")
            await running

        play(story)

    def test_with_a_limit_the_earliest_arrival_gets_the_free_place_and_keeps_its_schedule(self) -> None:
        async def story(stage: Stage) -> None:
            running = asyncio.create_task(
                self.arrivals(stage, request("a"), request("b"), request("c"), starts=[1.0, 3.0, 2.0], concurrency=1)
            )
            await settle()
            for name in ("a", "c", "b"):
                await stage.end(name)
            await running
            assert stage.started == ["a", "c", "b"]
            assert stage.scheduled_s["c"] == self.epoch_s + 2.0

        play(story)

    def test_with_think_time_a_later_turn_has_no_arrival_of_its_own(self) -> None:
        async def story(stage: Stage) -> None:
            thinking = replace(request("a2", after="a1"), think_time_s=0.01)
            running = asyncio.create_task(self.arrivals(stage, request("a1"), thinking, starts=[1.0, 2.0]))
            await settle()
            before = time.monotonic()
            await stage.end("a1")
            await stage.until_started("a2")
            assert stage.scheduled_s["a2"] >= before + 0.01
            await stage.end("a2")
            await running

        play(story)

    def test_starts_that_do_not_fit_the_requests_are_refused(self) -> None:
        async def story(stage: Stage) -> None:
            with pytest.raises(ValueError, match="1 starts for 2 requests"):
                await self.arrivals(stage, request("a"), request("b"), starts=[0.0])

        play(story)


def test_a_session_that_thinks_holds_no_place() -> None:
    async def story(stage: Stage) -> None:
        thinking = replace(request("a2", after="a1"), think_time_s=3600)
        running = await stage.round(request("a1"), thinking, request("b"), concurrency=1)
        await stage.end("a1")
        assert stage.started == ["a1", "b"]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    play(story)
