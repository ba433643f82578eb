"""The host as gatherers see it: files below roots that tests can move, and commands that cannot hang."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_LIMIT_S = 10.0
"""`nvidia-smi` hangs when a GPU has fallen off the bus."""
FILE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Ran:
    """An external command. `problem` is empty, or why there is no exit code: `missing`, `timeout`, other words."""

    rc: int = -1
    out: str = ""
    err: str = ""
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.rc == 0 and not self.problem


@dataclass(frozen=True)
class Host:
    """Read-only: nothing here creates, changes or removes anything."""

    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")
    root: Path = Path("/")
    """For everything else: /dev, /etc, /tmp."""
    search_path: str = field(default_factory=lambda: os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")

    def read(self, path: Path) -> str | None:
        """The stripped text of a file (at most 1 MiB); None where there is none or the kernel gives none."""
        try:
            with path.open("rb") as file:
                return file.read(FILE_LIMIT_BYTES).decode(errors="replace").strip()
        except (OSError, ValueError):  # of a name that another file told, with a zero byte in it
            return None

    def names(self, directory: Path) -> list[str]:
        """Sorted names in a directory; none where it is missing or closed."""
        try:
            return sorted(entry.name for entry in directory.iterdir())
        except (OSError, ValueError):
            return []

    def run(self, argv: list[str], limit_s: float = COMMAND_LIMIT_S, stdin: str = "") -> Ran:
        """Run a command that changes nothing, for at most `limit_s`; its whole group is ended then."""
        program = shutil.which(argv[0], path=self.search_path)
        if program is None:
            return Ran(problem="missing")
        environment = {**os.environ, "PATH": self.search_path, "LC_ALL": "C"}
        try:
            process = subprocess.Popen(  # noqa: S603  the gatherers' own commands
                [program, *argv[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            return Ran(problem=error.strerror or str(error))
        try:
            out, err = process.communicate(stdin, timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            return Ran(problem="timeout")
        return Ran(process.returncode, out, err)
