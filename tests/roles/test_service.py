"""A service under supervisord: it starts with what it is given, and nothing of it is left when it has been stopped."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.playbooks import PROJECT, Played, play
from tests.ports import free_ports

pytestmark = pytest.mark.playbook

SECRET = "s3cret-tok'en"


@dataclass(frozen=True)
class Life:
    """What was seen of the service."""

    played: Played
    state: Path
    said: dict[str, Any]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    state = tmp_path_factory.mktemp("service") / "state"
    (port,) = free_ports(1)
    played = play(
        "../tests/roles/playbooks/service",
        "inventory/local",
        "--diff",
        variables={
            "pages_argv": [sys.executable, str(PROJECT / "tests/roles/serving_pages.py"), port],
            "pages_port": port,
            "pages_token": SECRET,
        },
        environment={"KVKIT_STATE_DIR": str(state), "MOONCAKE_CONFIG_PATH": "/forgotten"},
    )
    assert played.exit_code == 0, played.output[-3000:]
    return Life(played, state, json.loads((state / "seen.json").read_text()))


def test_it_gets_its_environment(life: Life) -> None:
    assert life.said["environment"]["PAGES"] == 'it\'s 100 % "quoted"'


def test_it_inherits_nothing(life: Life) -> None:
    assert "MOONCAKE_CONFIG_PATH" not in life.said["environment"]


def test_it_gets_its_secret(life: Life) -> None:
    assert life.said["environment"]["TOKEN"] == SECRET


def test_the_secret_is_in_no_output_and_no_argument(life: Life) -> None:
    assert "s3cret" not in life.played.output
    assert "s3cret" not in " ".join(life.said["command"])


def test_only_its_owner_reads_the_secret(life: Life) -> None:
    assert stat.S_IMODE((life.state / "kept/secrets").stat().st_mode) == 0o600


def test_a_child_deaf_to_sigterm_is_gone(life: Life) -> None:
    assert not psutil.pid_exists(life.said["child"]) or psutil.Process(life.said["child"]).status() == "zombie"


def test_its_shared_memory_is_gone(life: Life) -> None:
    assert not os.path.exists(life.said["segment"])


def test_supervisord_ended_with_its_last_program(life: Life) -> None:
    assert not (life.state / "supervisor/socket").exists()
    assert not (life.state / "supervisor/pid").exists()
