"""What one process sends of a round, from encoded requests to records."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import httpx

from kvkit.load.answer import Answer, to_record
from kvkit.load.client import ChatClient
from kvkit.load.lag import LoopLag, LoopWatch
from kvkit.load.recorder import Recorder, Sent
from kvkit.load.runner import run_round
from kvkit.results.record import Record
from kvkit.workload.request import Request

ENCODED_AHEAD = 1024
"""Prompts of 8,192 tokens take 40 MiB."""


@dataclass(frozen=True, slots=True)
class Share:
    """A round, or the part of it that one of several processes sends."""

    round_number: int
    requests: Sequence[Request]
    concurrency: int | None
    """Requests in flight at once; `None` is no limit."""
    starts: Sequence[float] | None = None
    """Seconds after the round's beginning at which each request is to start; `None` is a closed loop."""

    @property
    def held_to_schedule(self) -> bool:
        """A request that starts late is then the client's doing: it waits for no place and for no turn before it."""
        waits = any(request.after is not None and not request.think_time_s for request in self.requests)
        return self.starts is not None and self.concurrency is None and not waits


class _Encoded:
    """Requests as they go over the wire: so many ahead of those that are sent, so that a long round fits into memory.

    A round of no more than that is encoded before it begins. In a longer one, each request that is taken has the next
    one encoded in its place, which costs the loop a tenth of a millisecond.
    """

    def __init__(self, client: ChatClient, requests: Sequence[Request]) -> None:
        self._client = client
        self._next = iter(requests)
        self._ahead: dict[str, httpx.Request] = {}
        self._taken: set[str] = set()
        """Those that were sent before their turn."""
        for request in islice(self._next, ENCODED_AHEAD):
            self._ahead[request.request_id] = client.encode(request)

    def take(self, request: Request) -> httpx.Request:
        if (encoded := self._ahead.pop(request.request_id, None)) is None:
            self._taken.add(request.request_id)
            return self._client.encode(request)
        if (following := next((each for each in self._next if each.request_id not in self._taken), None)) is not None:
            self._ahead[following.request_id] = self._client.encode(following)
        return encoded


async def now() -> float:
    return time.monotonic()


async def send_share(
    client: ChatClient,
    share: Share,
    *,
    on_record: Callable[[Record], None],
    epoch: Callable[[], Awaitable[float]] = now,
) -> LoopLag:
    """Send every request of the share once.

    Args:
        client: sends them.
        share: what is sent.
        on_record: gets each record soon after its request has ended. What it raises ends the round.
        epoch: awaited when all is encoded; returns when the round begins, with that instant of the monotonic clock.

    Raises:
        Exception: whatever `on_record` raised.
    """
    encoded = _Encoded(client, share.requests)

    async def send(request: Request, scheduled_s: float) -> Sent:
        return Sent(request, scheduled_s, await client.exchange(encoded.take(request)))

    def keep(sent: Sent, answer: Answer) -> None:
        record = to_record(
            sent.request,
            sent.exchange,
            answer,
            round_number=share.round_number,
            epoch_s=epoch_s,
            scheduled_s=sent.scheduled_s,
            secret=client.settings.api_key,
        )
        on_record(record)

    _take_all_files_that_are_allowed()
    recorder = Recorder(keep)
    with _short_collections():
        epoch_s = await epoch()
        with LoopWatch() as watch:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(recorder.run())
                    await run_round(
                        share.requests,
                        send=send,
                        concurrency=share.concurrency,
                        on_record=recorder.add,
                        starts=share.starts,
                        epoch_s=epoch_s,
                    )
                    recorder.close()
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
    return watch.lag


def _take_all_files_that_are_allowed() -> None:
    """Each stream is an open file, and the soft limit is most often 1,024."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))


@contextmanager
def _short_collections() -> Iterator[None]:
    """Garbage collection looks only at what is made from here on: thousands of requests would make it hold the loop."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
