"""How exact and how cheap kvkit's client is: TTFT error and events per CPU-second, beside three others in the same run.

    python benchmarks/client_accuracy.py [--repeats 3]

The server (`stamping_server.py`) and the client have a core each. TTFT error is the client's TTFT minus the server's
own: first token written - first byte of the request read. kvkit is what `kvkit run` uses, from encoding requests to
records on disk; the others only stamp, split and parse events, and keep nothing: plain aiohttp, a bare protocol of
asyncio, stock httpx. Each figure is the median of the repeats. Whatever else runs on these cores shows in it, so the
machine's load stands beside it; as root, `chrt --fifo 1` in front keeps the others off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import aiohttp
import httpx
import uvloop

from kvkit.load.client import ChatClient, ChatSettings
from kvkit.load.runner import run_round
from kvkit.load.share import Share, send_share
from kvkit.load.sse import EventReader
from kvkit.results.distribution import percentile
from kvkit.results.record import Record
from kvkit.results.store import open_run
from kvkit.workload.request import Message, Request

SERVER = Path(__file__).with_name("stamping_server.py")
PATH = "/v1/chat/completions"
EVENTS_BESIDE_TOKENS = 3
"""Role, usage and `[DONE]`."""


@dataclass(frozen=True)
class Load:
    """A closed loop: `streams` at once, `requests` in all, a token every `gap_s` seconds."""

    streams: int
    requests: int
    gap_s: float
    tokens: int = 50
    spread: bool = False
    """The first request of each stream has a length of its own, so that later ones start evenly; only these count."""

    @property
    def events(self) -> int:
        return sum(request.max_tokens + EVENTS_BESIDE_TOKENS for request in self.made())

    def made(self) -> list[Request]:
        return [self._request(number) for number in range(self.requests)]

    def counts(self, request_id: str) -> bool:
        return not self.spread or int(request_id) >= self.streams

    def _request(self, number: int) -> Request:
        first = self.spread and number < self.streams
        tokens = 1 + number * self.tokens // self.streams if first else self.tokens
        name, content = str(number), f"{number} {self.gap_s}"
        return Request(name, name, (Message("user", content),), prompt_tokens=1, max_tokens=tokens)


ONE = Load(streams=1, requests=20, gap_s=0.02, tokens=10)
FEW = Load(streams=32, requests=3 * 32, gap_s=0.02, spread=True)
MANY = Load(streams=256, requests=4 * 256, gap_s=0.02, spread=True)
MOST = Load(streams=1024, requests=1024, gap_s=0.2)
"""All start at once, on new connections."""
BURST = Load(streams=256, requests=256, gap_s=0.02)
"""Sent twice: the second time, all 256 requests start at once on connections that are idle from the first."""

TTFTs = dict[str, float]
Round = Callable[[Load], Awaitable[TTFTs]]
"""Sends a load once, on connections that are kept between calls; gives each request's TTFT in seconds."""
Client = Callable[[str], AbstractAsyncContextManager[Round]]


@asynccontextmanager
async def kvkit(url: str) -> AsyncIterator[Round]:
    settings = ChatSettings(f"{url}/v1", model="m", temperature=0.0, timeout_s=300.0, api_key="dummy")
    with tempfile.TemporaryDirectory() as folder:
        async with ChatClient(settings) as client:

            async def send(load: Load) -> TTFTs:
                records: list[Record] = []
                with open_run(Path(folder), "baseline", "accuracy", datetime.now(UTC)) as files:

                    def keep(record: Record) -> None:
                        files.add(record)
                        records.append(record)

                    await send_share(client, Share(1, load.made(), load.streams), on_record=keep)
                if failed := next((record for record in records if not record.ok), None):
                    raise SystemExit(f"kvkit: {failed.error_kind}: {failed.error}")
                return {record.request_id: record.ttft_s for record in records if record.ttft_s is not None}

            yield send


