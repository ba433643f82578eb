"""The preflight's look at a real Mooncake store."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from kvkit.checks.gather import mooncake, network
from kvkit.checks.host import Host
from kvkit.checks.target import Target
from tests.checks.judging import bad
from tests.ports import free_ports
from tests.real_stack import RealStack
from tests.stack.conftest import MooncakeStore

pytestmark = pytest.mark.real


def target(stack: RealStack, store: MooncakeStore, **changes: Any) -> Target:
    settings = {
        "parts": ["vllm"],
        "device": "cpu",
        "connector": "mooncake-store",
        "stack_python": stack.python,
        "mooncake_host": "127.0.0.1",
        "mooncake_rpc_port": int(store.master.rpartition(":")[2]),
        "mooncake_metrics_port": store.metrics_port,
    }
    return Target.from_dict({**settings, **changes})


def faults(target: Target) -> dict[str, str]:
    # How fast the canary comes back is the machine's affair, not this test's.
    found = bad({"mooncake": mooncake.gather(Host(), target)}, target)
    return {id: status for id, status in found.items() if id != "mooncake.canary.bandwidth"}


def keys(store: MooncakeStore) -> set[str]:
    answer = httpx.get(f"http://127.0.0.1:{store.metrics_port}/get_all_keys", trust_env=False)
    return set(answer.text.split())


def test_a_healthy_store_passes_and_keeps_no_key(real_stack: RealStack, mooncake_store: MooncakeStore) -> None:
    before = keys(mooncake_store)
    assert faults(target(real_stack, mooncake_store)) == {}
    assert keys(mooncake_store) == before


@pytest.mark.planted("mooncake.canary.protocol")
def test_rdma_that_became_tcp_without_a_word(real_stack: RealStack, mooncake_store: MooncakeStore) -> None:
    """On a host without an RDMA device Mooncake takes TCP and answers 0 to setup."""
    asked = target(real_stack, mooncake_store, protocol="rdma")
    assert faults(asked) == {"mooncake.canary.protocol": "fail"}


@pytest.mark.planted("network.port.refused")
def test_a_master_on_another_port(real_stack: RealStack, mooncake_store: MooncakeStore) -> None:
    (port,) = free_ports(1)
    asked = target(real_stack, mooncake_store, mooncake_rpc_port=port, canary=False)
    facts = {"network": network.gather(Host(), asked), "mooncake": mooncake.gather(Host(), asked)}
    assert bad(facts, asked) == {"network.port.refused": "fail"}


@pytest.mark.planted("mooncake.metrics.format")
def test_the_metrics_port_that_is_the_masters_rpc_port(real_stack: RealStack, mooncake_store: MooncakeStore) -> None:
    """It takes the call, and drops it."""
    rpc_port = int(mooncake_store.master.rpartition(":")[2])
    asked = target(real_stack, mooncake_store, mooncake_metrics_port=rpc_port)
    facts = {"network": network.gather(Host(), asked), "mooncake": mooncake.gather(Host(), asked)}
    assert bad(facts, asked) == {"mooncake.metrics.format": "fail"}


@pytest.mark.planted("mooncake.canary.roundtrip")
def test_a_client_that_dials_nobody(real_stack: RealStack, mooncake_store: MooncakeStore) -> None:
    """LMCache ignores that setup answers -1; the canary does not."""
    (port,) = free_ports(1)
    assert faults(target(real_stack, mooncake_store, mooncake_rpc_port=port)) == {"mooncake.canary.roundtrip": "fail"}
