"""The systemd unit, as systemd itself reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.playbooks import PROJECT

DRAIN_S = 20


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o700)
    templates = Environment(
        loader=FileSystemLoader(PROJECT / "templates/service"), undefined=StrictUndefined, autoescape=False
    )
    text = templates.get_template("unit.service.j2").render(
        ansible_managed="Ansible managed",
        service_name="vllm",
        service_dir=tmp_path,
        service_log=tmp_path / "log",
        service_user="",
        service_stop_timeout_s=DRAIN_S + 40,
    )
    path = tmp_path / "kvkit-vllm.service"
    path.write_text(text)
    return path


def settings(unit: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line and line[0] != "#")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
def test_systemd_takes_the_unit(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_main_process_drains_and_the_rest_is_killed(unit: Path) -> None:
    assert settings(unit)["KillMode"] == "mixed"


def test_systemd_waits_longer_than_the_drain(unit: Path) -> None:
    assert int(settings(unit)["TimeoutStopSec"]) > DRAIN_S + 30


def test_registered_memory_is_not_limited(unit: Path) -> None:
    assert settings(unit)["LimitMEMLOCK"] == "infinity"


def test_a_dead_service_stays_dead(unit: Path) -> None:
    assert settings(unit)["Restart"] == "no"
