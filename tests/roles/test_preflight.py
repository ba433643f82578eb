"""Preflight over several hosts: each speaks, also those that cannot, and the play fails only after the last."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.playbooks import PROJECT, Played, play

pytestmark = pytest.mark.playbook

Finding = dict[str, str]
Findings = dict[str, dict[str, Finding]]

MODELS = ("/v1/models", 200, json.dumps({"data": [{"id": "served-model"}]}))
METRICS = ("/metrics", 200, "# TYPE master_key_count gauge\nmaster_key_count 0\n")
PROFILE = {
    "chunk_size": 256,
    "global_segment_size": 1 << 20,
    "l1_size_gb": 1,
    "local_buffer_size": 1 << 20,
    "local_cpu": False,
    "max_local_cpu_size": 1,
    "transfer_timeout": 10,
}
METADATA = ("/metadata", 404, "metadata not found")


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., int]]:
    """Start HTTP servers that give one answer each; returns the port."""
    servers = []

    def start(path: str, status: int, body: str) -> int:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path.split("?")[0] == path
                self.send_response(status if found else 404)
                self.send_header("Content-Type", "application/json" if body.startswith("{") else "text/plain")
                self.end_headers()
                self.wfile.write(body.encode() if found else b"no such page")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def closed_port() -> int:
    """A port that refuses: its server is gone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return server.server_port


def write_inventory(folder: Path, hosts: dict[str, dict[str, Any]], **common: Any) -> Path:
    """Every host is this machine in the group `vllm`; the first is the load generator too."""
    first = next(iter(hosts))
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "kv_connector": "mooncake-store",
        "kv_device": "cpu",
        "kv_engine": "vllm",
        "kv_profile": "own",
        "kv_results_dir": str(folder / "results"),
        "kv_state_dir": str(folder / "state"),
        "lmcache_local_hostname": "127.0.0.1",
        "lmcache_profiles": {"own": PROFILE},
        "mooncake_host": "127.0.0.1",
        "mooncake_protocol": "tcp",
        "vllm_host": "127.0.0.1",
        "vllm_model_name": "served-model",
        **common,
    }
    inventory = {
        "all": {
            "vars": variables,
            "children": {
                "vllm": {"hosts": hosts},
                "loadgen": {"hosts": {first: {}}},
                "mooncake_master": {"hosts": {first: {}}},
            },
        }
    }
    path = folder / "hosts.json"
    path.write_text(json.dumps(inventory))
    return path


def written_findings(folder: Path) -> Findings:
    """What the one findings file of a run says, by host and id: the gravest finding of each."""
    (path,) = (folder / "results").glob("preflight_*.json")
    hosts = json.loads(path.read_text())["hosts"]
    return {host: {finding["id"]: finding for finding in ordered(findings)} for host, findings in hosts.items()}


