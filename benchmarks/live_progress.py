"""What showing a round live costs the event loop that stamps its tokens.

    python benchmarks/live_progress.py

Prints what a drawing and a record take, and how late the loop ran what was due while 500 requests a second ended:
without progress, with lines, and with what moves in a terminal.
"""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import uvloop
from rich.console import Console

from kvkit.load.lag import LoopWatch
from kvkit.report.round_progress import MovingProgress, ProgressLines, RoundProgress
from kvkit.results.distribution import Distribution
from kvkit.results.record import Record

WATCHED_S = 8.0
REQUESTS_PER_S = 500

RECORD = Record(
    request_id="a",
    round=1,
    group="g",
    scheduled_s=0.0,
    start_s=0.0,
    ttft_s=0.1,
    e2e_s=0.5,
    prompt_tokens=1000,
    cached_tokens=500,
    completion_tokens=16,
    ok=True,
)


@contextmanager
def terminal() -> Iterator[Console]:
    """A terminal that another process reads."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL) as reader, os.fdopen(theirs, "w") as file:
        try:
            yield Console(file=file, force_terminal=True, width=120, highlight=False)
        finally:
            reader.kill()


def told(name: str, seconds: list[float]) -> None:
    found = Distribution.in_ms(seconds)
    figures = f"mean {found.mean:.3f} ms, p50 {found.p50:.3f}, p99 {found.p99:.3f}, max {max(seconds) * 1e3:.3f}"
    print(f"{name:24} {figures}")


def cost_of_a_drawing(console: Console) -> None:
    progress = MovingProgress(console)
    progress.start(10_000)
    adding, drawing = [], []
    for number in range(10_000):
        progress._drawn_s = time.monotonic()
        began_s = time.perf_counter()
        progress.add(replace(RECORD, ttft_s=0.1 + number % 997 / 1000))
        adding.append(time.perf_counter() - began_s)
    for _ in range(1000):
        began_s = time.perf_counter()
        progress._draw()
        drawing.append(time.perf_counter() - began_s)
    progress.stop()
    told("a record", adding)
    told("a drawing", drawing)


async def loop_delay(progress: RoundProgress | None) -> list[float]:
    """How late the loop was, while requests end at a steady pace."""
    if progress is not None:
        progress.start(round(REQUESTS_PER_S * WATCHED_S))
    with LoopWatch() as watch:
        began_s = time.monotonic()
        for number in range(1, round(REQUESTS_PER_S * WATCHED_S)):
            if progress is not None:
                progress.add(RECORD)
            await asyncio.sleep(max(0.0, began_s + number / REQUESTS_PER_S - time.monotonic()))
    if progress is not None:
        progress.stop()
    return list(watch.lag.delays_s)


def main() -> None:
    with terminal() as console:
        cost_of_a_drawing(console)
        forms: tuple[tuple[str, RoundProgress | None], ...] = (
            ("loop delay, no progress", None),
            ("loop delay, lines", ProgressLines(console)),
            ("loop delay, moving", MovingProgress(console)),
        )
        for name, progress in forms:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                told(name, runner.run(loop_delay(progress)))


if __name__ == "__main__":
    main()