class Reading:
    """The least that any client does: stamp each read, split it into events, parse them, know the first token."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._start_s = time.monotonic()
        self.ttft_s: float | None = None
        self.done = False

    def take(self, read: bytes) -> None:
        at_s = time.monotonic()
        for event in self._events.feed(read, at_s):
            if event.data == b"[DONE]":
                self.done = True
                continue
            choices = json.loads(event.data)["choices"]
            if self.ttft_s is None and choices and choices[0]["delta"].get("content"):
                self.ttft_s = at_s - self._start_s


Ask = Callable[[bytes], Awaitable[Reading]]
"""Sends one body and reads its answer."""


def closed_loop(ask: Ask) -> Round:
    async def send(load: Load) -> TTFTs:
        ttfts: TTFTs = {}
        bodies = {request.request_id: _body(request) for request in load.made()}

        async def one(request: Request, _scheduled_s: float) -> tuple[str, Reading]:
            return request.request_id, await ask(bodies[request.request_id])

        def keep(seen: tuple[str, Reading]) -> None:
            assert seen[1].ttft_s is not None
            ttfts[seen[0]] = seen[1].ttft_s

        await run_round(load.made(), send=one, concurrency=load.streams, on_record=keep)
        return ttfts

    return send


def _body(request: Request) -> bytes:
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    return json.dumps({"model": "m", "messages": messages, "max_tokens": request.max_tokens, "stream": True}).encode()


@asynccontextmanager
async def plain_aiohttp(url: str) -> AsyncIterator[Round]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(body: bytes) -> Reading:
            reading = Reading()
            async with session.post(url + PATH, data=body, headers={"Content-Type": "application/json"}) as response:
                async for read in response.content.iter_any():
                    reading.take(read)
            return reading

        yield closed_loop(ask)


@asynccontextmanager
async def stock_httpx(url: str) -> AsyncIterator[Round]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=None) as http:

        async def ask(body: bytes) -> Reading:
            reading = Reading()
            headers = {"Content-Type": "application/json"}
            async with http.stream("POST", url + PATH, content=body, headers=headers) as response:
                async for read in response.aiter_raw():
                    reading.take(read)
            return reading

        yield closed_loop(ask)


class BareProtocol(asyncio.Protocol):
    """One connection, one request at a time. HTTP is not parsed: the lines of its head and chunks are no `data`."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, body: bytes) -> asyncio.Future[Reading]:
        self._answer: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self._reading = Reading()
        head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % (PATH.encode(), len(body))
        self._transport.write(head + body)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._reading.take(data)
        if self._reading.done and not self._answer.done():
            self._answer.set_result(self._reading)


@asynccontextmanager
async def bare_asyncio(url: str) -> AsyncIterator[Round]:
    idle: list[BareProtocol] = []
    port = int(url.rpartition(":")[2])

    async def ask(body: bytes) -> Reading:
        loop = asyncio.get_running_loop()
        connection = idle.pop() if idle else (await loop.create_connection(BareProtocol, "127.0.0.1", port))[1]
        reading = await connection.ask(body)
        idle.append(connection)
        return reading

    yield closed_loop(ask)


@dataclass(frozen=True)
class Figures:
    """One round of one client, or the medians of several."""

    p50_ms: float
    """TTFT error."""
    p99_ms: float
    kevents_per_cpu_s: float

    @classmethod
    def medians(cls, rounds: list[Figures]) -> Figures:
        return cls(
            median(each.p50_ms for each in rounds),
            median(each.p99_ms for each in rounds),
            median(each.kevents_per_cpu_s for each in rounds),
        )


async def measure(send: Round, load: Load, url: str) -> Figures:
    cpu_s = time.process_time()
    ttfts = await send(load)
    cpu_s = time.process_time() - cpu_s
    own = _servers_own(url)
    if own.keys() != ttfts.keys():
        raise SystemExit(f"the server stamped {len(own)} requests, the client {len(ttfts)}")
    errors_ms = sorted((ttft - own[name]) * 1000 for name, ttft in ttfts.items() if load.counts(name))
    return Figures(percentile(errors_ms, 50), percentile(errors_ms, 99), load.events / cpu_s / 1000)


