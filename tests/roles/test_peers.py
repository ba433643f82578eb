"""Which hosts a vLLM host must reach: of a large fleet some, and each by some."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import yaml
from jinja2 import Environment

from tests.playbooks import PROJECT


def peers_of(hosts: list[str]) -> dict[str, list[str]]:
    variables = yaml.safe_load((PROJECT / "roles/preflight/vars/main.yml").read_text())
    template = Environment(autoescape=False).from_string(variables["_preflight_peers"])
    known = {"groups": {"vllm": hosts}, "hostvars": {host: {} for host in hosts}}
    return {host: template.render(known, inventory_hostname=host).split() for host in hosts}


@pytest.mark.parametrize("size", [2, 3, 17])
def test_each_host_of_a_small_fleet_reaches_all_others(size: int) -> None:
    hosts = [f"gpu{number}" for number in range(size)]
    assert {host: set(peers) for host, peers in peers_of(hosts).items()} == {host: {*hosts} - {host} for host in hosts}


def test_a_single_host_has_no_peer() -> None:
    assert peers_of(["gpu1"]) == {"gpu1": []}


def test_of_a_large_fleet_each_host_is_reached_by_as_many_as_it_reaches() -> None:
    peers = peers_of([f"gpu{number}" for number in range(200)])
    assert {len(reached) for reached in peers.values()} == {16}
    assert set(Counter(chain(*peers.values())).values()) == {16}
