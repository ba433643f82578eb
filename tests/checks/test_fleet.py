"""Hosts that are healthy each by itself, and not together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvkit.checks.fleet import judge_fleet
from tests.checks import healthy

Hosts = dict[str, dict[str, Any]]
Plant = Callable[[dict[str, Any]], None]

SENT, RETURNED = 1000.0, 1004.0


def fleet() -> Hosts:
    """Two hosts whose clocks agree with the control node's."""
    return {name: {**healthy.facts(), "call": {"sent": SENT, "arrived": SENT + 1}} for name in ("gpu1", "gpu2")}


def bad(hosts: Hosts) -> dict[str, str]:
    return {one.id: one.status for one in judge_fleet(hosts, RETURNED) if one.status not in ("pass", "skip")}


def test_equal_hosts_are_healthy() -> None:
    assert bad(fleet()) == {}


def test_one_host_is_no_fleet() -> None:
    assert judge_fleet({"gpu1": healthy.facts()}) == []


def other_version(facts: dict[str, Any]) -> None:
    facts["stack"]["packages"]["lmcache"] = "0.5.5"


def other_protocol(facts: dict[str, Any]) -> None:
    facts["stack"]["lmcache_config"]["document"]["extra_config"]["protocol"] = "tcp"


def other_mtu(facts: dict[str, Any]) -> None:
    facts["rdma"]["devices"][0]["ports"][0]["active_mtu"] = 2048


def other_seed(facts: dict[str, Any]) -> None:
    facts["processes"]["vllm"][0]["environ"]["PYTHONHASHSEED"] = "1"


def other_algorithm(facts: dict[str, Any]) -> None:
    facts["stack"]["lmcache_config"]["document"]["pre_caching_hash_algorithm"] = "sha256_cbor_64bit"


def other_chunks(facts: dict[str, Any]) -> None:
    facts["stack"]["lmcache_config"]["document"]["chunk_size"] = 128


def other_model(facts: dict[str, Any]) -> None:
    facts["vllm"]["engines"][0]["models"] = ["another"]


def other_dtype(facts: dict[str, Any]) -> None:
    facts["processes"]["vllm"][0]["argv"] += ["--kv-cache-dtype", "fp8"]


def other_clock(facts: dict[str, Any]) -> None:
    facts["call"]["arrived"] += 60


def other_master(facts: dict[str, Any]) -> None:
    facts["stack"]["lmcache_config"]["document"]["extra_config"]["mooncake_master_server_addr"] = "10.0.0.9:50051"


def filtered_peer(facts: dict[str, Any]) -> None:
    facts["network"]["peers"] = {"10.0.0.11": "filtered"}


def other_firmware(facts: dict[str, Any]) -> None:
    facts["rdma"]["devices"][0]["firmware"] = "28.39.1002"


FAULTS: tuple[tuple[str, str, Plant], ...] = (
    ("fleet.versions", "fail", other_version),
    ("fleet.protocol", "fail", other_protocol),
    ("fleet.mtu.active", "fail", other_mtu),
    ("fleet.hash.seed", "fail", other_seed),
    ("fleet.hash.algorithm", "fail", other_algorithm),
    ("fleet.chunk_size", "fail", other_chunks),
    ("fleet.model", "fail", other_model),
    ("fleet.dtype", "fail", other_dtype),
    ("fleet.clock", "fail", other_clock),
    ("fleet.master", "fail", other_master),
    ("fleet.peers", "fail", filtered_peer),
    ("fleet.rdma.firmware", "warn", other_firmware),
)


@pytest.mark.parametrize(
    ("id", "status", "plant"),
    [pytest.param(*fault, id=fault[2].__name__, marks=pytest.mark.planted(fault[0])) for fault in FAULTS],
)
def test_a_host_that_differs_is_named(id: str, status: str, plant: Plant) -> None:
    hosts = fleet()
    plant(hosts["gpu2"])
    assert bad(hosts) == {id: status}


def test_clocks_that_a_slow_call_cannot_tell_apart_pass() -> None:
    hosts = fleet()
    hosts["gpu2"]["call"]["arrived"] += 2
    assert bad(hosts) == {}
