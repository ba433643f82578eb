"""Where no host can be made, the tests are left out, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.cluster import Cluster, cluster, missing
from tests.hosts.deployment import Deployment, deployment
from tests.hosts.host import Host


@pytest.fixture(scope="module")
def one_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment[Host]]:
    """A host that is store, engine and load generator, and has never seen the kit."""
    for hosts in made_hosts(tmp_path_factory.mktemp("one"), "gpu1"):
        yield deployment(hosts, {group: ["gpu1"] for group in ("mooncake_master", "vllm", "loadgen")})


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment[Host]]:
    """A store, two engines that share it over the network, two load generators: a provisioned host each."""
    for hosts in made_hosts(tmp_path_factory.mktemp("fleet"), "store", "gpu1", "gpu2", "client1", "client2"):
        groups = {"mooncake_master": ["store"], "vllm": ["gpu1", "gpu2"], "loadgen": ["client1", "client2"]}
        deployed = deployment(hosts, groups)
        provisioned = deployed.play("provision")
        assert provisioned.exit_code == 0, provisioned.output
        yield deployed


def made_hosts(folder: Path, *names: str) -> Iterator[Cluster[Host]]:
    if reason := missing():
        pytest.skip(reason)
    with cluster(folder, names) as hosts:
        yield hosts
