"""A round sent by several processes: split, started together, its records brought into one.

One process reads 8,000 to 10,000 events a second before its own delays show. All processes of a machine share
CLOCK_MONOTONIC, so they agree on the instant at which the round begins, and their stamps can be laid side by side.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from math import ceil, inf
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Literal, Protocol

import uvloop

from kvkit.load.client import ChatClient, ChatSettings
from kvkit.load.lag import LoopLag
from kvkit.load.share import Share, send_share
from kvkit.results.record import Record
from kvkit.workload.request import Request

EVENTS_PER_S_AND_WORKER = 8000
"""At 10,000 a process takes more than half of a core, and bursts begin to queue."""

EVENTS_PER_S_AND_STREAM = 50
"""What a stream is taken to bring: 20 ms a token, as a 72B model decodes on eight GPUs. Not measured, so that both
modes get as many workers."""

_START_AHEAD_S = 0.1
"""From telling the workers when the round begins to its beginning."""

_START_AHEAD_OF_HOSTS_S = 0.5
"""The same, where some of them are on other hosts."""

_READY_WITHIN_S = 120.0
"""Starting Python and encoding what is sent first takes a second on an idle machine."""

_END_WITHIN_S = 2.0
"""A worker that was told to end and has not is killed."""


class WorkerError(Exception):
    """A worker process died. The message says how, and what to do."""


def choose_workers(asked: int | Literal["auto"], share: Share) -> int:
    """How many processes send a round: what was asked for, but no more than there are requests to send side by side."""
    streams = _side_by_side(share)
    if asked != "auto":
        return min(asked, streams)
    events_per_s = min(streams * EVENTS_PER_S_AND_STREAM, _arriving_events_per_s(share))
    return min(ceil(events_per_s / EVENTS_PER_S_AND_WORKER), len(os.sched_getaffinity(0)), streams)


def _side_by_side(share: Share) -> int:
    """The most requests that can be in flight at once."""
    return min(share.concurrency or len(share.requests), len(_chains(share.requests)))


def _arriving_events_per_s(share: Share) -> float:
    """More events cannot come on average than arriving requests ask for."""
    over_s = max(share.starts) - min(share.starts) if share.starts else 0.0
    return sum(request.max_tokens for request in share.requests) / over_s if over_s else inf


async def send_round(
    client: ChatClient,
    share: Share,
    *,
    workers: int,
    on_record: Callable[[Record], None],
    others: Sequence[Sender] = (),
) -> tuple[LoopLag, ...]:
    """Send a round from this process, or from `workers` others where they are more than one.

    Args:
        client: sends from this process; the others make their own with the same settings.
        share: the whole round.
        workers: at most as many as `choose_workers` says.
        on_record: gets each record soon after its request has ended, in this process. What it raises ends the round.
        others: processes on other hosts, which send a part of it, too.

    Returns:
        What was seen of each worker's event loop.

    Raises:
        WorkerError: a worker died.
        Exception: whatever `on_record` raised.
    """
    if workers == 1 and not others:
        return (await send_share(client, share, on_record=on_record),)
    with ExitStack() as running:
        started = [running.enter_context(_started(number, workers)) for number in range(1, workers + 1)]
        running.callback(_end, started)
        ahead_s = _START_AHEAD_OF_HOSTS_S if others else _START_AHEAD_S
        senders = [*started, *others][: _side_by_side(share)]
        try:
            return await _together(senders, client.settings, split(share, len(senders)), on_record, ahead_s)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None


def split(share: Share, workers: int) -> list[Share]:
    """Deal the requests out in turn, and the concurrency evenly. Requests that follow each other stay together."""
    dealt: list[list[int]] = [[] for _ in range(workers)]
    for number, chain in enumerate(_chains(share.requests)):
        dealt[number % workers] += chain
    return [
        replace(
            share,
            requests=[share.requests[position] for position in sorted(positions)],
            concurrency=share.concurrency and share.concurrency // workers + (number < share.concurrency % workers),
            starts=share.starts and [share.starts[position] for position in sorted(positions)],
        )
        for number, positions in enumerate(dealt)
    ]


def _chains(requests: Sequence[Request]) -> list[list[int]]:
    """Positions of requests that follow each other by `after`, in order; a request that stands alone is a chain too."""
    chains: list[list[int]] = []
    chain_of: dict[str, list[int]] = {}
    for position, request in enumerate(requests):
        if request.after is None:
            chain_of[request.request_id] = []
            chains.append(chain_of[request.request_id])
        else:
            chain_of[request.request_id] = chain_of[request.after]
        chain_of[request.request_id].append(position)
    return chains


class Sender(Protocol):
    """A process that sends a share of a round. Each of its methods may raise WorkerError: it is gone."""

    name: str

    def give(self, settings: ChatSettings, share: Share) -> None:
        """Let it prepare what it will send."""

    async def ready(self) -> None:
        """Wait until it is prepared."""

    def begin(self, at_s: float) -> None:
        """Let it begin at this instant of this process's monotonic clock."""

    async def next(self) -> Record | LoopLag:
        """The next record; what was seen of its event loop, when it has sent everything."""


