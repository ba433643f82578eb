"""What came over the wire is made into records apart from the sending, one read at a time.

Interpreting an answer takes about 10 microseconds an event. Done where the answer ends, 256 answers that end together
would keep every other stream from being stamped for a tenth of a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kvkit.load.answer import Answer, Exchange, read_answer, reading
from kvkit.workload.request import Request

MOST_WAITING = 1024
"""Where requests end faster than they can be interpreted, further ones are interpreted at once: the loop is held, which
its delays show, and neither memory nor what a sudden end would lose grows with the round."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that has ended, as it was scheduled and as it went over the wire."""

    request: Request
    scheduled_s: float
    exchange: Exchange


class Recorder:
    """Interprets exchanges in the order in which they ended, and lets the event loop go on after every read.

    Args:
        keep: gets each exchange with its answer. What it raises ends `run`.
    """

    def __init__(self, keep: Callable[[Sent, Answer], None]) -> None:
        self._keep = keep
        self._waiting: deque[Sent] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, sent: Sent) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._keep(sent, read_answer(sent.exchange))
            return
        self._waiting.append(sent)
        self._wake.set()

    def close(self) -> None:
        """Nothing more is added: `run` ends when all is kept."""
        self._closed = True
        self._wake.set()

    async def run(self) -> None:
        """Keep what is added until `close`. Cancelled, it first keeps what had ended by then."""
        try:
            while self._waiting or not self._closed:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._keep_first()
        except asyncio.CancelledError:
            while self._waiting:
                sent = self._waiting.popleft()
                self._keep(sent, read_answer(sent.exchange))
            raise

    async def _keep_first(self) -> None:
        sent = self._waiting[0]
        answer = await _interpret(sent.exchange)
        self._waiting.popleft()
        self._keep(sent, answer)


async def _interpret(exchange: Exchange) -> Answer:
    steps = reading(exchange)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        await asyncio.sleep(0)
