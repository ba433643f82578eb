"""Cells of the playbooks: `ansible-playbook` with the emulated inventory, hit at a task of the stage.

Before each cell the operator's own engine serves the baseline, which the kit knows nothing of: that is what has to run
again in the end. The state folder is a small disk of its own, which can be filled.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import psutil
import yaml

from tests.cycle.deployment import PORTS, Deployment
from tests.faults.cells import Cannot, Cell
from tests.faults.measuring import unused_ports
from tests.playbooks import PROJECT

LIMIT_S = 300
SMALL = {
    "bench_scenarios": ["cold_start"],
    "bench_requests_per_scenario": 4,
    "bench_max_tokens": 8,
    "kv_cycle": "cell",
}


@dataclass(frozen=True)
class Stage:
    """A playbook, and the task at which the fault comes."""

    playbook: str
    variables: dict[str, Any]
    task: str
    options: tuple[str, ...] = ()
    serves_before: bool = False
    """The kit has put the service into the mode with-cache before."""


MEASURE = ("--skip-tags=preflight,provision,report",)
STAGES = {
    "preflight": Stage("preflight", {}, "Look at the host, and judge"),
    "provision": Stage("provision", {}, "Check the engine's settings"),
    "serve with-cache": Stage("serve", {"kv_mode": "with-cache"}, "Wait for an answer of vllm"),
    "prove": Stage("site", {"kv_modes": ["with-cache"]}, "Send a few prompts cold", MEASURE),
    "measure with-cache": Stage(
        "site", {"kv_modes": ["with-cache"], "bench_prove": False}, "Run kvkit in mode with-cache", MEASURE
    ),
    "switch": Stage("serve", {"kv_mode": "baseline"}, "Run the stop command of with-cache", serves_before=True),
    "serve baseline": Stage("serve", {"kv_mode": "baseline"}, "Wait for an answer of vllm", serves_before=True),
    "measure baseline": Stage("site", {"kv_modes": ["baseline"]}, "Run kvkit in mode baseline", MEASURE),
    "restore": Stage("restore", {}, "Run the stop command of with-cache", serves_before=True),
}


class Machine:
    """The machine as a provisioned host, and the operator's engine on it."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="kvm"))
        self.it = Deployment("local", folder, dict(zip(PORTS, unused_ports(len(PORTS)), strict=True)))
        self.it.state.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(self.it.state)], check=False)
        if mounted.returncode:
            shutil.rmtree(folder)
            raise Cannot("no right to mount a small disk")
        self.variables = {**self.it.ports, "kv_results_dir": str(folder / "results"), **SMALL}
        self.finish("provision")

    def end(self) -> None:
        self.it.end()
        subprocess.run(["umount", "-l", str(self.it.state)], check=False)
        shutil.rmtree(self.it.folder, ignore_errors=True)

    def reset(self) -> None:
        """As after provisioning, with the operator's engine."""
        self.it.end()
        for path in self.it.state.iterdir():
            if path.name in ("tools", "config"):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(self.it.folder / "results", ignore_errors=True)
        self.start_the_operators_engine()

    def start_the_operators_engine(self) -> None:
        settings = (PROJECT / "inventory/local/group_vars/all.yml").read_text()
        assert yaml.safe_load(settings)["local_start"][-1] == "/usr/bin/env"
        state, ports = self.it.state, self.it.ports
        start = ["/usr/sbin/start-stop-daemon", "--start", "--background", "--make-pidfile", "--output"]
        engine = [f"PYTHONPATH={PROJECT}", sys.executable, "-m", "kvkit", "emulate", "--role=engine"]
        engine += [f"--port={ports['vllm_port']}", "--model=emulated", "--connector=none"]
        engine += [f"--store-address=127.0.0.1:{ports['mooncake_rpc_port']}"]
        command = [*start, f"{state}/engine.log", "--startas", "/usr/bin/env", "--pidfile", f"{state}/baseline.pid"]
        subprocess.run([*command, "--", *engine], check=True, timeout=30)
        end = time.monotonic() + 60
        while "vllm_port" not in self.it.listening():
            assert time.monotonic() < end, (state / "engine.log").read_text()
            time.sleep(0.1)

    def start(self, playbook: str, *options: str, **variables: Any) -> Play:
        return Play(self, playbook, options, {**self.variables, **variables})

    def finish(self, playbook: str, **variables: Any) -> str:
        """Run a playbook that must go well."""
        play = self.start(playbook, **variables)
        code = play.wait()
        assert code == 0, f"{playbook}:\n{play.output[-3000:]}"
        return play.output

    def put_back_by_hand(self) -> str:
        if (self.it.state / "found.json").exists():
            return self.finish("restore", kv_break_lock=True)
        return ""

    def assert_as_found(self) -> None:
        assert self.it.listening() == {"vllm_port"}, f"these listen: {self.it.listening()}"
        engine = self.engine()
        assert engine is not None
        assert "--connector=none" in engine.cmdline()
        left = [name for name in ("found.json", "hold.json") if (self.it.state / name).exists()]
        assert left == [], f"left on the host: {left}"

    def engine(self) -> psutil.Process | None:
        """Whoever was started last as the engine."""
        for mode in ("with-cache", "baseline"):
            with suppress(OSError, ValueError, psutil.Error):
                process = psutil.Process(int((self.it.state / f"{mode}.pid").read_text()))
                if "--role=engine" in process.cmdline():
                    return process
        return None

    def store(self) -> psutil.Process | None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if f"--store-address=127.0.0.1:{self.it.ports['mooncake_rpc_port']}" in process.cmdline() and (
                    "--role=store" in process.cmdline()
                ):
                    return process
        return None

    def kept_lines(self) -> int:
        files = (self.it.state / "bench").glob("results/*/*_requests_*")
        return sum(path.read_text().count("\n") for path in files)

    def fill(self, full: bool) -> None:
        filler = self.it.state / "filler"
        if not full:
            filler.unlink(missing_ok=True)
            return
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 1024)


