"""Cells of `kvkit` alone: a run, a proof or a comparison is hit while it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from kvkit.ending import Ending
from kvkit.results.reader import read_records, read_stats
from kvkit.results.stats import RunStats
from tests.faults.cells import Cannot, Cell
from tests.ports import free_ports

LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
REQUESTS = 6
LIMIT_S = 90
ENDS_WITHIN_S = 5


@dataclass
class Bench:
    """An emulated engine and store in processes of their own, and `kvkit` beside them."""

    folder: Path
    mode: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def command(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kvkit", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )

    def start_run(self, *options: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        config = f"--config={self.folder}/config.json"
        run = ("run", config, f"--mode={self.mode}", f"--results-dir={self.results}", *options)
        return self.command(*run, environment=environment)

    def lines(self) -> list[str]:
        return [line for path in self.results.glob("*_requests_*") for line in path.read_text().splitlines(True)]

    def wait_for_records(self, count: int, run: subprocess.Popen[str]) -> None:
        wait_until(lambda: len(self.lines()) >= count, run)

    def stats(self) -> RunStats:
        (path,) = self.results.glob(f"{self.mode.replace('-', '_')}_*_stats_*.json")
        stats = read_stats(path)
        records = read_records(path, stats)
        assert Counter(record.round for record in records) == {1: REQUESTS, 2: REQUESTS}
        return stats

    def prompt_tokens(self) -> float:
        """That the engine has served."""
        page = httpx.get(f"{self.urls['engine']}/metrics", timeout=5).text.splitlines()
        return sum(float(line.split()[-1]) for line in page if line.startswith("vllm:prompt_tokens_total"))

    def resume(self, before: list[str]) -> None:
        """Finish the rest, and see that nothing that had ended was lost or sent again."""
        code, said = ended(self.start_run("--resume"))
        assert code in (Ending.DONE, Ending.INVALID), said
        whole = [line for line in before if line.endswith("\n")]
        assert self.lines()[: len(whole)] == whole, "a finished request was lost or changed"
        self.stats()
        assert list(self.results.glob("*_unfinished_*")) == []


def wait_until(true: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT_S
    while not true():
        assert run.poll() is None, f"it ended before the fault:\n{run.communicate()[0]}"
        assert time.monotonic() < end, "the fault's moment did not come"
        time.sleep(0.01)


def ended(run: subprocess.Popen[str], within_s: float = LIMIT_S) -> tuple[int, str]:
    try:
        said, _ = run.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise AssertionError(f"no end within {within_s} s:\n{run.communicate()[0]}") from None
    assert "Traceback" not in said, said
    return run.returncode, " ".join(said.split())


_TAKEN: set[int] = set()
_TAKING = threading.Lock()


def unused_ports(count: int) -> list[int]:
    """Free, and given to no other cell that runs now."""
    with _TAKING:
        while _TAKEN & set(ports := free_ports(count)):
            continue
        _TAKEN.update(ports)
        return ports


@contextmanager
def bench(folder: Path, mode: str = "with-cache") -> Iterator[Bench]:
    made = Bench(folder, mode)
    rpc, metrics, metadata, port = unused_ports(4)
    store = [f"--store-address=127.0.0.1:{rpc}"]
    connector = "mooncake-store" if mode == "with-cache" else "none"
    engine = [f"--port={port}", "--model=emulated", f"--connector={connector}", "--decode-ms-per-token=20", *store]
    with ExitStack() as running:
        made.urls = {"engine": f"http://127.0.0.1:{port}", "store": f"http://127.0.0.1:{metrics}"}
        for name, page, options in (
            ("store", "/metrics", ["--role=store", f"--metrics-port={metrics}", f"--metadata-port={metadata}", *store]),
            ("engine", "/health", ["--role=engine", *engine]),
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", "kvkit", "emulate", *options],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            running.callback(process.wait)
            running.callback(process.kill)
            made.processes[name] = process
            await_answer(made.urls[name] + page)
        settings: dict[str, Any] = {
            "openai_api": {"base_url": f"http://127.0.0.1:{port}/v1", "model_name": "emulated"},
            "mooncake": {"master_ip": "127.0.0.1", "metrics_port": metrics},
            "model": {"max_tokens": 8},
            "scenarios": ["cold_start"],
            "test": {"requests_per_scenario": REQUESTS, "concurrency": 1, "request_timeout_s": 20},
            "workload": {"prefix_tokens": 512, "suffix_tokens": 64},
        }
        (folder / "config.json").write_text(json.dumps(settings))
        yield made


def await_answer(url: str) -> None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@contextmanager
def full_disk(folder: Path) -> Iterator[Callable[[bool], None]]:
    """A small disk of its own at `folder`; the function fills it or makes room."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=False).returncode:
        raise Cannot("no right to mount a small disk")

    def fill(full: bool) -> None:
        filler = folder / "filler"
        if not full:
            filler.unlink()
            return
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 512)
            except OSError:
                return

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def killed(folder: Path, mode: str) -> str:
    with bench(folder, mode) as it:
        run = it.start_run()
        it.wait_for_records(REQUESTS + 2, run)
        before = it.lines()
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        code, said = ended(it.command("compare", *globs(it.results)))
        assert code == Ending.WRONG_INPUT
        assert "cold_start: the run of " in said
        assert "was cut off in round 2" in said
        it.resume(before)
        return said