def ordered(findings: list[Finding]) -> list[Finding]:
    """The gravest last, so that it is what an id stands for."""
    return sorted(findings, key=lambda finding: ["pass", "skip", "warn", "error", "fail"].index(finding["status"]))


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """A port that accepts connections and says nothing, as an SSH server that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@dataclass(frozen=True)
class Seen:
    played: Played
    findings: Findings


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, closed_port: int, silent_port: int) -> Iterator[Seen]:
    """One host that answers, and four that each fail to in another way."""
    folder = tmp_path_factory.mktemp("fleet")
    sleeper = folder / "sleeper"
    sleeper.write_text(f"#!/bin/sh\necho $$ >> {folder}/pids\nexec sleep 600\n")
    sleeper.chmod(0o755)
    ssh = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_ssh_timeout": 3}
    hosts: dict[str, dict[str, Any]] = {
        "down": {**ssh, "ansible_port": closed_port},
        "mute": {**ssh, "ansible_port": silent_port},
        "stuck": {"ansible_python_interpreter": str(sleeper)},
        "bare": {"ansible_python_interpreter": "/nowhere/python3"},
        "here": {},
    }
    inventory = write_inventory(folder, hosts, kv_connector="none", preflight_stage="before", preflight_time_limit_s=8)
    try:
        played = play("preflight", inventory)
        yield Seen(played, written_findings(folder))
    finally:
        # Ansible gives the host up and leaves what hangs on it.
        for pid in (folder / "pids").read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def only_id(findings: dict[str, Finding]) -> str:
    (id,) = findings
    return id


@pytest.mark.planted("host.reachable")
def test_a_host_that_is_down_is_named(fleet: Seen) -> None:
    assert only_id(fleet.findings["down"]) == "host.reachable"


@pytest.mark.planted("host.reachable")
def test_a_host_whose_ssh_server_hangs_is_named(fleet: Seen) -> None:
    assert only_id(fleet.findings["mute"]) == "host.reachable"


@pytest.mark.planted("host.answers")
def test_a_host_that_hangs_in_the_checks_is_named(fleet: Seen) -> None:
    assert only_id(fleet.findings["stuck"]) == "host.answers"


@pytest.mark.planted("host.python")
def test_a_host_without_python_is_named(fleet: Seen) -> None:
    assert only_id(fleet.findings["bare"]) == "host.python"


def test_the_others_are_still_checked(fleet: Seen) -> None:
    assert fleet.findings["here"]["vllm.leftovers.processes"]["status"] == "pass"


def test_the_play_fails_after_all_have_spoken(fleet: Seen) -> None:
    assert fleet.played.exit_code != 0
    shown, failed = fleet.played.output.index("TASK [preflight : Show"), fleet.played.output.index("stand in the way")
    assert shown < failed


def test_nothing_fails_the_play_that_only_looks(tmp_path: Path, closed_port: int) -> None:
    inventory = write_inventory(
        tmp_path,
        {"host": {}},
        preflight_fail_on="never",
        mooncake_rpc_port=closed_port,
        mooncake_metrics_port=closed_port,
    )
    played = play("preflight", inventory)
    assert played.exit_code == 0, played.output
    assert written_findings(tmp_path)["host"]["network.port.refused"]["status"] == "fail"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., int]) -> Seen:
    """Other servers than expected listen on the ports, and the segments are larger than any memory."""
    folder = tmp_path_factory.mktemp("strangers")
    stranger = serve("/metrics", 200, "hello")
    inventory = write_inventory(
        folder,
        {"host": {}},
        preflight_stage="after",
        kv_mode="baseline",
        lmcache_python="{{ ansible_playbook_python }}",
        lmcache_profiles={"own": {**PROFILE, "global_segment_size": 1 << 50}},
        mooncake_rpc_port=stranger,
        mooncake_metrics_port=stranger,
        mooncake_metadata_port=0,
        vllm_port=serve(*MODELS),
        vllm_model_name="another",
    )
    played = play("preflight", inventory)
    return Seen(played, written_findings(folder))


@pytest.mark.planted("mooncake.metrics.format")
def test_a_stranger_on_the_metrics_port_fails(strangers: Seen) -> None:
    assert strangers.findings["host"]["mooncake.metrics.format"]["status"] == "fail"


@pytest.mark.planted("host.memory.segments")
def test_segments_beyond_the_memory_fail_with_the_numbers(strangers: Seen) -> None:
    finding = strangers.findings["host"]["host.memory.segments"]
    assert finding["status"] == "fail"
    assert "1048576.0 GiB" in finding["seen"]


def test_what_is_wrong_is_shown_with_its_mend(strangers: Seen) -> None:
    assert "FAIL host mooncake.metrics.format" in strangers.played.text
    assert "Correct mooncake_metrics_port" in strangers.played.text


@pytest.mark.parametrize(("stage", "status"), [("any", "skip"), ("after", "fail")])
def test_what_the_kit_starts_itself_may_be_down_until_it_is_started(
    tmp_path: Path, closed_port: int, stage: str, status: str
) -> None:
    inventory = write_inventory(
        tmp_path,
        {"host": {}},
        preflight_stage=stage,
        mooncake_managed=True,
        mooncake_rpc_port=closed_port,
        mooncake_metrics_port=closed_port,
        mooncake_metadata_port=closed_port,
        vllm_port=closed_port,
    )
    play("preflight", inventory)
    assert written_findings(tmp_path)["host"]["network.port.refused"]["status"] == status


def test_the_hosts_are_held_against_each_other(tmp_path: Path) -> None:
    played = play(
        "preflight", write_inventory(tmp_path, {"one": {}, "two": {}}, kv_connector="none", preflight_stage="before")
    )
    assert played.exit_code == 0, played.output
    (path,) = (tmp_path / "results").glob("preflight_*.json")
    assert "fleet.clock" in {finding["id"] for finding in json.loads(path.read_text())["fleet"]}


def test_the_module_is_documented_for_ansible_doc() -> None:
    told = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-doc"),
            "-t",
            "module",
            "-M",
            "playbooks/library",
            "-j",
            "kv_preflight",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(told.stdout)["kv_preflight"]
    assert set(document["doc"]["options"]) == {"target", "fleet", "silent", "control_time", "sysfs_root", "proc_root"}
    assert {"findings", "facts"} <= set(document["return"])


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file, but those of Ansible itself."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if ".ansible" not in path.parts:
                told = path.lstat()
                if not stat.S_ISSOCK(told.st_mode):
                    found[str(path)] = (told.st_size, told.st_mtime_ns)
    return found


@pytest.mark.parametrize("options", [(), ("--check",)], ids=["run", "check mode"])
def test_it_changes_nothing_on_a_host(tmp_path: Path, options: tuple[str, ...]) -> None:
    home, state = tmp_path / "home", tmp_path / "state"
    home.mkdir()
    state.mkdir()
    (state / "file").write_text("as it was")
    inventory = write_inventory(
        tmp_path, {"host": {}}, kv_connector="none", kv_state_dir=str(state), preflight_stage="before"
    )
    watched = (home, state, Path("/etc"), Path("/dev/shm"))
    before = snapshot(*watched)
    played = play("preflight", inventory, *options, environment={"HOME": str(home)})
    assert played.exit_code == 0, played.output
    assert snapshot(*watched) == before
