"""Healthy hosts of different kinds: no check complains of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvkit.checks.target import Target
from tests.checks import healthy
from tests.checks.judging import bad

Made = tuple[dict[str, Any], Target]


def roce() -> Made:
    return healthy.facts(), healthy.target()


def infiniband() -> Made:
    facts = healthy.facts()
    facts["rdma"] = healthy.rdma_section(("mlx5_0", healthy.rdma_port("InfiniBand")))
    return facts, healthy.target(rdma_link_layer="InfiniBand")


def several_nics() -> Made:
    facts = healthy.facts()
    names = [f"mlx5_{number}" for number in range(8)]
    facts["rdma"] = healthy.rdma_section(*((name, healthy.rdma_port()) for name in names))
    return facts, healthy.target(rdma_devices=names)


def any_nic() -> Made:
    return healthy.facts(), healthy.target(rdma_devices=[])


def no_rdma_command() -> Made:
    facts = healthy.facts()
    facts["rdma"] = healthy.rdma_section(("mlx5_0", healthy.rdma_port()), link_problem="missing")
    return facts, healthy.target()


def soft_roce() -> Made:
    """Soft-RoCE in a virtual machine: no counters, no NUMA node, no `device` directory, 2.5 Gbit/s."""
    facts = healthy.facts("mooncake-store", "cpu")
    port = healthy.rdma_port(rate=2.5) | {"errors": {}, "errors_later": {}, "active_mtu": None, "netdev_mtu": 4200}
    facts["rdma"] = healthy.rdma_section(("rxe0", port))
    facts["rdma"]["devices"][0]["numa"] = None
    return facts, healthy.target("mooncake-store", "cpu", rdma_devices=["rxe0"], rdma_min_rate=0)


def tcp_only() -> Made:
    return healthy.facts(protocol="tcp"), healthy.target(protocol="tcp")


def no_gpu() -> Made:
    return healthy.facts("mooncake-store", "cpu", "tcp"), healthy.target("mooncake-store", "cpu", "tcp")


def lmcache_server() -> Made:
    facts = healthy.facts("lmcache-mp", "cpu", "tcp")
    argv = ["python", "/opt/bin/lmcache", "server", "--host", "127.0.0.1"]
    facts["processes"]["lmcache"] = [{**healthy.vllm_process("none"), "pid": 7, "argv": argv}]
    facts["network"]["listening"].append({"port": 5555, "address": "127.0.0.1", "pid": 7, "command": "lmcache"})
    return facts, healthy.target("lmcache-mp", "cpu", "tcp")


def baseline() -> Made:
    facts = healthy.facts("none")
    facts["processes"]["vllm"][0]["argv"].remove("--disable-hybrid-kv-cache-manager")
    return facts, healthy.target("none")


def baseline_beside_the_cache() -> Made:
    """The same deployment in its other mode: a connector is configured for it, and rightly not in the process."""
    facts = healthy.facts()
    facts["processes"]["vllm"] = [healthy.vllm_process("none")]
    facts["vllm"]["engines"][0]["external"] = False
    return facts, healthy.target(mode="baseline")


def before_the_start() -> Made:
    facts = healthy.facts()
    facts["processes"]["vllm"] = []
    facts["network"]["listening"] = []
    facts["vllm"]["engines"] = [
        {**facts["vllm"]["engines"][0], "health": 0, "problem": "refused", "dev_mode": None, "external": None}
    ]
    return facts, healthy.target(stage="before", mode="")


def p2p_handshake() -> Made:
    facts = healthy.facts()
    facts["mooncake"]["metadata"] = None
    return facts, healthy.target(mooncake_metadata_port=0)


def container_without_a_clock() -> Made:
    facts = healthy.facts()
    facts["system"]["clock"] = {"source": "", "synchronised": None, "offset_s": None}
    facts["system"]["governors"] = []
    facts["system"]["unit"] = {}
    return facts, healthy.target()


KINDS: tuple[Callable[[], Made], ...] = (
    roce,
    infiniband,
    several_nics,
    any_nic,
    no_rdma_command,
    soft_roce,
    tcp_only,
    no_gpu,
    lmcache_server,
    baseline,
    baseline_beside_the_cache,
    before_the_start,
    p2p_handshake,
    container_without_a_clock,
)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind.__name__, marks=pytest.mark.healthy(kind.__name__)) for kind in KINDS]
)
def test_a_healthy_host_gives_no_fail_and_no_warn(kind: Callable[[], Made]) -> None:
    assert bad(*kind()) == {}
