"""How often `kvkit compare` recovers a speed-up that is known, because the emulated engine was set to it.

    python benchmarks/known_speedups.py [--runs 100] [--jobs 12]

Each run measures both modes as a user does: the client over real HTTP, a cold and a hit round of 20 prompts, then the
comparison of the files. The engine computes a prompt in 240 ms and loads it so fast that a hit takes 240, 240 / 1.1
or 80 ms; each request has a pace of its own (lognormal, sigma 0.3) in both modes. So the true ratio of the medians, of
the means and of a typical request is the ratio of these times. What the client, HTTP and the event loops add, a few
milliseconds, is no part of it: the mean of the measured ratios shows how far that pulls them.

Prints for each speed-up in how many runs the true value lies in the 95 % interval, and the verdicts. Of 100 runs at
least 93 are to hold it, and of those without a speed-up at least 93 to say "no difference". Ends with 1 when they do
not. Runs go on side by side, asleep for most of the time; on two idle cores 3 x 100 take about ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import io
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from math import exp, log
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean

from rich.console import Console

from kvkit import bench
from kvkit.config import Config
from kvkit.emulator import Addresses, EmulatorSettings, running
from kvkit.ending import Ending
from kvkit.observe import quiet, servers
from kvkit.report.terminal import TerminalReporter
from kvkit.results import bootstrap  # noqa: F401 - imported once here, not in the middle of each worker's first run
from kvkit.results.comparison import compare
from kvkit.results.speedup import Speedup
from kvkit.results.stats import Mode
from kvkit.results.verdict import Effect

SPEEDUPS = {"none": 1.0, "10 %": 1.1, "3 times": 3.0}
WANTED = 0.93

REQUESTS = 20
PROMPT_TOKENS = 575
BLOCK_TOKENS = 16
LOADED_TOKENS = (PROMPT_TOKENS - 1) // BLOCK_TOKENS * BLOCK_TOKENS
KV_BYTES_PER_TOKEN = 1000
PREFILL_S = 0.24
JITTER = 0.3
QUIET_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Found:
    median: Speedup
    mean: Speedup
    trimmed: Speedup
    effect: Effect


def engine_settings(speedup: float, seed: int) -> dict[Mode, EmulatorSettings]:
    """Both modes' engines: a prefill takes `PREFILL_S`; a hit, with what is left to compute, `PREFILL_S / speedup`."""
    rate = PROMPT_TOKENS / PREFILL_S
    load_s = PREFILL_S / speedup - (PROMPT_TOKENS - LOADED_TOKENS) / rate
    common = functools.partial(
        EmulatorSettings,
        port=0,
        store_address="127.0.0.1:0",
        metrics_port=0,
        metadata_port=0,
        prefill_tokens_per_s=rate,
        decode_ms_per_token=0,
        block_size=BLOCK_TOKENS,
        kv_bytes_per_token=KV_BYTES_PER_TOKEN,
        external_bandwidth=LOADED_TOKENS * KV_BYTES_PER_TOKEN / load_s,
        jitter=JITTER,
    )
    return {
        "with-cache": common(jitter_seed=2 * seed),
        "baseline": common(role="engine", connector="none", jitter_seed=2 * seed + 1),
    }


@contextmanager
def serving(settings: dict[Mode, EmulatorSettings]) -> Iterator[dict[Mode, Addresses]]:
    """The engines of both modes in a process of their own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(settings, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        process.join()


def _serve(settings: dict[Mode, EmulatorSettings], connection: Connection) -> None:
    async def serve() -> None:
        async with AsyncExitStack() as stack:
            connection.send({mode: await stack.enter_async_context(running(one)) for mode, one in settings.items()})
            await asyncio.get_running_loop().run_in_executor(None, connection.recv)

    asyncio.run(serve())


def measure(speedup: float, seed: int) -> Found:
    """One run of both modes, and what the comparison makes of it."""
    with serving(engine_settings(speedup, seed)) as addresses, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for mode, at in addresses.items():
            printed = io.StringIO()
            console = Console(file=printed)
            ending = bench.run(
                _config(at, seed), mode=mode, results_dir=folder, reporter=TerminalReporter(console, console)
            )
            if ending != Ending.DONE:
                raise RuntimeError(f"the run of seed {seed} in mode {mode} ended with {ending}:\n{printed.getvalue()}")
        (this,) = compare([f"{folder}/with_cache_*_stats_*"], [f"{folder}/baseline_*_stats_*"]).scenarios
    (hit,) = this.hits
    assert hit.round.with_cache.prompt_tokens == REQUESTS * PROMPT_TOKENS
    assert hit.round.with_cache.by_source.external == REQUESTS * LOADED_TOKENS
    found = hit.round.speedups
    assert found is not None
    assert found.ttft_median
    assert found.ttft_mean
    assert found.ttft_trimmed
    return Found(found.ttft_median, found.ttft_mean, found.ttft_trimmed, hit.verdict.effect)


def _config(at: Addresses, seed: int) -> Config:
    return Config.model_validate(
        {
            "openai_api": {"base_url": f"{at.engine}/v1", "model_name": "emulated"},
            "model": {"name": "emulated", "max_tokens": 2},
            "scenarios": ["cold_start"],
            "test": {"requests_per_scenario": REQUESTS, "concurrency": 1, "isolation": "device", "seed": seed},
            "workload": {"prefix_tokens": PROMPT_TOKENS - 63, "suffix_tokens": 64},
        }
    )


def report(name: str, speedup: float, found: list[Found]) -> bool:
    """Print what was found of one speed-up; whether it is as often right as wanted."""
    print(f"speed-up {name} (true value {speedup:g}), {len(found)} runs")
    shares = {}
    for figure in ("median", "mean", "trimmed"):
        ratios = [getattr(one, figure) for one in found]
        held = sum(one.interval is not None and one.interval.holds(speedup) for one in ratios)
        shares[figure] = held / len(found)
        typical = exp(fmean(log(one.ratio) for one in ratios))
        print(f"  {figure:8} true value in the interval: {held:4} of {len(found)}, measured {typical:.3f} in the mean")
    effects = Counter(one.effect for one in found)
    print("  verdicts: " + ", ".join(f"{effect} {count}" for effect, count in effects.most_common()), flush=True)
    right = effects["no_difference"] / len(found) >= WANTED if speedup == 1 else True
    return shares["median"] >= WANTED and right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="runs of each speed-up")
    parser.add_argument("--jobs", type=int, default=12, help="runs that go on side by side")
    arguments = parser.parse_args()
    servers.wait_quiet = functools.partial(quiet.wait_quiet, poll_s=QUIET_POLL_S)  # type: ignore[attr-defined]
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        running_now = {
            name: [pool.submit(measure, speedup, seed) for seed in range(arguments.runs)]
            for name, speedup in SPEEDUPS.items()
        }
        right = [
            report(name, SPEEDUPS[name], [future.result() for future in futures])
            for name, futures in running_now.items()
        ]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
