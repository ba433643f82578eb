"""What looking at the store once a second costs the client.

    python benchmarks/store_sampling.py [--seconds 5]

An event loop that does nothing else is watched as in a round, without looks, and with looks at a page as large as a
Mooncake master's (25 KB) and at one as large as vLLM's (300 KB), twenty times as often as in a round. Prints how late
the loop was, and the CPU time of one look, which a round pays once a second.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

import uvloop

from kvkit.load.client import open_http
from kvkit.load.lag import LoopLag, LoopWatch
from kvkit.observe.sampling import EVERY_S, StoreSampler
from kvkit.results.distribution import percentile

PAGES = {"none": 0, "25 KB": 25_000, "300 KB": 300_000}
FASTER = 20


class _Master(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.path.removeprefix("/"))
        told = b"\nmem_cache_hit_bytes_total 5\nmaster_allocated_bytes 7\n"
        body = b"# a comment of a page\n" * ((size - len(told)) // 22) + told
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _serve(pipe: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Master)
    pipe.send(server.server_port)
    server.serve_forever()


@contextmanager
def _master() -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


async def _watch(url: str | None, seconds: float) -> tuple[LoopLag, float]:
    async with open_http() as http:
        looking = StoreSampler(http, url, every_s=EVERY_S / FASTER) if url else nullcontext()
        async with looking:
            began_s = time.thread_time()
            with LoopWatch() as watch:
                await asyncio.sleep(seconds)
            return watch.lag, time.thread_time() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description="What looking at the store costs the client.")
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    idle_s = 0.0
    print(f"{'page':>8} {'p50, ms':>8} {'p99, ms':>8} {'max, ms':>8} {'ms a look':>10}")
    with _master() as root:
        for name, size in PAGES.items():
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                lag, cpu_s = runner.run(_watch(f"{root}/{size}" if size else None, seconds))
            delays = sorted(delay * 1000 for delay in lag.delays_s)
            idle_s = idle_s if size else cpu_s
            look = f"{(cpu_s - idle_s) * 1000 / (seconds * FASTER / EVERY_S):10.2f}" if size else f"{'-':>10}"
            print(f"{name:>8} {percentile(delays, 50):8.2f} {percentile(delays, 99):8.2f} {delays[-1]:8.2f} {look}")


if __name__ == "__main__":
    main()