class Play:
    """A playbook that runs, with its output in a file."""

    def __init__(self, machine: Machine, playbook: str, options: tuple[str, ...], variables: dict[str, Any]) -> None:
        self._log = Path(tempfile.mkstemp(prefix="play", dir=machine.it.folder)[1])
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory=inventory/local"]
        command += [f"--extra-vars={json.dumps(variables)}", *options, f"playbooks/{playbook}.yml"]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "KVKIT_STATE_DIR": str(machine.it.state)}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def said(self) -> str:
        return " ".join(self.output.split())

    def wait_for_task(self, name: str) -> None:
        end = time.monotonic() + LIMIT_S
        while f"{name}" not in self.output:
            assert self.process.poll() is None, f"it ended before {name}:\n{self.output[-2000:]}"
            assert time.monotonic() < end, f"{name} did not come"
            time.sleep(0.05)

    def wait(self) -> int:
        try:
            return self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise AssertionError(f"no end within {LIMIT_S} s:\n{self.output[-2000:]}") from None

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def failures(self) -> str:
        """What was said of the failed tasks: host, task and cause."""
        lines = self.output.splitlines()
        failed = [number for number, line in enumerate(lines) if line.startswith(("fatal:", "[ERROR]"))]
        return " ".join(" ".join(lines[number : number + 14]) for number in failed)[:1500]


_MACHINES: Queue[Machine] = Queue()
_ALL: list[Machine] = []
_MAKING = threading.Lock()


@contextmanager
def machine() -> Iterator[Machine]:
    """One that no other cell uses; made where there is none."""
    try:
        one = _MACHINES.get_nowait()
    except Empty:
        one = Machine()
        with _MAKING:
            _ALL.append(one)
    try:
        one.reset()
        yield one
    finally:
        one.fill(False)
        _MACHINES.put(one)


def end_machines() -> None:
    for one in _ALL:
        one.end()


@contextmanager
def hit(stage: Stage) -> Iterator[tuple[Machine, Play]]:
    """A playbook that has come to the task at which the fault comes."""
    with machine() as on:
        if stage.serves_before:
            on.finish("serve", kv_mode="with-cache")
        play = on.start(stage.playbook, *stage.options, **stage.variables)
        try:
            play.wait_for_task(stage.task)
            yield on, play
        finally:
            play.signal(signal.SIGCONT)
            play.signal(signal.SIGKILL)
            play.process.wait()


