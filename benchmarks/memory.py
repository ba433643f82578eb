"""How much memory kvkit takes, against the number of requests of a round.

    python benchmarks/memory.py [--kept 10000 100000 1000000] [--sent 5000 20000]

`kept`: records of 16 gaps are written to a requests file, read back and summarised, each number in its own process.
`sent`: requests of a few words go to a bare server on this machine through the client. What is to be sent is made
before, stays in memory as a whole and is shown on its own: it is the workload's size, not the measurement's.
Wanted: what was added from the first record to the summary rises by less than 16 MiB from the least to the most
requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from kvkit.load.client import ChatClient, ChatSettings
from kvkit.load.share import Share, send_share
from kvkit.results.record import Record
from kvkit.results.stats import Counters, TokensBySource
from kvkit.results.store import RunFiles, open_run
from kvkit.results.summary import summarise_round
from kvkit.results.tally import Tally
from kvkit.workload.request import Message, Request

ALLOWED_RISE_MIB = 16
RECORD = Record(
    request_id="",
    round=1,
    group="document-0",
    scheduled_s=0.0,
    start_s=0.0,
    ttft_s=0.1,
    first_text_s=0.1,
    e2e_s=0.26,
    itl_s=(0.01,) * 16,
    expected_prompt_tokens=1000,
    prompt_tokens=1000,
    cached_tokens=900,
    completion_tokens=17,
    finish_reason="length",
    ok=True,
    http_status=200,
)


def resident_mib(kind: str) -> float:
    """`VmRSS` is now, `VmHWM` the most so far (proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def records(count: int) -> Iterator[Record]:
    for number in range(count):
        start_s = number * 0.001
        yield replace(RECORD, request_id=f"request-{number:07}", scheduled_s=start_s, start_s=start_s)


def summarise(files: RunFiles, folder: Path) -> int:
    tally = Tally(folder)
    for record in files.since(0):
        tally.add(record)
    summary = summarise_round(
        tally,
        number=1,
        isolation=None,
        by_source=TokensBySource(),
        counters=Counters(),
        valid=None,
        invalid_reasons=(),
        max_failed_ratio=1,
    )
    assert summary.ttft_ms.p99 is not None
    return summary.requests.succeeded


def kept(count: int, files: RunFiles, folder: Path) -> float:
    before = resident_mib("VmRSS")
    for record in records(count):
        files.add(record)
    assert summarise(files, folder) == count
    return before


def sent(count: int, files: RunFiles, folder: Path) -> float:
    with stamping_server() as port:
        share = Share(1, [request(number) for number in range(count)], concurrency=64)
        settings = ChatSettings(f"http://127.0.0.1:{port}/v1", "model", 0.0, 60.0, "key")

        async def send() -> None:
            async with ChatClient(settings) as client:
                await send_share(client, share, on_record=files.add)

        before = resident_mib("VmRSS")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(send())
    assert summarise(files, folder) == count
    return before


def request(number: int) -> Request:
    name = f"request-{number:07}"
    return Request(name, name, (Message("user", f"{name} 0.0005"),), None, 4)


@contextmanager
def stamping_server() -> Iterator[int]:
    command = [sys.executable, str(Path(__file__).with_name("stamping_server.py")), "--core=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def measure(way: str, count: int) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        with open_run(folder, "baseline", "cold_start", datetime.now(UTC)) as files:
            before = (kept if way == "kept" else sent)(count, files, folder)
            written = files.size
    print(
        json.dumps(
            {
                "way": way,
                "requests": count,
                "before": before,
                "most": resident_mib("VmHWM"),
                "written": written / 2**20,
                "seconds": time.monotonic() - began,
            }
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--sent", type=int, nargs="*", default=[5_000, 20_000])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], int(arguments.measure[1]))
        return 0
    flat = True
    print(f"{'':6} {'requests':>9} {'made before':>12} {'added':>9} {'on disk':>10} {'took':>7}")
    for way, counts in (("kept", arguments.kept), ("sent", arguments.sent)):
        added = []
        for count in counts:
            done = subprocess.run(
                [sys.executable, __file__, "--measure", way, str(count)], capture_output=True, text=True, check=True
            )
            seen = json.loads(done.stdout)
            added.append(seen["most"] - seen["before"])
            print(
                f"{way:6} {count:9,} {seen['before']:8.0f} MiB {added[-1]:5.1f} MiB {seen['written']:6.0f} MiB "
                f"{seen['seconds']:5.0f} s",
                flush=True,
            )
        flat = flat and (not added or max(added) - added[0] < ALLOWED_RISE_MIB)
    print("flat" if flat else f"NOT flat: rises by more than {ALLOWED_RISE_MIB} MiB")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