def globs(results: Path) -> list[str]:
    return [f"--with-cache-stats={results}/with_cache_*_stats_*", f"--baseline-stats={results}/baseline_*_stats_*"]


def interrupted(folder: Path, mode: str) -> str:
    with bench(folder, mode) as it:
        run = it.start_run()
        it.wait_for_records(REQUESTS + 2, run)
        before = it.lines()
        os.killpg(run.pid, signal.SIGINT)
        code, said = ended(run, ENDS_WITHIN_S)
        assert (code, "interrupted; what had ended by then is in" in said) == (Ending.NOT_FINISHED, True), said
        it.resume(before)
        return said


def worker_killed(folder: Path, mode: str) -> str:
    with bench(folder, mode) as it:
        run = it.start_run("--workers=2", "--concurrency=2")
        it.wait_for_records(2, run)
        workers = [each for each in psutil.Process(run.pid).children() if "spawn_main" in " ".join(each.cmdline())]
        workers[0].kill()
        code, said = ended(run)
        before = it.lines()
        assert code == Ending.NOT_FINISHED
        assert "of 2 was ended by SIGKILL" in said, said
        resumed, said_then = ended(it.start_run("--resume", "--workers=2", "--concurrency=2"))
        assert resumed in (Ending.DONE, Ending.INVALID), said_then
        assert it.lines()[: len(before)] == before
        it.stats()
        return said


def server_killed(folder: Path, mode: str, server: str) -> str:
    with bench(folder, mode) as it:
        run = it.start_run()
        it.wait_for_records(REQUESTS + 2, run)
        before = it.lines()
        it.processes[server].kill()
        code, said = ended(run)
        assert it.lines()[: len(before)] == before
        if mode == "baseline" and server == "store":  # nothing of the baseline needs it
            assert code == Ending.DONE, said
            return said
        assert code in (Ending.INVALID, Ending.NOT_FINISHED), said
        assert it.urls[server].removeprefix("http://") in said or "INVALID" in said, said
        if code == Ending.INVALID:
            assert it.stats().valid is False
        return said


def disk_full(folder: Path, mode: str) -> str:
    with bench(folder, mode) as it, full_disk(it.results) as fill:
        run = it.start_run()
        it.wait_for_records(REQUESTS + 2, run)
        fill(True)
        code, said = ended(run)
        before = it.lines()
        assert code == Ending.NOT_FINISHED
        assert "No space left on device" in said, said
        assert str(it.results) in said
        fill(False)
        it.resume(before)
        return said


