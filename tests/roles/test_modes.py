"""The emulated service through its modes: what was found is put back, whatever happened in between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cycle.deployment import Deployment, deployed
from tests.playbooks import PROJECT, Played

pytestmark = pytest.mark.cycle


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def commands_with_a_broken_cache() -> dict[str, Any]:
    """The inventory's, but what starts the engine with the cache starts nothing."""
    commands = yaml.safe_load((PROJECT / "inventory/local/group_vars/all.yml").read_text())["vllm_external"]
    return {**commands, "with-cache": {**commands["with-cache"], "start": ["true"]}}


@dataclass
class Story:
    """A deployment, and what was seen after each step."""

    deployment: Deployment
    played: dict[str, Played] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    listening: dict[str, set[str]] = field(default_factory=dict)

    def step(self, name: str, playbook: str, *, fails: bool = False, **variables: Any) -> None:
        played = self.deployment.play(playbook, **variables)
        assert (played.exit_code != 0) == fails, f"{name}:\n{played.output[-3000:]}"
        self.played[name] = played
        self.engine[name] = read(self.deployment.state / "engine.json")
        self.found[name] = read(self.deployment.state / "found.json")
        self.listening[name] = self.deployment.listening()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with deployed("local", tmp_path_factory.mktemp("modes")) as deployment:
        story = Story(deployment)
        story.step("provisioned", "provision")
        story.step("provisioned again", "provision")
        story.step("with cache", "serve", kv_mode="with-cache")
        story.step("with cache again", "serve", kv_mode="with-cache")
        story.step("baseline", "serve", kv_mode="baseline")
        noted = deployment.state / "found.json"
        noted.rename(deployment.folder / "found.json")  # as if the baseline had been running before the kit came
        story.step("broken", "serve", fails=True, kv_mode="with-cache", vllm_external=commands_with_a_broken_cache())
        (deployment.folder / "found.json").rename(noted)
        story.step("restored", "restore")
        yield story


def test_a_second_provision_changes_nothing(story: Story) -> None:
    assert story.played["provisioned again"].changed("this_machine") == 0


def test_the_mode_found_is_on_the_host(story: Story) -> None:
    assert story.found["with cache"]["mode_found"] == "stopped"


def test_the_engine_runs_with_the_cache(story: Story) -> None:
    assert "--connector=mooncake-store" in story.engine["with cache"]["argv"]


def test_the_same_mode_again_changes_nothing(story: Story) -> None:
    assert story.played["with cache again"].changed("this_machine") == 0


def test_the_first_state_found_is_kept(story: Story) -> None:
    assert story.found["baseline"] == story.found["with cache"]


def arguments(story: Story, step: str) -> set[str]:
    return {argument for argument in story.engine[step]["argv"] if not argument.endswith(".pid")}


def test_the_modes_differ_in_the_connector_alone(story: Story) -> None:
    differing = arguments(story, "with cache") ^ arguments(story, "baseline")
    assert differing == {"--connector=mooncake-store", "--connector=none"}


def test_after_restoring_nothing_listens(story: Story) -> None:
    assert story.listening["restored"] == set()


def test_after_restoring_nothing_is_noted_any_more(story: Story) -> None:
    assert (story.engine["restored"], story.found["restored"]) == (None, None)


def test_a_failed_start_puts_back_the_mode_that_was_found(story: Story) -> None:
    assert story.engine["broken"] == story.engine["baseline"]
    assert "vllm_port" in story.listening["broken"]


def test_a_failed_start_says_why(story: Story) -> None:
    said = story.played["broken"].text
    assert "could not serve in the mode with-cache and was put back. Fail when there will be none from vllm: " in said
    assert "vllm on this_machine: it ended" in said
