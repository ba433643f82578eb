"""What one process sends of a round, from encoded requests to records."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kvkit.load.answer import Answer, to_record
from kvkit.load.client import ChatClient
from kvkit.load.lag import LoopLag, LoopWatch
from kvkit.load.recorder import Recorder, Sent
from kvkit.load.runner import run_round
from kvkit.results.record import Record
from kvkit.workload.request import Request


@dataclass(frozen=True, slots=True)
class Share:
    """A round, or the part of it that one of several processes sends."""

    round_number: int
    requests: Sequence[Request]
    concurrency: int | None
    """Requests in flight at once; `None` is no limit."""
    starts: Sequence[float] | None = None
    """Seconds after the round's beginning at which each request is to start; `None` is a closed loop."""


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
    encoded = {request.request_id: client.encode(request) for request in share.requests}

    async def send(request: Request, scheduled_s: float) -> Sent:
        return Sent(request, scheduled_s, await client.exchange(encoded[request.request_id]))

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
                    await run_round(share.requests, send=send, concurrency=share.concurrency, on_record=recorder.add)
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
