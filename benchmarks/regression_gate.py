"""How often `kvkit history` and `kvkit gate` catch a regression that is known, and pass where there is none.

    python benchmarks/regression_gate.py [--series 10] [--jobs 6]

Each series is ten runs of the emulated engine, measured as a user does: the client over real HTTP, a cold and a hit
round of 30 prompts, other prompts in each run. From the sixth run on, everything the engine does takes 10 % longer, or
not. Each run has a pace of its own (lognormal, sigma 1 %), as the same deployment has from one start to the next, and
each request too (sigma 5 %). Then, as a user would after the fact and as CI would:

    trend      `kvkit history --trend` over all ten runs
    gate 5:5   the last five runs against the five before: `kvkit gate --max-ttft-regression 5% --stats ... `
    gate 1:5   the sixth run alone against the five before it

Of the series with a regression the trend and the gate over five runs are to catch at least 90 of 100 rounds; of those
without, they are to pass at least 90 (both rounds of a run share its pace, so one series by chance is two rounds). One
run is judged too, and may be told to be too little; it must not be wrong more often. Ends with 1 when that does not
hold. Runs go on side by side, asleep for most of the time; on two idle cores 2 x 10 series take about eight minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import io
import multiprocessing
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import exp
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console

from kvkit import bench
from kvkit.config import Config
from kvkit.emulator import Addresses, EmulatorSettings, running
from kvkit.ending import Ending
from kvkit.history.against import Against
from kvkit.history.folder import read_history
from kvkit.history.gate import judge
from kvkit.history.regression import regressions
from kvkit.history.trend import Shift, trends
from kvkit.observe import quiet, servers
from kvkit.report.terminal import TerminalReporter
from kvkit.results import bootstrap  # noqa: F401 - imported once here, not in the middle of each worker's first run

RISES = {"planted 10 %": 0.10, "none": 0.0}
LIMIT_PERCENT = 5.0
WANTED = 0.9

RUNS = 10
CHANGED_RUN = 5
"""Counted from 0."""
RUN_SCATTER = 0.01
JITTER = 0.05

REQUESTS = 30
PROMPT_TOKENS = 575
BLOCK_TOKENS = 16
LOADED_TOKENS = (PROMPT_TOKENS - 1) // BLOCK_TOKENS * BLOCK_TOKENS
KV_BYTES_PER_TOKEN = 1000
PREFILL_S = 0.2
HIT_S = 0.1
QUIET_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of one round of one series."""

    trend: str
    gate_of_five: str
    gate_of_one: str
    rise: float
    """As the gate over five runs measured it."""


def engine_settings(pace: float, seed: int) -> EmulatorSettings:
    """An engine on which a prefill takes `PREFILL_S` and a hit `HIT_S`, each times `pace`."""
    rate = PROMPT_TOKENS / PREFILL_S / pace
    load_s = HIT_S * pace - (PROMPT_TOKENS - LOADED_TOKENS) / rate
    return EmulatorSettings(
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
        jitter_seed=seed,
    )


def run_once(folder: Path, pace: float, seed: int) -> None:
    """One run with the cache, on an engine of its own in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(engine_settings(pace, seed), theirs), daemon=True
    )
    process.start()
    printed = io.StringIO()
    console = Console(file=printed)
    try:
        config = _config(ours.recv(), seed)
        ending = bench.run(config, mode="with-cache", results_dir=folder, reporter=TerminalReporter(console, console))
    finally:
        ours.send("end")
        process.join()
    if ending not in (Ending.DONE, Ending.INVALID):
        raise RuntimeError(f"the run of seed {seed} ended with {ending}:\n{printed.getvalue()}")


def _serve(settings: EmulatorSettings, connection: Connection) -> None:
    async def serve() -> None:
        async with running(settings) as addresses:
            connection.send(addresses)
            await asyncio.get_running_loop().run_in_executor(None, connection.recv)

    asyncio.run(serve())


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


def measure(rise: float, series: int) -> list[Told]:
    """Ten runs, and what trend and gate say of each round."""
    scatter = random.Random(series)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(RUNS):
            pace = exp(scatter.gauss(0, RUN_SCATTER)) * (1 + rise if number >= CHANGED_RUN else 1)
            run_once(folder / f"{number}", pace, series * RUNS + number)
        return _told(folder)


def _told(folder: Path) -> list[Told]:
    history = read_history(folder)
    assert len(history.runs) == RUNS
    after = [str(run.path) for run in history.runs[CHANGED_RUN:]]
    five, one = (regressions(paths, Against.parse("last:5"), folder) for paths in (after, after[:1]))
    of_five, of_one = judge(five, LIMIT_PERCENT), judge(one, LIMIT_PERCENT)
    return [
        Told(
            trend=_shift(trend.shift, history.runs[CHANGED_RUN].run_id),
            gate_of_five=ours.judged.outcome,
            gate_of_one=theirs.judged.outcome,
            rise=ours.round.change.ratio - 1 if ours.round and ours.round.change else float("nan"),
        )
        for trend, ours, theirs in zip(trends(history.runs), of_five.cases, of_one.cases, strict=True)
    ]


def _shift(shift: Shift | None, changed: str) -> str:
    if shift is None:
        return "no shift"
    direction = "slower" if shift.ratio > 1 else "faster"
    return f"{direction} from the sixth run on" if shift.first.run_id == changed else f"{direction} from another run on"


def report(name: str, told: list[Told], *, planted: bool) -> bool:
    """Print what was said of one kind of series; whether it was as often right as wanted."""
    rises = [one.rise for one in told if one.rise == one.rise]
    print(f"{name}: {len(told)} rounds, measured rise {100 * sum(rises) / len(rises):+.1f} % in the mean")
    for label, said in (
        ("trend", Counter(one.trend for one in told)),
        ("gate 5:5", Counter(one.gate_of_five for one in told)),
        ("gate 1:5", Counter(one.gate_of_one for one in told)),
    ):
        print(f"  {label:9} " + ", ".join(f"{words} {count}" for words, count in said.most_common()), flush=True)
    least = WANTED * len(told)
    caught = sum(one.trend.startswith("slower") for one in told)
    trend_right = caught if planted else sum(one.trend == "no shift" for one in told)
    right, wrong = ("regression", "pass") if planted else ("pass", "regression")
    five_right = sum(one.gate_of_five == right for one in told)
    one_not_wrong = sum(one.gate_of_one != wrong for one in told)
    return min(trend_right, five_right, one_not_wrong) >= least


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10, help="series of ten runs, with a regression and without")
    parser.add_argument("--jobs", type=int, default=6, help="series that go on side by side")
    arguments = parser.parse_args()
    servers.wait_quiet = functools.partial(quiet.wait_quiet, poll_s=QUIET_POLL_S)  # type: ignore[attr-defined]
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        going_on = {
            name: [pool.submit(measure, rise, series) for series in range(arguments.series)]
            for name, rise in RISES.items()
        }
        right = [
            report(name, [one for future in futures for one in future.result()], planted=RISES[name] > 0)
            for name, futures in going_on.items()
        ]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
