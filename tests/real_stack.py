"""The real stack, installed by the kit's own role."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tests.playbooks import PROJECT, play

PINS = PROJECT / "roles/stack/files/constraints-stack.txt"


@dataclass(frozen=True)
class RealStack:
    """The environment in which vLLM, LMCache and Mooncake are installed."""

    bin: Path
    directory: Path
    """For what the tests write."""

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(PROJECT),
            "LMCACHE_TRACK_USAGE": "false",
            "MC_STORE_CLIENT_SETUP_RETRIES": "1",
        }


def installed(directory: Path) -> RealStack:
    """Installs it where it is missing (minutes, 3.7 GB); later sessions find it in the user's cache folder.

    Args:
        directory: for what the tests write.
    """
    state = {"KVKIT_STATE_DIR": str(directory / "state")}
    played = play("provision", "inventory/rehearsal", environment=state, timeout_s=1800)
    assert played.exit_code == 0, played.output
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(PINS.read_text().rstrip("\n").encode()).hexdigest()[:12]
    return RealStack(cache / f"kvkit/stack-{key}/venv/bin", directory)
