"""The real stack: a Mooncake store on a host of its own, vLLM with LMCache on two, and what one finds of the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.hosts.conftest import made_hosts
from tests.hosts.deployment import Deployment, deployment, statuses
from tests.hosts.host import Host
from tests.playbooks import PROJECT, Played
from tests.real_stack import RealStack

pytestmark = [pytest.mark.hosts, pytest.mark.cycle, pytest.mark.real]

REHEARSAL = PROJECT / "inventory/rehearsal/group_vars/all.yml"
"""Of one machine. What is different where every part has a host of its own comes on top."""

ON_HOSTS_OF_THEIR_OWN = {
    "mooncake_service_manager": "systemd",
    "lmcache_service_manager": "systemd",
    "lmcache_local_hostname": "{{ ansible_host }}",
    "vllm_service_manager": "systemd",
    "vllm_host": "0.0.0.0",  # within the host's own namespace
    "vllm_port": 8000,
    "vllm_dev_mode": True,
    "lmcache_host": "{{ ansible_host }}",
    "bench_poll_s": 1,
}


@pytest.fixture(scope="module")
def real_fleet(real_stack: RealStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment[Host]]:
    settings = yaml.safe_load(REHEARSAL.read_text())
    for variable in ("ansible_connection", "ansible_python_interpreter", "ansible_async_dir"):
        del settings[variable]
    settings |= ON_HOSTS_OF_THEIR_OWN | {"stack_dir": str(real_stack.bin.parents[1])}
    for hosts in made_hosts(tmp_path_factory.mktemp("real"), "store", "gpu1", "gpu2"):
        groups = {"mooncake_master": ["store"], "vllm": ["gpu1", "gpu2"], "loadgen": ["store"]}
        yield deployment(hosts, groups, settings)


@dataclass(frozen=True)
class Served:
    proof: dict[str, Any]
    found: dict[str, Any]
    """By preflight, while the store's link is slow."""
    restored: Played
    left: dict[str, str]


@pytest.fixture(scope="module")
def served(real_fleet: Deployment[Host]) -> Served:
    """With the cache; then it was put back."""
    provisioned = real_fleet.play("provision")
    assert provisioned.exit_code == 0, provisioned.output
    played = real_fleet.play("serve", kv_mode="with-cache", kv_cycle="real", timeout_s=1200)
    assert played.exit_code == 0, played.output
    (proof,) = (real_fleet.results / "real").glob("prove_*.json")
    with real_fleet.cluster["store"].sending_at("50mbit"):
        found = real_fleet.preflight()
    restored = real_fleet.play("restore")
    units = {
        name: host.run("systemctl", "list-units", "--no-legend", "'kvkit*'")
        for name, host in real_fleet.cluster.hosts.items()
    }
    return Served(json.loads(proof.read_text()), found, restored, units)


def test_an_engine_answers_with_tokens_that_another_host_stored(served: Served) -> None:
    arm = served.proof["arms"][-1]
    external = arm["by_source"]["external"]
    assert (served.proof["verdict"], arm["name"]) == ("PROVEN", "cross-instance hit"), served.proof["reasons"]
    assert external == arm["expected_external"] > 0
    print(f"cross-instance hit: {external} of {arm['prompt_tokens']} prompt tokens")


@pytest.mark.planted("mooncake.canary.bandwidth")
def test_a_slow_link_to_the_store_is_named(served: Served) -> None:
    of_gpu2 = statuses(served.found["hosts"]["gpu2"])
    assert of_gpu2["mooncake.canary.roundtrip", ""] == "pass"
    assert of_gpu2["mooncake.canary.bandwidth", ""] == "warn"


def test_nothing_is_left_on_any_host(served: Served) -> None:
    assert served.restored.exit_code == 0, served.restored.output
    assert set(served.left.values()) == {""}, served.left
