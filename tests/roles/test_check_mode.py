"""`--check --diff` tells what `provision` would do, and does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.playbooks import Played, play

pytestmark = pytest.mark.playbook


def provision(state: Path, *options: str, transfer_timeout: int = 10) -> Played:
    profile = {
        "chunk_size": 256,
        "global_segment_size": 1 << 20,
        "l1_size_gb": 1,
        "local_buffer_size": 1 << 20,
        "local_cpu": False,
        "max_local_cpu_size": 1,
        "transfer_timeout": transfer_timeout,
    }
    return play(
        "provision",
        "inventory/local",
        *options,
        variables={
            "kv_connector": "lmcache-inprocess",
            "kv_device": "cuda",
            "kv_profile": "own",
            "lmcache_profiles": {"own": profile},
        },
        environment={"KVKIT_STATE_DIR": str(state)},
    )


@pytest.fixture(scope="module")
def virgin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("virgin") / "state"


@pytest.fixture(scope="module")
def checked_virgin(virgin: Path) -> Played:
    return provision(virgin, "--check", "--diff")


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("provisioned") / "state"
    played = provision(state)
    assert played.exit_code == 0, played.output[-3000:]
    return state


@pytest.fixture(scope="module")
def checked(provisioned: Path) -> Played:
    return provision(provisioned, "--check", "--diff", transfer_timeout=20)


@pytest.fixture(scope="module")
def changed(provisioned: Path, checked: Played) -> Path:
    played = provision(provisioned, transfer_timeout=20)
    assert played.exit_code == 0, played.output[-3000:]
    return provisioned


def test_a_virgin_host_can_be_checked(checked_virgin: Played) -> None:
    assert checked_virgin.exit_code == 0


def test_the_file_that_would_be_new_is_shown(checked_virgin: Played) -> None:
    assert "global_segment_size: 0" in checked_virgin.text


def test_a_virgin_host_stays_one(virgin: Path, checked_virgin: Played) -> None:
    assert not virgin.exists()


def test_a_change_is_shown(checked: Played) -> None:
    assert "- transfer_timeout: 10" in checked.text
    assert "+ transfer_timeout: 20" in checked.text


def test_a_check_counts_the_change(checked: Played) -> None:
    assert checked.changed("this_machine") == 1


def test_the_old_file_is_kept_beside_the_new_one(changed: Path) -> None:
    kept = [path for path in (changed / "config").iterdir() if path.name != "lmcache_config.yaml"]
    assert [yaml.safe_load(path.read_text())["extra_config"]["transfer_timeout"] for path in kept] == [10]
