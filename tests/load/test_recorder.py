"""Answers become records beside the sending: in order, one read at a time, and none is lost."""

from __future__ import annotations

import asyncio

import pytest

from kvkit.load import recorder
from kvkit.load.answer import Answer, Exchange
from kvkit.load.recorder import Recorder, Sent
from kvkit.workload.request import Request
from tests.load import chunks


def sent(name: str, tokens: int = 1) -> Sent:
    """An exchange with `tokens` tokens, each in a read of its own, as are role, usage and `[DONE]`."""
    stream = chunks.good(*"x" * tokens)
    exchange = Exchange(0.0, written=True, status=200, reads=stream, stamps_s=[0.0] * len(stream))
    return Sent(Request(name, name, (), prompt_tokens=1, max_tokens=tokens), 0.0, exchange)


class Desk:
    def __init__(self) -> None:
        self.kept: list[str] = []
        self.recorder = Recorder(self.keep)
        self.running = asyncio.create_task(self.recorder.run())

    def keep(self, sent: Sent, answer: Answer) -> None:
        assert answer.failure is None
        self.kept.append(sent.request.request_id)


def test_what_has_ended_is_kept_in_order_before_the_end() -> None:
    async def story() -> list[str]:
        desk = Desk()
        for name in "abc":
            desk.recorder.add(sent(name))
        desk.recorder.close()
        await desk.running
        return desk.kept

    assert asyncio.run(story()) == ["a", "b", "c"]


def test_a_record_does_not_wait_for_the_next_one() -> None:
    async def story() -> list[str]:
        desk = Desk()
        desk.recorder.add(sent("a"))
        for _ in range(10):
            await asyncio.sleep(0)
        seen = list(desk.kept)
        desk.recorder.close()
        await desk.running
        return seen

    assert asyncio.run(story()) == ["a"]


def test_the_loop_goes_on_after_every_read() -> None:
    async def story() -> int:
        desk = Desk()
        desk.recorder.add(sent("long", tokens=10))
        desk.recorder.close()
        turns = 0
        while not desk.running.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(story()) >= 10


def test_stopped_it_first_keeps_what_had_ended() -> None:
    async def story() -> list[str]:
        desk = Desk()
        await asyncio.sleep(0)
        desk.recorder.add(sent("a", tokens=10))
        desk.recorder.add(sent("b"))
        await asyncio.sleep(0)
        assert desk.kept == []
        desk.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await desk.running
        return desk.kept

    assert asyncio.run(story()) == ["a", "b"]


def test_what_keeping_raises_ends_it() -> None:
    async def story() -> None:
        def full_disk(_sent: Sent, _answer: Answer) -> None:
            raise OSError(28, "No space left on device")

        recorder = Recorder(full_disk)
        recorder.add(sent("a"))
        await recorder.run()

    with pytest.raises(OSError, match="No space left"):
        asyncio.run(story())


def test_what_ends_while_too_much_waits_is_kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_WAITING", 2)

    async def story() -> tuple[list[str], list[str]]:
        desk = Desk()
        for name in "abcd":
            desk.recorder.add(sent(name))
        at_once = list(desk.kept)
        desk.recorder.close()
        await desk.running
        return at_once, desk.kept

    assert asyncio.run(story()) == (["c", "d"], ["c", "d", "a", "b"])
