"""Ports as they really are: closed, filtered and slow, in a network namespace with nftables rules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kvkit.checks.gather import network
from kvkit.checks.host import Host
from kvkit.checks.target import Target
from tests.checks.judging import findings
from tests.playbooks import PROJECT
from tests.ports import free_ports

LIMIT_S = 1.5
"""Shorter than the default, so that a filtered port takes no 5 s."""

INSIDE = """
import json, socket, sys
from kvkit.checks.gather import network
from kvkit.checks.host import Host
from kvkit.checks.target import Target
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print(json.dumps(network.gather(Host(), Target.from_dict(json.loads(sys.argv[1])))))
"""


def target(port: int) -> Target:
    return Target.from_dict(settings(port))


def settings(port: int) -> dict[str, object]:
    return {
        "parts": ["vllm"],
        "connector": "mooncake-store",
        "mooncake_host": "127.0.0.1",
        "mooncake_rpc_port": port,
        "timeout_s": LIMIT_S,
    }


def port_faults(facts: dict[str, object], port: int) -> set[str]:
    return {
        found.id
        for found in findings({"network": facts}, target(port))
        if found.status not in ("pass", "skip") and found.id.startswith("network.port")
    }


@dataclass(frozen=True)
class Namespace:
    name: str

    def rule(self, rule: str) -> None:
        self._run("nft", "add", "rule", "inet", "kvkit", "input", *rule.split())

    def gathered(self, port: int, limit_s: float = LIMIT_S) -> dict[str, object]:
        """What the gatherer sees inside, of a port on which somebody listens."""
        asked = {**settings(port), "timeout_s": limit_s}
        done = self._run(sys.executable, "-c", INSIDE, json.dumps(asked), str(port))
        facts: dict[str, object] = json.loads(done.stdout)
        return facts

    def _run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = ["ip", "netns", "exec", self.name, *argv]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=60)


@pytest.fixture(scope="module")
def nft() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces and nftables need root")
    if shutil.which("nft") is None:
        subprocess.run(["apt-get", "install", "-y", "-qq", "nftables"], check=False, capture_output=True)
    if shutil.which("nft") is None:
        pytest.skip("nftables is not installed, and apt-get could not install it")


@pytest.fixture
def namespace(nft: None) -> Iterator[Namespace]:
    name = f"kvkit-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inside = ["ip", "netns", "exec", name]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        subprocess.run([*inside, "nft", "add", "table", "inet", "kvkit"], check=True)
        hook = "{ type filter hook input priority 0 ; }"
        subprocess.run([*inside, "nft", "add", "chain", "inet", "kvkit", "input", hook], check=True)
        yield Namespace(name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.planted("network.port.refused")
def test_a_closed_port_is_refused() -> None:
    (port,) = free_ports(1)
    assert port_faults(network.gather(Host(), target(port)), port) == {"network.port.refused"}


def test_an_open_port_is_healthy(namespace: Namespace) -> None:
    assert port_faults(namespace.gathered(50051), 50051) == set()


@pytest.mark.planted("network.port.filtered")
def test_a_port_whose_packets_are_dropped_is_filtered(namespace: Namespace) -> None:
    namespace.rule("tcp dport 50051 drop")
    assert port_faults(namespace.gathered(50051), 50051) == {"network.port.filtered"}


@pytest.mark.planted("network.port.slow")
def test_a_port_whose_first_packet_is_lost_is_slow(namespace: Namespace) -> None:
    namespace.rule("tcp dport 50051 tcp flags syn numgen inc mod 2 == 0 drop")
    facts = namespace.gathered(50051, limit_s=Target().timeout_s)
    assert port_faults(facts, 50051) == {"network.port.slow"}
