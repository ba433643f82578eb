"""A round sent by several hosts: other load generators connect to the one that leads the run, and send their shares.

Each process of another load generator is to the leader what a worker process of its own is. Messages are JSON, over TCP
connections on which both sides have proved that they know one key (HMAC, `multiprocessing.connection`); an API key is
never sent: each load generator has its own test configuration.

Hosts share no clock. Before each round the leader asks every other process for its time, several times, and takes the
answer that came back fastest: it was given in the middle of the round trip, give or take half of it. That offset says
when the process has to begin, on its own clock.
"""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

import uvloop
from pydantic import TypeAdapter, ValidationError

from kvkit import __version__
from kvkit.ending import Ending
from kvkit.load.client import ChatClient, ChatSettings
from kvkit.load.lag import LoopLag
from kvkit.load.share import Share, send_share
from kvkit.load.workers import Sender, WorkerError, readable
from kvkit.results.record import Record
from kvkit.results.stats import GeneratorClock

CONNECT_WITHIN_S = 120.0
"""Between the first load generator that is ready and the last."""
PROVE_WITHIN_S = 5
"""A stranger who connects and is silent keeps nobody waiting for longer."""
LOST_AFTER_S = 20
"""A host that answers nothing for so long is lost, also when its power was cut."""
ASKED_FOR_TIME = 20
LARGEST_MESSAGE = 2**30
"""A share of a long round holds all its prompts."""


class GeneratorError(WorkerError):
    """A load generator did not come, or was lost. The message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Lead:
    """That this run is sent by others, too."""

    host: str
    port: int
    names: tuple[str, ...]
    """Of the other load generators; the run waits for each."""
    key: bytes


@dataclass(frozen=True, slots=True)
class Clock:
    """What another process's clocks show more than the leader's."""

    offset_s: float
    """Of CLOCK_MONOTONIC, which begins with a host's boot."""
    wall_offset_s: float
    uncertainty_s: float
    """Half of the fastest round trip."""


@dataclass(frozen=True, slots=True)
class _Hello:
    name: str
    process: int
    processes: int
    version: str


_HELLO = TypeAdapter(_Hello)
_SHARE = TypeAdapter(Share)
_LAG = TypeAdapter(LoopLag)


class Generator(Sender):
    """One process of another load generator, as the leader sees it."""

    def __init__(self, hello: _Hello, link: Connection) -> None:
        self.host = hello.name
        self.name = f"load generator {hello.name}"
        if hello.processes > 1:
            self.name += f" (process {hello.process} of {hello.processes})"
        self.clock: Clock | None = None
        self._link = link
        self._left = 0

    def give(self, settings: ChatSettings, share: Share) -> None:
        """The settings are not sent: it has its own."""
        self.clock = self._ask_for_time()
        self._left = len(share.requests)
        self._send({"share": asdict(share)})

    async def ready(self) -> None:
        await self._receive()

    def begin(self, at_s: float) -> None:
        assert self.clock is not None
        self._send({"begin_s": at_s + self.clock.offset_s})

    async def next(self) -> Record | LoopLag:
        message = await self._receive()
        if "record" in message:
            self._left -= 1
            return Record.from_line(message["record"])
        assert self.clock is not None
        lag = _LAG.validate_python(message["lag"])
        return replace(lag, began_s=lag.began_s - self.clock.offset_s)

    @property
    def facts(self) -> GeneratorClock:
        """How its clock stood to the leader's before the newest round."""
        assert self.clock is not None
        return GeneratorClock(
            name=self.name,
            wall_offset_ms=self.clock.wall_offset_s * 1000,
            uncertainty_ms=self.clock.uncertainty_s * 1000,
        )

    def _ask_for_time(self) -> Clock:
        """Raises GeneratorError: it is lost."""
        answers = []
        for _ in range(ASKED_FOR_TIME):
            asked_s, asked_wall_s = time.monotonic(), time.time()
            self._send({"time": True})
            told = self._read()
            took_s = time.monotonic() - asked_s
            middle = took_s / 2
            answers.append(
                Clock(told["monotonic_s"] - asked_s - middle, told["wall_s"] - asked_wall_s - middle, middle)
            )
        return min(answers, key=lambda clock: clock.uncertainty_s)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._link.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise self._lost(error) from None

    async def _receive(self) -> dict[str, Any]:
        await _arrival(self._link)
        return self._read()

    def _read(self) -> dict[str, Any]:
        try:
            message: dict[str, Any] = json.loads(self._link.recv_bytes(LARGEST_MESSAGE))
        except (EOFError, OSError) as error:
            raise self._lost(error) from None
        return message

    def _lost(self, error: Exception) -> GeneratorError:
        why = getattr(error, "strerror", None) or "it closed the connection"
        return GeneratorError(
            f"{self.name} was lost ({why}): {self._left} of the requests of its share are missing; what had ended by "
            "then, of every load generator, is in the requests file"
        )


