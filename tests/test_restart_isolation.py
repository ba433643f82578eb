"""`kvkit run --isolation restart`: the engine is restarted before each round after the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kvkit.bench import run
from kvkit.config import ConfigError
from kvkit.config_file import load_config
from kvkit.ending import Ending
from tests.benching import Story, config_for
from tests.restarting import Deployment, deployed

pytestmark = pytest.mark.usefixtures("short_polls")


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with deployed() as deployment:
        yield deployment


def measure(deployment: Deployment, results_dir: Path, command: tuple[str, ...]) -> tuple[Ending, Story]:
    config = config_for(
        deployment.addresses,
        test={"isolation": "restart"},
        service={"restart_command": command, "ready_timeout_s": 20},
    )
    story = Story()
    return run(config, mode="with-cache", results_dir=results_dir, reporter=story), story


def test_hits_after_a_restart_come_from_the_store(tmp_path: Path, deployment: Deployment) -> None:
    ending, story = measure(deployment, tmp_path, deployment.restart_command)
    cold, hit = story.summaries
    assert (ending, cold.valid, hit.valid) == (Ending.DONE, True, True)
    assert (cold.isolation, hit.isolation) == ("restart", "restart")
    assert hit.tokens.by_source.device == 0
    assert (hit.tokens.by_source.external or 0) > 0
    assert story.notices == ["the engine is being restarted"]


def test_a_command_that_restarts_nothing_leaves_the_device_cache_and_the_round_is_invalid(
    tmp_path: Path, deployment: Deployment
) -> None:
    ending, story = measure(deployment, tmp_path, ("true",))
    assert ending == Ending.INVALID
    assert any("although it was cleared" in reason for reason in story.summaries[1].invalid_reasons)


def test_a_command_that_can_not_be_started_ends_the_run_with_what_it_measured(
    tmp_path: Path, deployment: Deployment
) -> None:
    ending, story = measure(deployment, tmp_path, ("/nonexistent/restart",))
    assert ending == Ending.NOT_FINISHED
    assert story.failure == (
        "service.restart_command: /nonexistent/restart: cannot be started (No such file or directory)"
    )
    (requests_file,) = tmp_path.glob("*_requests_*")
    assert len(requests_file.read_text().splitlines()) == 4


def test_without_a_command_it_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"openai_api": {"base_url": "http://h:8000/v1", "model_name": "m"}}))
    with pytest.raises(ConfigError, match=r"c\.yaml:1: .*isolation is restart, which needs service\.restart_command"):
        load_config(file, flags={"test.isolation": ("--isolation", "restart")}, environment={})
