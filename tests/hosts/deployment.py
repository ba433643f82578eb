"""The kit's inventory of hosts that were made here, and its playbooks on them, over SSH."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import yaml

from tests.hosts.cluster import AnyHost, Cluster
from tests.playbooks import PROJECT, Played, play

BIN = Path(sys.executable).parent
STATE = Path("/var/lib/kvkit")
CACHE = Path("/var/cache/kvkit")
UNIT = "kvkit-vllm.service"
MODEL = "emulated"

LOST_AFTER_S = 4
"""As in ansible.cfg it would be a minute."""

EMULATED: dict[str, Any] = {
    "kv_engine": "emulated",
    "kv_device": "cpu",
    "kv_connector": "mooncake-store",
    "kv_profile": "rehearsal",
    "mooncake_managed": True,
    "mooncake_service_manager": "systemd",
    "mooncake_environment": {"PYTHONPATH": str(PROJECT)},
    "mooncake_emulated_command": [
        *(sys.executable, "-m", "kvkit", "emulate", "--role=store"),
        "--store-address={{ mooncake_host }}:{{ mooncake_rpc_port }}",
        *("--metrics-port={{ mooncake_metrics_port }}", "--metadata-port={{ mooncake_metadata_port }}"),
    ],
    "lmcache_local_hostname": "{{ ansible_host }}",
    "vllm_service_manager": "systemd",
    "vllm_command": [sys.executable, str(PROJECT / "tests/emulated_vllm.py"), "serve", MODEL],
    "vllm_environment": {"PYTHONPATH": str(PROJECT)},
    "vllm_model_name": MODEL,
    "vllm_dev_mode": True,
    "vllm_ready_timeout_s": 60,
    "vllm_poll_s": 1,
    "bench_poll_s": 1,
    "bench_scenarios": ["cold_start"],
    "bench_requests_per_scenario": 4,
    "bench_concurrency": 1,
    "bench_max_tokens": 4,
    "bench_workload": {"prefix_tokens": 2048, "suffix_tokens": 128},
}


@dataclass(frozen=True)
class Deployment(Generic[AnyHost]):
    cluster: Cluster[AnyHost]
    inventory: Path
    lost_after_s: int = LOST_AFTER_S
    """Of silence, after which a host counts as lost."""

    @property
    def results(self) -> Path:
        return self.cluster.folder / "results"

    def play(self, playbook: str, *options: str, timeout_s: float = 600, **variables: Any) -> Played:
        """Run one of the kit's playbooks from this machine, the control node."""
        alive = (f"ServerAliveInterval={self.lost_after_s // 2}", "ServerAliveCountMax=2")
        connection = ("ControlMaster=auto", "ControlPersist=30m", *alive)
        environment = {
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.cluster.control_paths),
            "ANSIBLE_SSH_ARGS": " ".join(f"-o {option}" for option in connection),
            "ANSIBLE_TIMEOUT": str(max(10, self.lost_after_s)),
        }
        return play(
            playbook, self.inventory, *options, variables=variables, environment=environment, timeout_s=timeout_s
        )

    def preflight(self, *, timeout_s: float = 600, **variables: Any) -> dict[str, Any]:
        """What it writes: the findings of each of the `hosts`, and of the `fleet`."""
        played = self.play("preflight", timeout_s=timeout_s, preflight_fail_on="never", **variables)
        assert played.exit_code == 0, played.output
        written = max(self.results.glob("preflight_*.json"), key=lambda path: path.stat().st_mtime_ns)
        found: dict[str, Any] = json.loads(written.read_text())
        return found

    def mode(self, host: str) -> str:
        """In which the engine of this host runs, as its own process tells."""
        pid = self.cluster[host].run("systemctl", "show", "--property=MainPID", "--value", UNIT).strip()
        if pid == "0":
            return "stopped"
        return (
            "with-cache"
            if "--kv-transfer-config" in self.cluster[host].run("cat", f"/proc/{pid}/cmdline")
            else "baseline"
        )


def statuses(findings: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Of each finding, by the check's id and its subject."""
    return {(finding["id"], finding["subject"]): finding["status"] for finding in findings}


def deployment(
    cluster: Cluster[AnyHost],
    groups: Mapping[str, Sequence[str]],
    settings: Mapping[str, Any] = EMULATED,
    lost_after_s: int = LOST_AFTER_S,
) -> Deployment[AnyHost]:
    """The hosts of a cluster in the groups of the kit; the first of `mooncake_master` is the store."""
    reached = cluster.reached
    everywhere = {
        **settings,
        "kv_state_dir": str(STATE),
        "kv_cache_dir": str(CACHE),
        "bench_kvkit": str(BIN / "kvkit"),
        "mooncake_host": cluster[groups["mooncake_master"][0]].address,
        "kv_results_dir": str(cluster.folder / "results"),
    }
    children = {group: {"hosts": {name: reached[name] for name in names}} for group, names in groups.items()}
    inventory = cluster.folder / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": everywhere, "children": children}}))
    return Deployment(cluster, inventory, lost_after_s)