@contextmanager
def gathered(lead: Lead | None) -> Iterator[list[Generator]]:
    """Wait for the processes of the other load generators, if there are any; they are let go after the block.

    Raises:
        GeneratorError: one has not come within `CONNECT_WITHIN_S`, or is another version; or the address is taken.
    """
    with ExitStack() as links:
        came = _awaited(lead, links) if lead else []
        yield [Generator(*one) for one in sorted(came, key=lambda one: (one[0].name, one[0].process))]


def _awaited(lead: Lead, links: ExitStack) -> list[tuple[_Hello, Connection]]:
    came: list[tuple[_Hello, Connection]] = []
    end_s = time.monotonic() + CONNECT_WITHIN_S
    try:
        server = socket.create_server((lead.host, lead.port))
    except OSError as error:
        raise GeneratorError(f"--listen {lead.host}:{lead.port}: {os.strerror(error.errno or 0)}") from None
    with server:
        while missing := _missing(lead, [hello for hello, _ in came]):
            server.settimeout(max(0.01, end_s - time.monotonic()))
            try:
                link = links.enter_context(_link(server.accept()[0]))
            except TimeoutError:
                raise GeneratorError(
                    f"{', '.join(missing)}: has not connected to {lead.host}:{lead.port} within "
                    f"{CONNECT_WITHIN_S:g} s; does `kvkit generate` run there, and is the port open?"
                ) from None
            if (hello := _proved(link, lead)) is not None:
                came.append((hello, link))
    return came


def _missing(lead: Lead, came: Sequence[_Hello]) -> list[str]:
    expected = {hello.name: hello.processes for hello in came}
    return [name for name in lead.names if sum(hello.name == name for hello in came) < expected.get(name, 1)]


def _proved(link: Connection, lead: Lead) -> _Hello | None:
    """Who connected, if it knows the key and is one of those that are waited for.

    Raises:
        GeneratorError: it is another version, and would send otherwise.
    """
    _limit_reads(link, PROVE_WITHIN_S)
    try:
        deliver_challenge(link, lead.key)
        answer_challenge(link, lead.key)
        hello = _HELLO.validate_json(link.recv_bytes(4096))
    except (AuthenticationError, OSError, EOFError, ValidationError):
        return None
    _limit_reads(link, LOST_AFTER_S)
    if hello.name not in lead.names:
        return None
    if hello.version != __version__:
        raise GeneratorError(f"{hello.name}: runs kvkit {hello.version}, this one is {__version__}: install the same")
    return hello


@contextmanager
def _link(connected: socket.socket) -> Iterator[Connection]:
    connected.setblocking(True)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, LOST_AFTER_S // 2)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, LOST_AFTER_S // 4)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER_S * 1000)
    link = Connection(connected.detach())
    try:
        yield link
    finally:
        link.close()


