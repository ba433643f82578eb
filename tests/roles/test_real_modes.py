"""The real stack with vLLM's own connector: engaged with the cache, absent without, and all gone after a killed engine.

The cycle on the rehearsal holds the same of LMCache's.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tests.cycle.deployment import Deployment, abandoned_shared_memory, deployed
from tests.playbooks import Played

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Story:
    deployment: Deployment
    with_cache: Played
    baseline: Played
    engine: dict[str, dict[str, Any]]
    """`engine.json` by mode."""
    orphans: list[psutil.Process]
    """What lived on when the baseline's API server was killed."""
    restored: Played
    shared_memory_before: set[str]


def run(deployment: Deployment, playbook: str, **variables: Any) -> Played:
    played = deployment.play(playbook, **variables)
    assert played.exit_code == 0, played.output[-5000:]
    return played


def engine(deployment: Deployment) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((deployment.state / "engine.json").read_text())
    return loaded


def kill_the_api_server(deployment: Deployment) -> list[psutil.Process]:
    recorded = json.loads((deployment.state / "services/vllm/processes.json").read_text())
    server = psutil.Process(recorded["main"][0])
    workers = server.children(recursive=True)
    os.kill(server.pid, signal.SIGKILL)
    psutil.wait_procs([server], timeout=30)
    return [worker for worker in workers if worker.is_running() and "VLLM" in worker.cmdline()[0]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    before = abandoned_shared_memory()
    with deployed("rehearsal", tmp_path_factory.mktemp("real")) as deployment:
        chosen = {"kv_connector": "mooncake-store"}
        run(deployment, "provision", **chosen)
        with_cache = run(deployment, "serve", kv_mode="with-cache", **chosen)
        engines = {"with-cache": engine(deployment)}
        baseline = run(deployment, "serve", kv_mode="baseline", **chosen)
        engines["baseline"] = engine(deployment)
        orphans = kill_the_api_server(deployment)
        restored = run(deployment, "restore", **chosen)
        yield Story(deployment, with_cache, baseline, engines, orphans, restored, before)


def test_the_store_got_the_probe(story: Story) -> None:
    """The probe's own proof: it fails when the counter of the connector's store does not rise."""
    assert "with-cache on this_machine:" in story.with_cache.text


def test_the_baseline_asks_no_connector(story: Story) -> None:
    assert '"asked_tokens": 0' in story.baseline.text


def test_the_modes_differ_in_the_connector_alone(story: Story) -> None:
    plain, cached = story.engine["baseline"]["argv"], story.engine["with-cache"]["argv"]
    assert cached[: len(plain)] == plain
    assert cached[len(plain)] == "--kv-transfer-config"


def test_workers_outlive_their_killed_parent(story: Story) -> None:
    """Else the next test holds for a reason that is not ours."""
    assert story.orphans != []


def test_after_restoring_no_process_is_left(story: Story) -> None:
    assert story.deployment.processes() == []
    assert [orphan for orphan in story.orphans if orphan.is_running() and orphan.status() != "zombie"] == []


def test_after_restoring_no_port_is_left(story: Story) -> None:
    assert story.deployment.listening() == set()


def test_after_restoring_no_shared_memory_is_left(story: Story) -> None:
    assert abandoned_shared_memory() - story.shared_memory_before == set()
