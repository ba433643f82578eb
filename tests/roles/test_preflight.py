"""What preflight says of hosts and endpoints that are as they should be, and of those that are not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.playbooks import Played, play

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
RDMA_LINKS = json.dumps(
    [
        {"ifindex": 0, "ifname": "mlx5_0", "port": 1, "state": "ACTIVE", "physical_state": "LINK_UP"},
        {"ifindex": 1, "ifname": "mlx5_1", "port": 1, "state": "DOWN", "physical_state": "DISABLED"},
    ]
)
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
        "kv_engine": "vllm",
        "kv_profile": "own",
        "kv_results_dir": str(folder / "results"),
        "kv_state_dir": str(folder / "state"),
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


def write_command(path: Path, output: str) -> None:
    """A program that prints `output`, whatever it is asked."""
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    path.chmod(0o755)


def write_ports(root: Path, **devices: tuple[str, str]) -> None:
    """State and physical state of port 1 of each device, as the kernel's sysfs words them."""
    for device, states in devices.items():
        port = root / "class" / "infiniband" / device / "ports" / "1"
        port.mkdir(parents=True)
        for name, text in zip(("state", "phys_state"), states, strict=True):
            (port / name).write_text(f"{text}\n")


def written_findings(folder: Path) -> Findings:
    """What the one findings file of a run says, by host and id."""
    (path,) = (folder / "results").glob("preflight_*.json")
    hosts = json.loads(path.read_text())["hosts"]
    return {host: {finding["id"]: finding for finding in findings} for host, findings in hosts.items()}


