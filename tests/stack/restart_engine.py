"""Ends the process group of a pid file, and starts a command in its place; without a command, that is all.

Not a test module: `engines.restartable_vllm` hands it to kvkit as `service.restart_command`. It returns when the old
processes have ended, as that command must.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ENDS_WITHIN_S = 30


def end(group: int) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)


def main(pid_file: Path, log: Path, command: list[str]) -> None:
    if pid_file.exists():
        end(int(pid_file.read_text()))
        pid_file.unlink()
    if command:
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        pid_file.write_text(str(process.pid))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
