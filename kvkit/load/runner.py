"""One round, closed loop: each request starts as soon as a place is free and the one it follows has ended."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from kvkit.workload.request import Request

Seen = TypeVar("Seen")
"""What was seen of a request, in whatever form `send` returns it."""

Send = Callable[[Request, float], Awaitable[Seen]]
"""Sends a request that was scheduled at this instant of the monotonic clock; keeps failures, never raises them."""


async def run_round(
    requests: Sequence[Request], *, send: Send[Seen], concurrency: int | None, on_record: Callable[[Seen], None]
) -> None:
    """Send every request once.

    Args:
        requests: in the order in which they start, as far as `after` allows.
        send: does the sending.
        concurrency: requests in flight at once; `None` is no limit.
        on_record: gets what was seen of each request as soon as it has ended. What it raises ends the round.

    Raises:
        ValueError: an `after` names no earlier request.
        Exception: whatever `on_record` raised.
    """
    closed_loop = _ClosedLoop(requests, send, concurrency, on_record)
    try:
        await closed_loop.run()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


class _ClosedLoop(Generic[Seen]):
    def __init__(
        self,
        requests: Sequence[Request],
        send: Send[Seen],
        concurrency: int | None,
        on_record: Callable[[Seen], None],
    ) -> None:
        self._requests = requests
        self._send = send
        self._free = len(requests) if concurrency is None else concurrency
        self._on_record = on_record
        self._ready: list[int] = []
        """Positions of requests that may start: a heap, so that the earliest starts first."""
        self._followers: dict[str, list[int]] = defaultdict(list)
        self._tasks = asyncio.TaskGroup()
        self._queue()

    def _queue(self) -> None:
        earlier: set[str] = set()
        for position, request in enumerate(self._requests):
            if request.after is None:
                self._ready.append(position)
            elif request.after in earlier:
                self._followers[request.after].append(position)
            else:
                raise ValueError(f"{request.request_id} comes after {request.after}, which is no earlier request")
            earlier.add(request.request_id)

    async def run(self) -> None:
        async with self._tasks:
            self._start_what_may()

    def _start_what_may(self) -> None:
        while self._ready and self._free:
            request = self._requests[heapq.heappop(self._ready)]
            self._free -= 1
            self._tasks.create_task(self._one(request, time.monotonic()))

    async def _one(self, request: Request, scheduled_s: float) -> None:
        seen = await self._send(request, scheduled_s)
        self._free += 1
        for follower in self._followers[request.request_id]:
            heapq.heappush(self._ready, follower)
        # The next one is scheduled before this one is written down: what keeping costs shows as schedule lag.
        self._start_what_may()
        self._on_record(seen)