@pytest.fixture(scope="module")
def hosts_seen(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Hosts that differ in their RDMA ports and segment sizes, looked at in one run."""
    folder = tmp_path_factory.mktemp("hosts")
    write_command(folder / "bin" / "rdma", RDMA_LINKS)
    write_ports(folder / "sys", mlx5_0=("4: ACTIVE", "5: LinkUp"), mlx5_1=("1: DOWN", "3: Disabled"))
    huge = {"lmcache_profiles": {"own": {**PROFILE, "global_segment_size": 1 << 50}}}
    hosts: dict[str, dict[str, Any]] = {
        "healthy": {"mooncake_rdma_devices": "mlx5_0"},
        "down": {"mooncake_rdma_devices": "mlx5_0,mlx5_1"},
        "absent": {"mooncake_rdma_devices": "mlx5_9"},
        "tcp": {"mooncake_protocol": "tcp"},
        "huge": {"mooncake_rdma_devices": "mlx5_0", **huge},
    }
    inventory = write_inventory(
        folder,
        hosts,
        mooncake_protocol="rdma",
        preflight_stages=["host"],
        preflight_sysfs_root=str(folder / "sys"),
    )
    played = play("preflight", inventory, environment={"PATH": f"{folder}/bin:{os.environ['PATH']}"})
    assert played.exit_code == 2, played.output
    return written_findings(folder)


def test_an_active_port_passes(hosts_seen: Findings) -> None:
    assert hosts_seen["healthy"]["rdma.link.state:mlx5_0"]["status"] == "pass"


def test_a_port_that_is_down_fails_and_its_neighbour_does_not(hosts_seen: Findings) -> None:
    assert hosts_seen["down"]["rdma.link.state:mlx5_0"]["status"] == "pass"
    assert hosts_seen["down"]["rdma.link.state:mlx5_1"]["status"] == "fail"


def test_a_device_that_does_not_exist_fails(hosts_seen: Findings) -> None:
    finding = hosts_seen["absent"]["rdma.link.state:mlx5_9"]
    assert finding["status"] == "fail"
    assert "absent" in finding["seen"]


def test_without_rdma_the_links_are_skipped_with_the_reason(hosts_seen: Findings) -> None:
    finding = hosts_seen["tcp"]["rdma.link.state"]
    assert finding["status"] == "skip"
    assert "protocol tcp" in finding["seen"]


def test_segments_beyond_the_memory_fail_with_the_numbers(hosts_seen: Findings) -> None:
    finding = hosts_seen["huge"]["host.memory.segments"]
    assert finding["status"] == "fail"
    assert "1048576.0 GiB" in finding["seen"]
    assert hosts_seen["healthy"]["host.memory.segments"]["status"] == "pass"


def test_a_kernel_that_lists_no_rdma_link_fails(tmp_path: Path) -> None:
    write_command(tmp_path / "bin" / "rdma", "[]")
    inventory = write_inventory(
        tmp_path, {"bare": {"mooncake_rdma_devices": "mlx5_0"}}, mooncake_protocol="rdma", preflight_stages=["host"]
    )
    played = play("preflight", inventory, environment={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    assert played.exit_code == 2, played.output
    assert written_findings(tmp_path)["bare"]["rdma.link.state:mlx5_0"]["status"] == "fail"


def endpoints(folder: Path, **ports: Any) -> tuple[Played, Findings]:
    """Look at the endpoints of one host, right after it was told to serve unless said otherwise."""
    inventory = write_inventory(
        folder, {"host": {}}, **{"preflight_stages": ["endpoints"], "preflight_after_serve": True, **ports}
    )
    played = play("preflight", inventory)
    return played, written_findings(folder)


def test_healthy_endpoints_pass(tmp_path: Path, serve: Callable[..., int]) -> None:
    metrics = serve(*METRICS)
    played, findings = endpoints(
        tmp_path,
        mooncake_rpc_port=metrics,
        mooncake_metrics_port=metrics,
        mooncake_metadata_port=serve(*METADATA),
        vllm_port=serve(*MODELS),
    )
    assert played.exit_code == 0, played.output
    assert {id: finding["status"] for id, finding in findings["host"].items()} == {
        "mooncake.rpc": "pass",
        "mooncake.metrics": "pass",
        "mooncake.metadata": "pass",
        "openai.models:host": "pass",
    }


@pytest.fixture(scope="module")
def strangers_seen(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., int]) -> tuple[Played, Findings]:
    """Other servers than expected listen on the ports."""
    stranger = serve("/", 200, "hello")
    other_model = serve("/v1/models", 200, json.dumps({"data": [{"id": "another"}]}))
    return endpoints(
        tmp_path_factory.mktemp("strangers"),
        mooncake_rpc_port=stranger,
        mooncake_metrics_port=stranger,
        mooncake_metadata_port=stranger,
        vllm_port=other_model,
    )


@pytest.mark.parametrize("check", ["mooncake.metrics", "mooncake.metadata", "openai.models:host"])
def test_a_stranger_on_the_port_fails(strangers_seen: tuple[Played, Findings], check: str) -> None:
    played, findings = strangers_seen
    assert played.exit_code == 2
    assert findings["host"][check]["status"] == "fail"


def test_a_wrong_model_name_lists_the_served_ones(strangers_seen: tuple[Played, Findings]) -> None:
    assert "serves another" in strangers_seen[1]["host"]["openai.models:host"]["seen"]


def test_the_failed_task_says_what_to_do(strangers_seen: tuple[Played, Findings]) -> None:
    assert "mend: set vllm_model_name to a served name" in strangers_seen[0].text


@pytest.mark.parametrize(("after_serve", "status"), [(False, "skip"), (True, "fail")])
def test_what_the_kit_starts_itself_may_be_down_only_before_it_is_started(
    tmp_path: Path, closed_port: int, after_serve: bool, status: str
) -> None:
    played, findings = endpoints(
        tmp_path,
        mooncake_managed=True,
        preflight_after_serve=after_serve,
        mooncake_rpc_port=closed_port,
        mooncake_metrics_port=closed_port,
        mooncake_metadata_port=closed_port,
        vllm_port=closed_port,
        preflight_timeout_s=1,
    )
    assert played.exit_code == (2 if after_serve else 0), played.output
    assert {finding["status"] for finding in findings["host"].values()} == {status}


def test_a_host_that_is_lost_is_an_error_among_the_findings(tmp_path: Path, closed_port: int) -> None:
    lost = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": closed_port}
    inventory = write_inventory(tmp_path, {"here": {}, "lost": lost}, preflight_stages=["host"])
    played = play("preflight", inventory)
    assert played.exit_code != 0
    findings = written_findings(tmp_path)
    assert findings["lost"]["host.reachable"]["status"] == "error"
    assert findings["here"]["host.memory.segments"]["status"] == "pass"