def _servers_own(url: str) -> TTFTs:
    with urlopen(f"{url}/stamps") as response:
        stamps: dict[str, tuple[float, float]] = json.load(response)
    return {name: sent_s - received_s for name, (received_s, sent_s) in stamps.items()}


LOADS = {
    "1 stream, 20 ms": (ONE, [kvkit, plain_aiohttp, bare_asyncio]),
    "32 streams, 20 ms": (FEW, [kvkit, plain_aiohttp, bare_asyncio]),
    "256 streams, 20 ms": (MANY, [kvkit, plain_aiohttp, bare_asyncio, stock_httpx]),
    "1,024 streams, 200 ms": (MOST, [kvkit, plain_aiohttp, bare_asyncio]),
    "256 at once, 256 idle": (BURST, [kvkit, plain_aiohttp, bare_asyncio, stock_httpx]),
}
Results = dict[tuple[str, str], Figures]


async def measure_all(url: str, repeats: int) -> Results:
    seen: dict[tuple[str, str], list[Figures]] = {}
    for repeat in range(repeats):
        for name, (load, clients) in LOADS.items():
            for client in clients:
                print(f"\r{repeat + 1}/{repeats} {name}, {client.__name__}\033[K", end="", file=sys.stderr, flush=True)
                async with client(url) as send:
                    if load is BURST:
                        await measure(send, load, url)
                    seen.setdefault((name, client.__name__), []).append(await measure(send, load, url))
    print("\r\033[K", end="", file=sys.stderr)
    return {key: Figures.medians(rounds) for key, rounds in seen.items()}


def show(results: Results) -> None:
    print(f"{'load':24}{'client':16}{'TTFT error p50':>16}{'p99':>12}{'k events / CPU-s':>20}")
    for (load, client), figures in results.items():
        print(f"{load:24}{client:16}{figures.p50_ms:13.2f} ms{figures.p99_ms:9.2f} ms{figures.kevents_per_cpu_s:20.1f}")


def judge(results: Results) -> None:
    many, burst, most = (
        results[name, "kvkit"] for name in ("256 streams, 20 ms", "256 at once, 256 idle", "1,024 streams, 200 ms")
    )
    of_aiohttp, of_httpx = (
        many.kevents_per_cpu_s / results["256 streams, 20 ms", client].kevents_per_cpu_s
        for client in ("plain_aiohttp", "stock_httpx")
    )
    for words, met in (
        (f"256 streams: TTFT error p50 {many.p50_ms:.2f} ms (wanted: below 1)", many.p50_ms < 1),
        (f"256 streams: TTFT error p99 {many.p99_ms:.2f} ms (wanted: below 5)", many.p99_ms < 5),
        (f"burst of 256 on idle connections: p99 {burst.p99_ms:.2f} ms (wanted: below 50)", burst.p99_ms < 50),
        (f"1,024 streams: p99 {most.p99_ms:.2f} ms (wanted: below 20)", most.p99_ms < 20),
        (f"events per CPU-second / plain aiohttp {of_aiohttp:.2f} (wanted: at least 0.60)", of_aiohttp >= 0.6),
        (f"events per CPU-second / stock httpx {of_httpx:.2f} (wanted: at least 3.00)", of_httpx >= 3),
    ):
        print(f"{'pass' if met else 'MISS'}  {words}")


@contextmanager
def server(core: int) -> Iterator[str]:
    """The stamping server on a core of its own; yields its address."""
    process = subprocess.Popen([sys.executable, str(SERVER), "--core", str(core)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats: int = parser.parse_args().repeats
    servers_core, clients_core, *_ = sorted(os.sched_getaffinity(0))
    with server(servers_core) as url:
        os.sched_setaffinity(0, {clients_core})
        load_before = os.getloadavg()[0]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(measure_all(url, repeats))
    show(results)
    print(f"medians of {repeats} repeats; load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after")
    judge(results)


if __name__ == "__main__":
    main()
