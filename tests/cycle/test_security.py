"""Secrets are in the files that hand them over, and nowhere else; and no name in an inventory is a command.

Two cycles are given secrets, one that goes well and one whose engine does not start, while everything is told: Ansible
is as verbose as can be, shows all differences, and keeps a log. Then every file, all that was printed, and the command
line of every process that ran meanwhile are searched.
"""

from __future__ import annotations

import secrets
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cycle.deployment import Deployment, deployed
from tests.playbooks import PROJECT, Played

pytestmark = pytest.mark.cycle

MARK = f"planted{secrets.token_hex(8)}"
"""Part of every secret, by which it is found."""
SECRETS = {
    "vllm_api_key": f"sk-{MARK}-key",
    "vllm_secret_environment": {"HF_TOKEN": f"hf_{MARK}"},
    "ansible_become_password": f"{MARK}-become",
}
LOOKS_EVERY_S = 0.02
CARELESS = f"sleep 2; : {MARK}"
"""A process that tells a secret to everybody: it has to be seen."""

MANAGED = {
    "vllm_service_manager": "supervisord",
    "vllm_command": [sys.executable, str(PROJECT / "tests/emulated_vllm.py"), "serve", "emulated"],
    "vllm_environment": {"PYTHONPATH": str(PROJECT)},
    "bench_scenarios": ["cold_start"],
}
EVIL = "touch $PWNED"
HOST = f"gpu 1';{EVIL};$({EVIL})`{EVIL}`\""
"""A host's name, of which a shell would make a file at the path in the environment's PWNED."""

HANDED_OVER = {
    "state/bench/api_key": 0o600,
    "state/services/vllm/secrets": 0o600,
    "given.yml": 0o600,  # the test's own
}


@dataclass(frozen=True)
class Cycles:
    well: Played
    badly: Played
    command_lines: set[str]
    """That held a secret."""


@contextmanager
def watched_command_lines() -> Iterator[set[str]]:
    """Those of all processes of the machine, as any user may see them, that hold a secret."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    line = place.read_bytes()
                    if MARK.encode() in line:
                        seen.add(line.replace(b"\0", b" ").decode(errors="replace"))
            time.sleep(LOOKS_EVERY_S)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("secrets")
    temporary = folder / "tmp"
    temporary.mkdir()
    inventory = folder / "hosts.yml"
    everybody: dict[str, Any] = {group: {"hosts": {HOST: {}}} for group in ("mooncake_master", "vllm", "loadgen")}
    local = yaml.safe_load((PROJECT / "inventory/local/group_vars/all.yml").read_text())
    inventory.write_text(yaml.safe_dump({"all": {"vars": local, "children": everybody}}))
    told = {
        "PWNED": str(folder / "pwned"),
        "ANSIBLE_VERBOSITY": "4",
        "ANSIBLE_DIFF_ALWAYS": "1",
        "ANSIBLE_LOG_PATH": str(folder / "ansible.log"),
        "ANSIBLE_LOCAL_TEMP": str(temporary),
        "ANSIBLE_REMOTE_TMP": str(temporary),
        "TMPDIR": str(temporary),
    }
    with deployed(inventory, folder, told) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def cycles(deployment: Deployment) -> Cycles:
    given = deployment.folder / "given.yml"
    given.touch(mode=0o600)
    given.write_text(yaml.safe_dump(SECRETS))
    with watched_command_lines() as seen:
        subprocess.run(["sh", "-c", CARELESS], check=True)
        well = deployment.play("site", f"--extra-vars=@{given}", **MANAGED)
        dies = MANAGED | {"vllm_command": ["sh", "-c", "echo no device >&2; exit 1"]}
        badly = deployment.play_cycle(f"--extra-vars=@{given}", **dies)
    return Cycles(well, badly, seen)


def test_one_cycle_went_well_and_one_did_not(cycles: Cycles) -> None:
    assert cycles.well.exit_code == 0, cycles.well.output[-5000:]
    assert cycles.badly.exit_code != 0
    assert "no device" in cycles.badly.text


def test_the_engine_wanted_the_key(cycles: Cycles, deployment: Deployment) -> None:
    assert "VLLM_API_KEY" in (deployment.state / "services/vllm/secrets").read_text()


def test_no_command_line_held_a_secret(cycles: Cycles) -> None:
    assert cycles.command_lines == {f"sh -c {CARELESS} "}


@pytest.mark.parametrize("cycle", ["well", "badly"])
def test_nothing_printed_held_a_secret(cycles: Cycles, cycle: str) -> None:
    output: str = getattr(cycles, cycle).output
    assert [line for line in output.splitlines() if MARK in line] == []


def test_only_what_hands_a_secret_over_holds_it_and_only_its_owner_reads_that(
    cycles: Cycles, deployment: Deployment
) -> None:
    holding = {
        str(file.relative_to(deployment.folder)): stat.S_IMODE(file.stat().st_mode)
        for file in deployment.folder.rglob("*")
        if file.is_file() and MARK.encode() in file.read_bytes()
    }
    assert holding == HANDED_OVER


def test_a_hosts_name_is_no_command(cycles: Cycles, deployment: Deployment) -> None:
    assert HOST in cycles.well.output
    assert not (deployment.folder / "pwned").exists()


@pytest.mark.parametrize(
    ("playbook", "given", "words"),
    [
        ("provision", {"kv_state_dir": "/srv/a b"}, 'kv_state_dir: found "/srv/a b"; allowed is an absolute path'),
        (
            "serve",
            {"kv_mode": "baseline", "vllm_environment": {f"A;{EVIL}": "1"}},
            f'found "A;{EVIL}"; a variable\'s name',
        ),
        ("bench", {"kv_mode": "baseline", "kv_cycle": "../elsewhere"}, 'kv_cycle: found "../elsewhere"; allowed are'),
    ],
)
def test_what_would_be_another_thing_than_a_name_is_refused(
    deployment: Deployment, playbook: str, given: dict[str, object], words: str
) -> None:
    played = deployment.play(playbook, **{**MANAGED, **given})
    assert played.exit_code != 0
    assert words in played.text
    assert not (deployment.folder / "pwned").exists()