@dataclass(slots=True)
class _Worker:
    name: str
    process: SpawnProcess
    pipe: Connection

    def give(self, settings: ChatSettings, share: Share) -> None:
        self._send((settings, share))  # over the pipe: the API key is in no argument and no environment

    async def ready(self) -> None:
        await self._receive()

    def begin(self, at_s: float) -> None:
        self._send(at_s)  # all processes of a machine share the clock

    async def next(self) -> Record | LoopLag:
        message = await self._receive()
        assert isinstance(message, Record | LoopLag)
        return message

    def _send(self, message: object) -> None:
        try:
            self.pipe.send(message)
        except ConnectionError:
            raise self._death() from None

    async def _receive(self) -> object:
        try:
            while not self.pipe.poll():
                await readable(self.pipe)
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            raise self._death() from None

    def _death(self) -> WorkerError:
        self.process.join(_END_WITHIN_S)
        code = self.process.exitcode
        how = f"ended with code {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        why = " (is memory short?)" if code == -signal.SIGKILL else ""
        return WorkerError(
            f"{self.name} {how}{why} before its requests had ended; what had ended by then is in the requests file: "
            "run again, with --workers 1 to do without worker processes"
        )


async def readable(pipe: Connection) -> None:
    """Wait until something can be read, or the other end is gone."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(pipe.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(pipe.fileno())


async def _together(
    senders: Sequence[Sender],
    settings: ChatSettings,
    shares: Sequence[Share],
    on_record: Callable[[Record], None],
    ahead_s: float,
) -> tuple[LoopLag, ...]:
    for sender, share in zip(senders, shares, strict=True):
        sender.give(settings, share)
    for sender in senders:
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await sender.ready()
        except TimeoutError:
            raise WorkerError(
                f"{sender.name} was not ready within {_READY_WITHIN_S:g} s; nothing of this round was sent: is the "
                "machine out of memory or stopped? --workers 1 does without worker processes"
            ) from None
    begin_s = time.monotonic() + ahead_s
    for sender in senders:
        sender.begin(begin_s)
    async with asyncio.TaskGroup() as tasks:
        collecting = [tasks.create_task(_collect(sender, on_record)) for sender in senders]
    return tuple(task.result() for task in collecting)


async def _collect(sender: Sender, on_record: Callable[[Record], None]) -> LoopLag:
    while not isinstance(message := await sender.next(), LoopLag):
        on_record(message)
    return message


@contextmanager
def _started(number: int, workers: int) -> Iterator[_Worker]:
    """A worker process, which is gone afterwards. Spawned: a copy of a process with an event loop is a broken one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    # Ctrl-C reaches every process of the terminal. This one answers it, and ends the workers. The tracker is something
    # that multiprocessing starts with the first process, and that lifts the block.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    try:
        yield _Worker(f"worker process {number} of {workers}", process, ours)
    finally:
        ours.close()
        process.terminate()
        process.join(_END_WITHIN_S)
        process.kill()
        process.join()
        process.close()


def _end(workers: Sequence[_Worker]) -> None:
    """Tell all of them before each is waited for: the waits are then one."""
    for worker in workers:
        worker.process.terminate()


def _work(pipe: Connection) -> None:
    """What a worker process does: send its share, each record to the pipe, and end when there is nobody to read it."""
    nobody_listens = suppress(EOFError, ConnectionError, asyncio.CancelledError)
    with nobody_listens, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_send_from(pipe))


async def _send_from(pipe: Connection) -> None:
    settings, share = pipe.recv()
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None

    async def begin() -> float:
        pipe.send("ready")
        begin_s: float = pipe.recv()
        # Nothing more is sent to this end: when it becomes readable, the other one is gone.
        loop.add_reader(pipe.fileno(), this.cancel)
        while (left_s := begin_s - time.monotonic()) > 0:  # noqa: ASYNC110 - timers may be half a millisecond early
            await asyncio.sleep(left_s)
        return begin_s

    async with ChatClient(settings) as client:
        pipe.send(await send_share(client, share, on_record=pipe.send, epoch=begin))
