"""How long `kvkit --help` takes, beside an interpreter that does nothing and a bare `import cyclopts`.

    python benchmarks/help_time.py

Each is started in turn, so that what else the machine does meets all of them alike: on a busy machine the best of the
starts and the CPU time say more than the median. Modules are compiled beforehand, as they are from the second start on.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

STARTS = 25

COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "python -c 'import cyclopts'": (sys.executable, "-c", "import cyclopts"),
    "kvkit --help": (str(Path(sys.executable).with_name("kvkit")), "--help"),
}


@dataclass(slots=True)
class Starts:
    """Milliseconds of each start."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def start(command: tuple[str, ...], bytecode: str) -> tuple[float, float]:
    """Milliseconds of wall and of CPU time until the command has ended."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    ended = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return 1000 * (ended - began), 1000 * (used.ru_utime + used.ru_stime)


def main() -> None:
    starts = {name: Starts() for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(STARTS + 1):
            for name, command in COMMANDS.items():
                wall, cpu = start(command, folder)
                if turn:  # the first start compiles
                    starts[name].wall.append(wall)
                    starts[name].cpu.append(cpu)
    print(f"{f'ms, of {STARTS} starts':30}{'wall, best':>12}{'wall, median':>14}{'CPU, median':>13}")
    for name, seen in starts.items():
        best, median, cpu = min(seen.wall), statistics.median(seen.wall), statistics.median(seen.cpu)
        print(f"{name:30}{best:12.0f}{median:14.0f}{cpu:13.0f}")


if __name__ == "__main__":
    main()
