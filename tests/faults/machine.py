"""The machine as a provisioned host, with an engine of the operator's; and a playbook that runs on it."""

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import psutil
import yaml

from tests.cycle.deployment import PORTS, Deployment
from tests.faults.cells import Cannot
from tests.faults.measuring import unused_ports
from tests.playbooks import PROJECT

LIMIT_S = 300
SMALL = {
    "bench_scenarios": ["cold_start"],
    "bench_requests_per_scenario": 4,
    "bench_max_tokens": 8,
    "kv_cycle": "cell",
    "preflight_fail_on": "never",  # the disk is too small for it
}


class Machine:
    """The machine as a provisioned host, and the operator's engine on it."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="kvm"))
        self.it = Deployment(
            PROJECT / "inventory/local", folder, dict(zip(PORTS, unused_ports(len(PORTS)), strict=True))
        )
        self.it.state.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(self.it.state)], check=False)
        if mounted.returncode:
            shutil.rmtree(folder)
            raise Cannot("no right to mount a small disk")
        self.variables = {**self.it.ports, "kv_results_dir": str(folder / "results"), **SMALL}
        try:
            self.finish("provision")
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        with suppress(psutil.Error):
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

    def failures(self) -> list[str]:
        """Of each failed task: its name, and the block that tells host and cause, on one line."""
        told = []
        task = ""
        lines = self.output.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("TASK ["):
                task = line.partition("]")[0] + "]"
            if line.startswith("fatal:"):
                block = lines[number : next((at for at in range(number, len(lines)) if not lines[at]), len(lines))]
                told.append(" ".join(f"{task} {' '.join(block)}".split()))
        return told


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
    one.reset()
    try:
        yield one
    finally:
        one.fill(False)
        _MACHINES.put(one)


def end_machines() -> None:
    for one in _ALL:
        one.end()
    _ALL.clear()
