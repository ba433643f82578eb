"""A host that was made for tests, as whoever logs into it over SSH sees it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Login:
    name: str
    """As it calls itself; unique on the machine, as its network and its files bear it, too."""
    address: str
    folder: Path
    """Of this machine; holds its files, its log, and the keys and the known hosts of whoever logs in."""

    @property
    def root(self) -> Path:
        """Its files, as this machine sees them; but not what it mounts itself: /run, /tmp, /dev."""
        return self.folder / self.name / "root"

    @property
    def log(self) -> Path:
        """What it printed while it came up."""
        return self.folder / f"{self.name}.log"

    def await_login(self, within_s: float) -> None:
        """Return when it has booted.

        Raises:
            AssertionError: it does not come up; with what was seen.
        """
        end = time.monotonic() + within_s
        while (seen := self._try("systemctl", "is-system-running", "--wait")).stdout.strip() not in (
            "running",
            "degraded",
        ):
            told = self.log.read_text(errors="replace")
            assert time.monotonic() < end, f"{self.name} does not come up: {seen.stdout}{seen.stderr}\n{told}"
            time.sleep(0.1)

    def run(self, *argv: str) -> str:
        """What a command on it prints.

        Raises:
            AssertionError: it fails, or the host cannot be reached.
        """
        ended = self._try(*argv)
        assert ended.returncode == 0, f"{self.name}: {argv}: exit code {ended.returncode}: {ended.stderr}"
        return ended.stdout

    def _try(self, *argv: str) -> subprocess.CompletedProcess[str]:
        options = [f"UserKnownHostsFile={self.folder / 'known_hosts'}", "BatchMode=yes", "ConnectTimeout=5"]
        login = ["ssh", "-F", "none", "-i", str(self.folder / "user"), *(f"-o{one}" for one in options)]
        return subprocess.run([*login, f"root@{self.address}", *argv], check=False, capture_output=True, text=True)
