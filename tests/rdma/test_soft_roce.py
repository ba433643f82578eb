"""Preflight and Mooncake on two machines with real RDMA devices, made of software."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts.cluster import missing as missing_for_hosts
from tests.hosts.cluster import switched_off
from tests.hosts.deployment import Deployment, deployment, statuses
from tests.rdma.virtual_machine import MTU, VirtualMachine, made, missing
from tests.real_stack import RealStack

pytestmark = pytest.mark.rdma

DEVICE = "rxe0"
RPC_PORT, METRICS_PORT, OWNER_PORT = 50051, 9003, 50172
SLOW_S = 300
"""An emulated processor takes ten times as long for everything."""


def settings(stack: RealStack) -> dict[str, Any]:
    return {
        "kv_engine": "vllm",
        "kv_device": "cpu",
        "kv_connector": "mooncake-store",
        "kv_profile": "rehearsal",
        "mooncake_managed": True,
        "mooncake_protocol": "rdma",
        "mooncake_rdma_devices": DEVICE,
        "mooncake_rpc_port": RPC_PORT,
        "mooncake_metrics_port": METRICS_PORT,
        "mooncake_metadata_port": 0,
        "lmcache_python": stack.python,
        "lmcache_local_hostname": "{{ ansible_host }}",
        "vllm_model_name": "none",
        "vllm_service_manager": "supervisord",
        "preflight_stage": "any",
        "preflight_timeout_s": SLOW_S,
        "preflight_time_limit_s": 2 * SLOW_S,
    }


@pytest.fixture(scope="module")
def machines(real_stack: RealStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment[VirtualMachine]]:
    """A store that moves bytes over RDMA only, and a host that will be an engine's."""
    if reason := missing_for_hosts() or missing():
        pytest.skip(reason)
    with switched_off(tmp_path_factory.mktemp("rdma"), ("store", "gpu1"), made) as hosts:
        for machine in hosts.hosts.values():
            machine.boot()
        for machine in hosts.hosts.values():
            machine.await_boot()
            machine.run("rdma", "link", "add", DEVICE, "type", "rxe", "netdev", "eth0")
        groups = {"mooncake_master": ["store"], "vllm": ["gpu1"], "loadgen": ["gpu1"]}
        deployed = deployment(hosts, groups, settings(real_stack), lost_after_s=SLOW_S)
        start_store(hosts["store"], real_stack)
        yield deployed


def start_store(machine: VirtualMachine, stack: RealStack) -> None:
    address = machine.address
    start(
        machine,
        stack,
        "mooncake_master",
        f"--rpc_address={address}",
        f"--rpc_port={RPC_PORT}",
        f"--metrics_host={address}",
        f"--metrics_port={METRICS_PORT}",
    )
    start(
        machine,
        stack,
        "mooncake_client",
        f"--master_server_address={address}:{RPC_PORT}",
        "--metadata_server=P2PHANDSHAKE",
        f"--host={address}",
        f"--port={OWNER_PORT}",
        "--protocol=rdma",
        f"--device_names={DEVICE}",
        "--global_segment_size=256MB",
    )


def start(machine: VirtualMachine, stack: RealStack, program: str, *options: str) -> None:
    machine.run(
        "systemd-run",
        f"--unit={program}",
        "--property=LimitMEMLOCK=infinity",
        "--property=Restart=on-failure",
        "--property=RestartSec=2",
        "--setenv=MC_FORCE_HCA=1",
        str(stack.bin / program),
        *options,
    )


def not_passed(findings: dict[tuple[str, str], str], *beginnings: str) -> dict[tuple[str, str], str]:
    """Of checks whose ids begin so."""
    bad = ("fail", "error", "warn")
    return {key: status for key, status in findings.items() if status in bad and key[0].startswith(beginnings)}


@pytest.fixture(scope="module")
def healthy(machines: Deployment[VirtualMachine]) -> dict[str, Any]:
    return machines.preflight(timeout_s=4 * SLOW_S)


def test_devices_links_gids_and_mtus_are_as_they_should_be(healthy: dict[str, Any]) -> None:
    of_gpu1 = statuses(healthy["hosts"]["gpu1"])
    for check in ("rdma.link.state", "rdma.gid.routable", "rdma.mtu.active", "rdma.uverbs.access"):
        assert "pass" in {status for (id, _), status in of_gpu1.items() if id == check}, (check, of_gpu1)
    assert not_passed(of_gpu1, "rdma.") == {}
    assert not_passed(statuses(healthy["fleet"]), "fleet.mtu") == {}


def test_the_canary_goes_over_rdma(healthy: dict[str, Any]) -> None:
    of_gpu1 = {finding["id"]: finding for finding in healthy["hosts"]["gpu1"]}
    assert of_gpu1["mooncake.canary.roundtrip"]["status"] == "pass", of_gpu1["mooncake.canary.roundtrip"]
    assert of_gpu1["mooncake.canary.protocol"]["status"] == "pass", of_gpu1["mooncake.canary.protocol"]
    assert "queue pairs" in of_gpu1["mooncake.canary.protocol"]["seen"]


@pytest.mark.planted("rdma.link.state")
def test_a_link_that_goes_down_is_named(machines: Deployment[VirtualMachine]) -> None:
    gpu1 = machines.cluster["gpu1"]
    gpu1.run("ip", "link", "add", "rail1", "type", "dummy")
    gpu1.run("ip", "link", "set", "rail1", "up")
    gpu1.run("rdma", "link", "add", "rxe1", "type", "rxe", "netdev", "rail1")
    gpu1.run("ip", "link", "set", "rail1", "down")
    found = machines.preflight(timeout_s=4 * SLOW_S, mooncake_rdma_devices=f"{DEVICE},rxe1", preflight_canary=False)
    gpu1.run("ip", "link", "delete", "rail1")
    down = not_passed(statuses(found["hosts"]["gpu1"]), "rdma.link.state")
    assert {subject for _, subject in down} == {"rxe1/1"}, down


@pytest.mark.planted("fleet.mtu.active")
def test_ends_with_other_mtus_are_named(machines: Deployment[VirtualMachine]) -> None:
    gpu1 = machines.cluster["gpu1"]
    gpu1.run("ip", "link", "set", "eth0", "mtu", "1500")
    found = machines.preflight(timeout_s=4 * SLOW_S, preflight_canary=False)
    gpu1.run("ip", "link", "set", "eth0", "mtu", str(MTU))
    assert not_passed(statuses(found["fleet"]), "fleet.mtu.active"), found["fleet"]
