"""When one of two engines does not start, both hosts are put back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cycle.deployment import Deployment, deployed
from tests.playbooks import PROJECT, Played, play
from tests.ports import free_ports

pytestmark = pytest.mark.cycle


def second_host(folder: Path, ports: dict[str, int]) -> Path:
    """An inventory beside `local`: a second vLLM host, whose command for the cache starts nothing."""
    commands = yaml.safe_load((PROJECT / "inventory/local/group_vars/all.yml").read_text())["vllm_external"]
    broken = {**commands, "with-cache": {**commands["with-cache"], "start": ["true"]}}
    (other_port,) = free_ports(1)
    hosts: dict[str, dict[str, Any]] = {
        "this_machine": {"vllm_port": ports["vllm_port"]},
        "other_machine": {
            "vllm_port": other_port,
            "kv_state_dir": str(folder / "other"),
            "vllm_external": broken,
        },
    }
    path = folder / "second.yml"
    path.write_text(yaml.safe_dump({"vllm": {"hosts": hosts}}))
    return path


@dataclass(frozen=True)
class Broken:
    deployment: Deployment
    served: Played


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    with deployed("local", tmp_path_factory.mktemp("two")) as deployment:
        second = second_host(deployment.folder, deployment.ports)
        shared = {name: port for name, port in deployment.ports.items() if name != "vllm_port"}

        def run(playbook: str, **variables: str) -> Played:
            return play(
                playbook,
                "inventory/local",
                f"--inventory={second}",
                variables={**shared, "lmcache_local_hostname": "10.0.0.1", **variables},
                environment={"KVKIT_STATE_DIR": str(deployment.state)},
            )

        provisioned = run("provision")
        assert provisioned.exit_code == 0, provisioned.output[-3000:]
        yield Broken(deployment, run("serve", kv_mode="with-cache"))


def test_the_reason_is_told_with_its_host(broken: Broken) -> None:
    assert "vllm on other_machine: it ended" in broken.served.text


def test_the_engine_that_did_start_is_put_back_too(broken: Broken) -> None:
    assert broken.deployment.listening() == set()


def test_no_host_keeps_a_note_of_what_was_found(broken: Broken) -> None:
    assert list(broken.deployment.folder.glob("*/found.json")) == []