def faked_clock(jump: Path) -> dict[str, str]:
    """An environment whose clock is moved by what the file says."""
    if not LIBFAKETIME.exists():
        raise Cannot("libfaketime is not installed")
    jump.write_text("+0")
    return {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(jump),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def clock_jumps_in_a_proof(folder: Path) -> str:
    jump = folder / "jump"
    environment = faked_clock(jump)
    with bench(folder) as it:
        run = it.command("prove", f"--config={folder}/config.json", "--json", environment=environment)
        wait_until(lambda: it.prompt_tokens() > 1000, run)
        jump.write_text("+3600s")
        code, said = ended(run)
        assert (code, '"PROVEN"' in said) == (Ending.DONE, True), said
        return "nothing: it says PROVEN"


def clock_jumps(folder: Path, mode: str) -> str:
    jump = folder / "jump"
    environment = faked_clock(jump)
    with bench(folder, mode) as it:
        run = it.start_run(environment=environment)
        it.wait_for_records(2, run)
        jump.write_text("+3600s")
        it.wait_for_records(REQUESTS + 2, run)
        jump.write_text("-3600s")
        code, said = ended(run)
        stats = it.stats()
        assert (code, stats.valid) == (Ending.DONE, True), said
        for summary in stats.rounds:
            assert summary.duration_s is not None
            assert 0 < summary.duration_s < LIMIT_S
        return said


def prove(it: Bench) -> subprocess.Popen[str]:
    run = it.command("prove", f"--config={it.folder}/config.json", "--json")
    wait_until(lambda: it.prompt_tokens() > 1000, run)  # two of its prompts
    return run


def proof_hit(folder: Path, fault: str) -> str:
    with bench(folder) as it:
        run = prove(it)
        if fault == "kill -9 of kvkit":
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
            code, said = ended(it.command("prove", f"--config={folder}/config.json", "--json"))
            assert (code, '"PROVEN"' in said) == (Ending.DONE, True), said
            return "nothing: it keeps nothing, and again it says PROVEN"
        if fault == "Ctrl-C":
            os.killpg(run.pid, signal.SIGINT)
            code, said = ended(run, ENDS_WITHIN_S)
            assert code == Ending.NOT_FINISHED, said
            return said
        server = "engine" if fault == "kill -9 of vLLM" else "store"
        it.processes[server].kill()
        code, said = ended(run)
        assert code in (Ending.INVALID, Ending.NOT_FINISHED), said
        assert '"PROVEN"' not in said
        return said


def compared(folder: Path, fault: str) -> str:
    results = folder / "results"
    for mode in ("with-cache", "baseline"):
        place = folder / mode
        place.mkdir()
        with bench(place, mode) as it:
            it.folder, shared = place, results
            run = it.command(
                "run", f"--config={place}/config.json", f"--mode={mode}", f"--results-dir={shared}", "--requests=6"
            )
            ended(run)
    compare = ["compare", *globs(results), f"--output={folder}/out/comparison.md"]
    it = Bench(folder, "with-cache")
    if fault == "disk full":
        with full_disk(folder / "out") as fill:
            fill(True)
            code, said = ended(it.command(*compare))
            assert code not in (Ending.DONE, Ending.INVALID)
            assert "No space left on device" in said, said
            fill(False)
            assert ended(it.command(*compare))[0] in (Ending.DONE, Ending.INVALID)
        return said
    (folder / "out").mkdir()
    run = it.command(*compare)
    wait_until(lambda: "scipy" in Path(f"/proc/{run.pid}/maps").read_text(), run)  # it compares
    os.killpg(run.pid, signal.SIGKILL if fault == "kill -9 of kvkit" else signal.SIGINT)
    said = "nothing" if fault == "kill -9 of kvkit" else ended(run, ENDS_WITHIN_S)[1]
    run.communicate()
    code, again = ended(it.command(*compare))
    assert code in (Ending.DONE, Ending.INVALID), again
    return f"{said}; again it writes the report"


def cells() -> list[Cell]:
    made: list[Cell] = []
    for mode in ("with-cache", "baseline"):
        for fault, do in (
            ("kill -9 of kvkit", killed),
            ("Ctrl-C", interrupted),
            ("kill -9 of a load generator's worker", worker_killed),
            ("disk full", disk_full),
            ("clock jump", clock_jumps),
        ):
            made.append(Cell(f"measure {mode}", fault, "kvkit", partial(do, mode=mode)))
        for fault, server in (("kill -9 of vLLM", "engine"), ("kill -9 of the store", "store")):
            made.append(Cell(f"measure {mode}", fault, "kvkit", partial(server_killed, mode=mode, server=server)))
    for fault in ("kill -9 of kvkit", "Ctrl-C", "kill -9 of vLLM", "kill -9 of the store"):
        made.append(Cell("prove", fault, "kvkit", partial(proof_hit, fault=fault)))
    made.append(Cell("prove", "clock jump", "kvkit", clock_jumps_in_a_proof))
    for fault in ("kill -9 of kvkit", "Ctrl-C", "disk full"):
        made.append(Cell("report", fault, "kvkit", partial(compared, fault=fault)))
    return made
