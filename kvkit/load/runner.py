"""One round: who starts when.

Closed loop: each request starts as soon as a place is free and the one it follows has ended. Open loop: each wants to
start at its arrival, whatever the server does; what keeps it from that shows as schedule lag (start - scheduled).

A turn of a session in an open loop:

- Without think time it has an arrival of its own, like any other request. Where the turn before it has not ended by
  then, it waits, and the wait is lag: the server was too slow for the offered load, and that must not be hidden.
- With think time only the session's first turn arrives by the process. A person thinks after the answer, so a later
  turn is scheduled its think time after the end of the one before it. This is the partly open system of Schroeder,
  Wierman and Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006.
"""

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
    requests: Sequence[Request],
    *,
    send: Send[Seen],
    concurrency: int | None,
    on_record: Callable[[Seen], None],
    starts: Sequence[float] | None = None,
    epoch_s: float | None = None,
) -> None:
    """Send every request once.

    Args:
        requests: in the order in which they start, as far as `after` allows.
        send: does the sending.
        concurrency: requests in flight at once; `None` is no limit. In an open loop the wait for a place is lag.
        on_record: gets what was seen of each request as soon as it has ended. What it raises ends the round.
        starts: open loop: seconds after the round's start at which each request wants to start. `None`: closed loop.
        epoch_s: the round's start on the monotonic clock; `None` is now. Processes that share a round give the same.

    Raises:
        ValueError: an `after` names no earlier request, or there are not as many `starts` as requests.
        Exception: whatever `on_record` raised.
    """
    epoch_s = time.monotonic() if epoch_s is None else epoch_s
    arrivals = None if starts is None else [epoch_s + offset for offset in starts]
    one_round = _Round(requests, send, concurrency, on_record, arrivals)
    try:
        await one_round.run()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


class _Round(Generic[Seen]):
    def __init__(
        self,
        requests: Sequence[Request],
        send: Send[Seen],
        concurrency: int | None,
        on_record: Callable[[Seen], None],
        arrivals: Sequence[float] | None,
    ) -> None:
        if arrivals is not None and len(arrivals) != len(requests):
            raise ValueError(f"{len(arrivals)} starts for {len(requests)} requests")
        self._requests = requests
        self._send = send
        self._free = len(requests) if concurrency is None else concurrency
        self._on_record = on_record
        self._arrivals = arrivals
        self._ready: list[tuple[float, int]] = []
        """Requests that may start: when each was due in an open loop, and its position. A heap, the earliest first."""
        self._firsts: list[int] = []
        self._followers: dict[str, list[int]] = defaultdict(list)
        self._tasks = asyncio.TaskGroup()
        self._queue()

    def _queue(self) -> None:
        earlier: set[str] = set()
        for position, request in enumerate(self._requests):
            if request.after is None:
                self._firsts.append(position)
            elif request.after in earlier:
                self._followers[request.after].append(position)
            else:
                raise ValueError(f"{request.request_id} comes after {request.after}, which is no earlier request")
            earlier.add(request.request_id)

    async def run(self) -> None:
        now_s = time.monotonic()
        async with self._tasks:
            if self._arrivals is None:
                self._ready = [(0.0, position) for position in self._firsts]
                self._start_what_may(now_s)
            else:
                self._tasks.create_task(self._let_arrive(self._arrivals))

    async def _let_arrive(self, arrivals: Sequence[float]) -> None:
        """One task for all that arrive by themselves: one each would hold kilobytes for every request of the round."""
        for position in sorted(self._firsts, key=arrivals.__getitem__):
            await self._become_due(position, arrivals[position])

    def _wait_for(self, position: int, due_s: float) -> None:
        """Make a request ready now or when it is due. Does not start it."""
        if due_s <= time.monotonic():
            self._make_ready(position, due_s)
        else:
            self._tasks.create_task(self._become_due(position, due_s))

    async def _become_due(self, position: int, due_s: float) -> None:
        # An event loop's timer may ring early by its resolution (uvloop's is a millisecond).
        while (left_s := due_s - time.monotonic()) > 0:  # noqa: ASYNC110 - it waits for the clock
            await asyncio.sleep(left_s)
        self._make_ready(position, due_s)
        self._start_what_may(due_s)

    def _make_ready(self, position: int, due_s: float) -> None:
        heapq.heappush(self._ready, (0.0 if self._arrivals is None else due_s, position))

    def _start_what_may(self, at_s: float) -> None:
        """Start what is ready and has a place. In a closed loop that is when it is scheduled: at `at_s`."""
        while self._ready and self._free:
            due_s, position = heapq.heappop(self._ready)
            self._free -= 1
            scheduled_s = at_s if self._arrivals is None else due_s
            self._tasks.create_task(self._one(self._requests[position], scheduled_s))

    async def _one(self, request: Request, scheduled_s: float) -> None:
        seen = await self._send(request, scheduled_s)
        ended_s = time.monotonic()
        self._free += 1
        for follower in self._followers.get(request.request_id, ()):
            self._wait_for(follower, self._due_after(follower, ended_s))
        # The next one is scheduled before this one is written down: what keeping costs shows as schedule lag.
        self._start_what_may(ended_s)
        self._on_record(seen)

    def _due_after(self, follower: int, ended_s: float) -> float:
        """When a request is due whose predecessor has ended now."""
        think_time_s = self._requests[follower].think_time_s
        if self._arrivals is None or think_time_s:
            return ended_s + think_time_s
        return self._arrivals[follower]
