"""Runs the project's playbooks as an operator does, and tells what came of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Played:
    """How `ansible-playbook` ended, and everything it printed."""

    exit_code: int
    output: str

    def changed(self, host: str) -> int:
        """The recap's count of changes on `host`."""
        counts = re.findall(rf"^{re.escape(host)} +:.*? changed=(\d+)", self.output, re.MULTILINE)
        assert counts, f"no recap of {host}:\n{self.output[-2000:]}"
        return int(counts[-1])

    @property
    def text(self) -> str:
        """The output on one line, so that a message is found wherever it was wrapped."""
        return " ".join(self.output.split())


def play(
    playbook: str,
    inventory: Path | str,
    *options: str,
    variables: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 600,
) -> Played:
    """Run `playbooks/<playbook>.yml`; what is still running after `timeout_s` is killed with all it started.

    Args:
        playbook: without folder and ending.
        inventory: as for `-i`.
        options: further arguments of `ansible-playbook`.
        variables: as for `-e`; they win over the inventory's.
        environment: added to this process's.
        timeout_s: far above what the playbook takes on a busy machine.
    """
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={inventory}",
        f"--extra-vars={json.dumps(dict(variables or {}))}",
        *options,
        f"playbooks/{playbook}.yml",
    ]
    return _run(command, environment or {}, timeout_s)


def play_cycle(
    inventory: Path | str,
    *options: str,
    variables: Mapping[str, Any],
    environment: Mapping[str, str],
    timeout_s: float,
) -> Played:
    """Run `kvkit cycle`, as `play` does a playbook."""
    kvkit = str(Path(sys.executable).with_name("kvkit"))
    given = [f"--inventory={inventory}", f"--extra-vars={json.dumps(dict(variables))}"]
    return _run([kvkit, "cycle", *given, *options], environment, timeout_s)


def _run(command: list[str], environment: Mapping[str, str], timeout_s: float) -> Played:
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Played(process.returncode, output)