def control_node_dies(stage: Stage, number: signal.Signals) -> str:
    """Kill -9 or Ctrl-C of ansible-playbook: then `restore.yml`, with the word that breaks the dead run's hold."""
    with hit(stage) as (on, play):
        if stage.playbook == "site":
            wait_until_a_run(on)
        before = on.kept_lines()
        play.signal(number)
        code = play.wait()
        assert code != 0
        held = json.loads((on.it.state / "hold.json").read_text()) if (on.it.state / "hold.json").exists() else None
        said = f"{play.said[-150:]}"
        if held is not None:
            assert "the cycle cell of" in held["told"]
            said += f" hold.json: held by {held['told']} since {held['since']}"
        wait_for_kvkit(on)
        assert on.kept_lines() >= before
        on.put_back_by_hand()
        on.assert_as_found()
        return said


def wait_until_a_run(on: Machine) -> None:
    end = time.monotonic() + 60
    while not kvkits(on):
        assert time.monotonic() < end, "kvkit did not start"
        time.sleep(0.05)


def kvkits(on: Machine) -> list[psutil.Process]:
    found = []
    for process in on.it.processes():
        with suppress(psutil.Error):
            line = process.cmdline()
            if any(word in line for word in ("run", "prove")) and any("kvkit" in word for word in line):
                found.append(process)
    return found


def wait_for_kvkit(on: Machine) -> None:
    """A load generator goes on with its run when the control node is gone."""
    end = time.monotonic() + LIMIT_S
    while kvkits(on) and time.monotonic() < end:
        time.sleep(0.2)


def control_node_is_silent(stage: Stage) -> str:
    """ansible-playbook stands still, the time is up, the host puts itself back; then the control node comes back."""
    with hit(stage) as (on, play):
        if stage.playbook == "site":
            wait_until_a_run(on)
        play.signal(signal.SIGSTOP)
        wait_for_kvkit(on)
        hold = on.it.state / "hold.json"
        held = json.loads(hold.read_text())
        hold.write_text(json.dumps({**held, "until": 0}))
        end = time.monotonic() + 120
        while hold.exists():
            assert time.monotonic() < end, (on.it.state / "guard.log").read_text()
            time.sleep(0.2)
        put_back = json.loads((on.it.state / "put_back.json").read_text())
        assert put_back["failed"] == []
        on.assert_as_found()
        play.signal(signal.SIGCONT)
        code = play.wait()
        on.assert_as_found()
        assert code != 0, play.output[-3000:]
        assert "because the control node had been silent for too long" in play.said, play.output[-3000:]
        return play.failures()


def server_dies(stage: Stage, find: Callable[[Machine], psutil.Process | None]) -> str:
    with hit(stage) as (on, play):
        if stage.playbook == "site":
            wait_until_a_run(on)
        wait_until_there(lambda: find(on))
        server = find(on)
        assert server is not None
        server.kill()
        code = play.wait()
        if code == 0:  # whatever it was, the mode asked for was reached without it
            on.put_back_by_hand()
            on.assert_as_found()
            return "nothing: the playbook went on without it"
        on.put_back_by_hand()
        on.assert_as_found()
        assert "this_machine" in play.failures(), play.output[-3000:]
        return play.failures()


def wait_until_there(find: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while find() is None and time.monotonic() < end:
        time.sleep(0.05)


def disk_fills(stage: Stage) -> str:
    with hit(stage) as (on, play):
        on.fill(True)
        code = play.wait()
        on.fill(False)
        on.put_back_by_hand()
        on.assert_as_found()
        if code == 0:
            return "nothing: nothing had to be written any more"
        assert "this_machine" in play.failures(), play.output[-3000:]
        return play.failures()


def cells() -> list[Cell]:
    made = []
    for name, stage in STAGES.items():
        holds = name not in ("preflight", "provision")
        made += [
            Cell(name, "kill -9 of ansible-playbook", "playbook", _of(control_node_dies, stage, signal.SIGKILL)),
            Cell(name, "Ctrl-C", "playbook", _of(control_node_dies, stage, signal.SIGINT)),
        ]
        if name != "preflight":
            made.append(Cell(name, "disk full", "playbook", _of(disk_fills, stage)))
        if not holds:
            continue
        made.append(Cell(name, "control node silent", "playbook", _of(control_node_is_silent, stage)))
        made.append(Cell(name, "kill -9 of vLLM", "playbook", _of(server_dies, stage, Machine.engine)))
        if name not in ("serve baseline", "measure baseline"):
            made.append(Cell(name, "kill -9 of the store", "playbook", _of(server_dies, stage, Machine.store)))
    return made


def _of(do: Callable[..., str], *arguments: Any) -> Callable[[Path], str]:
    return lambda _folder: do(*arguments)
