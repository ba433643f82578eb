"""The roles on a host that was booted with systemd: converged over SSH, served under units of its own, put back."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx
import pytest

from tests.hosts.deployment import MODEL, STATE, UNIT, Deployment
from tests.hosts.host import Host
from tests.playbooks import Played

pytestmark = [pytest.mark.hosts, pytest.mark.cycle]

ASKED_TOKENS = 300
"""Which take the emulated engine three seconds."""


def test_a_host_with_another_key_is_not_talked_to(one_host: Deployment[Host]) -> None:
    another = one_host.cluster.folder / "another_key"
    host = one_host.cluster["gpu1"]
    another.write_text(f"{host.address} {(host.folder / 'user.pub').read_text()}")
    checked = f"-F none -o UserKnownHostsFile={another} -o ControlPath=none"
    played = one_host.play("preflight", ansible_ssh_common_args=checked)
    assert played.exit_code != 0
    assert "Host key verification failed" in played.text


@dataclass(frozen=True)
class Provisioned:
    checked: Played
    left_by_check: str
    first: Played
    second: Played


@pytest.fixture(scope="module")
def provisioned(one_host: Deployment[Host]) -> Provisioned:
    checked = one_host.play("provision", "--check", "--diff")
    left = one_host.cluster["gpu1"].run("sh", "-c", f"'ls -d {STATE} 2>/dev/null || true'")
    return Provisioned(checked, left, one_host.play("provision"), one_host.play("provision"))


def test_check_mode_changes_nothing_on_a_host_that_never_saw_the_kit(provisioned: Provisioned) -> None:
    assert (provisioned.checked.exit_code, provisioned.left_by_check) == (0, "")


def test_check_mode_announces_as_many_changes_as_are_made(provisioned: Provisioned) -> None:
    assert provisioned.first.exit_code == 0, provisioned.first.output
    assert provisioned.checked.changed("gpu1") == provisioned.first.changed("gpu1")


def test_a_second_provision_changes_nothing(provisioned: Provisioned) -> None:
    assert provisioned.second.changed("gpu1") == 0


@dataclass(frozen=True)
class Served:
    """What was seen while the engine served with the cache, and once it was put back."""

    played: Played
    unit: dict[str, str]
    command_line: str
    timers: str
    answered_tokens: int
    restored: Played
    units_left: str
    unit_files_left: str
    processes_left: str


def tokens_over_a_restart(host: Host) -> int:
    """How many tokens of an answer arrive whose engine is restarted after the first."""
    asked = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "count"}],
        "max_tokens": ASKED_TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    usage: dict[str, int] = {}
    with httpx.stream("POST", f"http://{host.address}:8000/v1/chat/completions", json=asked, timeout=60) as answer:
        events = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
        next(events)
        host.run("systemctl", "restart", UNIT)
        for event in events:
            usage = (event != "[DONE]" and json.loads(event).get("usage")) or usage
    return usage.get("completion_tokens", 0)


@pytest.fixture(scope="module")
def served(provisioned: Provisioned, one_host: Deployment[Host]) -> Served:
    host = one_host.cluster["gpu1"]
    played = one_host.play("serve", kv_mode="with-cache", bench_prove=False)
    assert played.exit_code == 0, played.output
    shown = host.run(
        "systemctl", "show", "--property=MainPID,ActiveState,LimitNOFILE,LimitMEMLOCK,KillMode,NRestarts", UNIT
    )
    unit = dict(line.split("=", 1) for line in shown.splitlines())
    command_line = host.run("sh", "-c", f'\'tr "\\0" " " < /proc/{unit["MainPID"]}/cmdline\'')
    timers = host.run("systemctl", "list-timers", "--all", "--no-legend")
    answered_tokens = tokens_over_a_restart(host)
    restored = one_host.play("restore")
    return Served(
        played,
        unit,
        command_line,
        timers,
        answered_tokens,
        restored,
        host.run("systemctl", "list-units", "--no-legend", "'kvkit*'"),
        host.run("sh", "-c", "'ls /etc/systemd/system | grep kvkit || true'"),
        host.run("sh", "-c", "'pgrep --full --list-full \"kvkit emulate|emulated_vllm\" | grep -v pgrep || true'"),
    )


def test_the_engine_is_a_unit(served: Served) -> None:
    assert served.unit["ActiveState"] == "active"
    assert "emulated_vllm.py serve" in served.command_line


def test_the_unit_has_the_limits_that_registered_memory_and_connections_need(served: Served) -> None:
    assert served.unit["LimitMEMLOCK"] == "infinity"
    assert served.unit["LimitNOFILE"] == "1048576"


def test_a_request_on_its_way_is_answered_before_the_engine_ends(served: Served) -> None:
    assert served.answered_tokens == ASKED_TOKENS


def test_restore_leaves_no_unit_and_no_process(served: Served) -> None:
    assert served.restored.exit_code == 0, served.restored.output
    assert (served.units_left, served.unit_files_left, served.processes_left) == ("", "", "")
