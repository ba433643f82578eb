"""One inventory of this machine, isolated from every other: own state folder, own ports, own results."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.playbooks import PROJECT, Played, play, play_cycle
from tests.ports import free_ports

PORTS = (
    "mooncake_rpc_port",
    "mooncake_metrics_port",
    "mooncake_metadata_port",
    "mooncake_owner_port",
    "lmcache_server_port",
    "lmcache_http_port",
    "vllm_port",
)


@dataclass(frozen=True)
class Deployment:
    inventory: Path
    folder: Path
    ports: dict[str, int]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    environment: Mapping[str, str] = field(default_factory=dict)

    def play(self, playbook: str, *options: str, **variables: Any) -> Played:
        return play(playbook, self.inventory, *options, **self._isolated(variables))

    def play_cycle(self, *options: str, **variables: Any) -> Played:
        """The playbook `site`, through `kvkit cycle`."""
        return play_cycle(self.inventory, *options, **self._isolated(variables))

    def _isolated(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "variables": {**self.ports, "kv_results_dir": str(self.folder / "results"), **variables},
            "environment": {"KVKIT_STATE_DIR": str(self.state), **self.environment},
            "timeout_s": 1800,
        }

    def processes(self) -> list[psutil.Process]:
        """Everything that was started for this deployment and still runs."""
        recorded = self._recorded()
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid() and (process.pid in recorded or self._is_named_in(process))
        ]

    def _recorded(self) -> set[int]:
        """What the kit noted as parts of its services: vLLM's workers overwrite their command line and environment."""
        found: set[int] = set()
        for state in (self.state / "services").glob("*/processes.json"):
            with suppress(ValueError):  # cut off on a full disk
                found |= {pid for pid, _started in json.loads(state.read_text())["processes"]}
        return found

    def _is_named_in(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            known = [*process.cmdline(), *process.environ().values(), process.cwd()]
            known += [file.path for file in process.open_files()]
            return process.status() != psutil.STATUS_ZOMBIE and any(str(self.state) in text for text in known)
        return False

    def listening(self) -> set[str]:
        """Names of the ports that somebody listens on."""
        return {name for name, port in self.ports.items() if self._answers(port)}

    @staticmethod
    def _answers(port: int) -> bool:
        with socket.socket() as sock:
            sock.settimeout(5)
            return sock.connect_ex(("127.0.0.1", port)) == 0

    def stats(self, cycle: str) -> dict[tuple[str, str], dict[str, Any]]:
        """The stats files of a cycle by mode and scenario."""
        files = (self.folder / "results" / cycle).glob("*_stats_*.json")
        loaded = [json.loads(file.read_text()) for file in files]
        return {(stats["mode"], stats["scenario"]): stats for stats in loaded}

    def proofs(self, cycle: str) -> list[dict[str, Any]]:
        """What `kvkit prove` said in a cycle."""
        files = sorted((self.folder / "results" / cycle).glob("prove_*.json"))
        return [json.loads(file.read_text()) for file in files]

    def end(self) -> None:
        """Kill what is still there, however the test went, and remove the memory that only those processes shared."""
        abandoned_before = abandoned_shared_memory()
        left = self.processes()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=30)
        for name in abandoned_shared_memory() - abandoned_before if left else ():
            Path("/dev/shm", name).unlink(missing_ok=True)


@contextmanager
def deployed(inventory: str | Path, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Deployment]:
    """Of an inventory of the project, by its name, or of a file."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    deployment = Deployment(PROJECT / "inventory" / inventory, folder, ports, environment or {})
    try:
        yield deployment
    finally:
        deployment.end()


def abandoned_shared_memory() -> set[str]:
    """Segments that no process maps: whoever made them is gone, and they stay until the machine restarts."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            mapped += maps.read_text(errors="replace")
    return {segment.name for segment in Path("/dev/shm").iterdir() if f"/dev/shm/{segment.name}" not in mapped}


def vllm_workers() -> list[str]:
    """Of any deployment of this checkout: orphans name no folder of theirs any more."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("VLLM::") and Path(process.cwd()).is_relative_to(PROJECT):
                found.append(f"{process.pid} {title.strip()}")
    return found


def external_tokens(stats: dict[str, Any]) -> list[int]:
    """Prompt tokens that came from the connector, by round."""
    return [round_["tokens"]["by_source"]["external"] for round_ in stats["rounds"]]