def _limit_reads(link: Connection, limit_s: int) -> None:
    """Of a message that has begun, or is waited for in vain."""
    with socket.socket(fileno=os.dup(link.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", limit_s, 0))


def generate_with(
    settings: ChatSettings, address: tuple[str, int], key: bytes, *, name: str, processes: int | None
) -> Ending:
    """What another load generator does: its processes send what the leader deals out, until it lets them go.

    Args:
        settings: whom to ask, and how.
        address: where the leader listens.
        key: what the leader knows, too.
        name: what the leader calls this host.
        processes: how many send; `None`: one for each core.
    """
    count = processes or len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    # Over a pipe: the keys are in no argument.
    running = [
        context.Process(target=_generate, args=(settings, address, key, _Hello(name, number, count, __version__)))
        for number in range(1, count + 1)
    ]
    try:
        for process in running:
            process.start()
        for process in running:
            process.join()
    except KeyboardInterrupt:
        return Ending.NOT_FINISHED
    finally:
        for process in running:
            process.kill()
    return Ending.NOT_FINISHED if any(process.exitcode for process in running) else Ending.DONE


def _generate(settings: ChatSettings, address: tuple[str, int], key: bytes, hello: _Hello) -> None:
    """One process of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with _connected(address) as link:
            _prove(link, address, key)
            _tell(link, asdict(hello))
            let_go = suppress(EOFError, ConnectionError, asyncio.CancelledError)
            with let_go, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(link, settings))
    except GeneratorError as error:
        print(error, file=sys.stderr)
        sys.exit(Ending.NOT_FINISHED)


def _prove(link: Connection, address: tuple[str, int], key: bytes) -> None:
    _limit_reads(link, PROVE_WITHIN_S)
    try:
        answer_challenge(link, key)
        deliver_challenge(link, key)
    except (AuthenticationError, OSError, EOFError):
        raise GeneratorError(
            f"{address[0]}:{address[1]}: who listens there has another key, or is no kvkit run"
        ) from None
    _limit_reads(link, LOST_AFTER_S)


@contextmanager
def _connected(address: tuple[str, int]) -> Iterator[Connection]:
    """The leader may begin to listen later."""
    end_s = time.monotonic() + CONNECT_WITHIN_S
    while True:
        try:
            connected = socket.create_connection(address, timeout=PROVE_WITHIN_S)
            break
        except OSError as error:
            if time.monotonic() > end_s:
                told = os.strerror(error.errno or errno.ETIMEDOUT)
                raise GeneratorError(f"{address[0]}:{address[1]}: no run listens there ({told})") from None
        time.sleep(0.2)
    with _link(connected) as link:
        yield link


async def _serve(link: Connection, settings: ChatSettings) -> None:
    async with ChatClient(settings) as client:
        while True:
            await _arrival(link)
            message = json.loads(link.recv_bytes(LARGEST_MESSAGE))
            if "time" in message:
                _tell(link, {"monotonic_s": time.monotonic(), "wall_s": time.time()})
            else:
                await _send_from(link, client, _SHARE.validate_python(message["share"]))


async def _send_from(link: Connection, client: ChatClient, share: Share) -> None:
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None

    async def begin() -> float:
        _tell(link, {"ready": True})
        await _arrival(link)
        begin_s: float = json.loads(link.recv_bytes(LARGEST_MESSAGE))["begin_s"]
        # Nothing more is sent to this end during the round: when it becomes readable, the leader is gone.
        loop.add_reader(link.fileno(), this.cancel)
        os.set_blocking(link.fileno(), True)
        while (left_s := begin_s - time.monotonic()) > 0:  # noqa: ASYNC110 - timers may be half a millisecond early
            await asyncio.sleep(left_s)
        return begin_s

    try:
        lag = await send_share(
            client, share, on_record=lambda record: _tell(link, {"record": record.to_line()}), epoch=begin
        )
    finally:
        loop.remove_reader(link.fileno())
    _tell(link, {"lag": {**asdict(lag), "delays_s": list(lag.delays_s)}})


async def _arrival(link: Connection) -> None:
    """Wait until a message begins to arrive; it is then read as a whole, within the limit of a read."""
    while not link.poll():
        await readable(link)
    # The loop watches a connection only after it has made it one whose reads and writes may be cut short.
    os.set_blocking(link.fileno(), True)


def _tell(link: Connection, message: dict[str, Any]) -> None:
    link.send_bytes(json.dumps(message).encode())
