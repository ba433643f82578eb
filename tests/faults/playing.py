"""Cells of the playbooks: `ansible-playbook` with the emulated inventory, hit at a task of the stage.

Before each cell the operator's own engine serves the baseline, which the kit knows nothing of: that is what has to run
again in the end. The state folder is a small disk of its own, which can be filled.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.faults.cells import Cell
from tests.faults.machine import LIMIT_S, Machine, Play, machine
from tests.faults.measuring import faked_clock

ANSIBLE_ENDS_S = 30
ENGINE_GONE = "it ended|no answer|Connect|no whole answer|INVALID|BROKEN|stopped answering|not answer"
STORE_GONE = "metrics do|no answer|NOT ENGAGED|BROKEN|INVALID"


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
    "serve with-cache": Stage("serve", {"kv_mode": "with-cache", "bench_prove": False}, "Wait for an answer of vllm"),
    "prove": Stage("site", {"kv_modes": ["with-cache"]}, "Follow the proof to its end", MEASURE),
    "measure with-cache": Stage(
        "site", {"kv_modes": ["with-cache"], "bench_prove": False}, "Follow kvkit to its end", MEASURE
    ),
    "switch": Stage("serve", {"kv_mode": "baseline"}, "Run the stop command of with-cache", serves_before=True),
    "serve baseline": Stage("serve", {"kv_mode": "baseline"}, "Wait for an answer of vllm", serves_before=True),
    "measure baseline": Stage("site", {"kv_modes": ["baseline"]}, "Follow kvkit to its end", MEASURE),
    "restore": Stage("restore", {}, "Run the stop command of with-cache", serves_before=True),
}


@contextmanager
def hit(stage: Stage) -> Iterator[tuple[Machine, Play]]:
    """A playbook that has come to the task at which the fault comes."""
    with machine() as on:
        if stage.serves_before:
            on.finish("serve", kv_mode="with-cache", bench_prove=False)
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
        again = not ends_within(play, ANSIBLE_ENDS_S)
        if again:
            play.signal(signal.SIGKILL)
        code = play.wait()
        assert code != 0 or number == signal.SIGINT
        held = json.loads((on.it.state / "hold.json").read_text()) if (on.it.state / "hold.json").exists() else None
        said = "ansible-playbook hung, and was killed. " if again else ""
        said += "it went on to its end; " if code == 0 else ""
        said += f"stopped at {play.output[play.output.rindex('TASK [') :].partition(']')[0]}]"
        if held is not None:
            assert "the cycle cell of" in held["told"]
            said += f"; on the host, hold.json: held by {held['told']} since {held['since']}"
        wait_for_kvkit(on)
        assert on.kept_lines() >= before
        on.put_back_by_hand()
        on.assert_as_found()
        return said


def ends_within(play: Play, seconds: float) -> bool:
    """Ansible itself hangs now and then when Ctrl-C meets the start of one of its workers."""
    with suppress(subprocess.TimeoutExpired):
        play.process.wait(seconds)
        return True
    return False


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
        return words_of(play, "because the control node had been silent for too long")


def words_of(play: Play, cause: str) -> str:
    """What the operator was told: the last failure that names host, task and cause."""
    told = [each for each in play.failures() if "this_machine" in each and re.search(cause, each)]
    assert told, f"no failure tells {cause!r}:\n" + "\n".join(play.failures())
    msg = told[-1].rpartition(" msg: ")[2].strip("|- '\"")
    return f"{told[-1].partition(' fatal:')[0]} {msg}"


def server_dies(stage: Stage, find: Callable[[Machine], psutil.Process | None], cause: str) -> str:
    with hit(stage) as (on, play):
        if stage.playbook == "site":
            wait_until_a_run(on)
        wait_until_there(lambda: find(on))
        server = find(on)
        assert server is not None
        server.kill()
        code = play.wait()
        on.put_back_by_hand()
        on.assert_as_found()
        return "nothing: the playbook reached its end without it" if code == 0 else words_of(play, cause)


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
        return words_of(play, "[Nn]o space left|Errno 28")


def clock_jumps(stage: Stage) -> str:
    """The host's clock is a day ahead: its hold is counted by another one, and nothing is put back."""
    with hit(stage) as (on, play):
        environment = {**os.environ, **faked_clock(on.it.folder / "jump")}
        (on.it.folder / "jump").write_text("+86400s")
        guard = [sys.executable, str(on.it.state / "tools/guard.py"), "check", str(on.it.state)]
        subprocess.run(guard, env=environment, check=True, timeout=60)
        assert (on.it.state / "hold.json").exists()
        assert not (on.it.state / "put_back.json").exists()
        assert play.wait() == 0, play.output[-3000:]
        on.put_back_by_hand()
        on.assert_as_found()
        return "nothing: the playbook went on"


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
        if stage.playbook != "site":
            made.append(Cell(name, "clock jump", "playbook", _of(clock_jumps, stage)))
        made.append(Cell(name, "control node silent", "playbook", _of(control_node_is_silent, stage)))
        made.append(Cell(name, "kill -9 of vLLM", "playbook", _of(server_dies, stage, Machine.engine, ENGINE_GONE)))
        if name not in ("serve baseline", "measure baseline"):
            made.append(
                Cell(name, "kill -9 of the store", "playbook", _of(server_dies, stage, Machine.store, STORE_GONE))
            )
    return made


def _of(do: Callable[..., str], *arguments: Any) -> Callable[[Path], str]:
    return lambda _folder: do(*arguments)
