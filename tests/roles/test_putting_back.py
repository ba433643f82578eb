"""A service under supervisord runs again as it was found, without a control node."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.playbooks import PROJECT

GUARD = PROJECT / "roles/service/files/guard.py"
BIN = Path(sys.executable).parent


@dataclass
class Host:
    """A state folder as the role `service` leaves it."""

    state: Path

    @property
    def supervisor(self) -> Path:
        return self.state / "supervisor"

    def supervisorctl(self, *arguments: str) -> str:
        command = [str(BIN / "supervisorctl"), "-c", str(self.supervisor / "supervisord.conf"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    def define(self, name: str, seconds: int) -> None:
        """A service whose command line tells one definition from another."""
        folder = self.state / "services" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run").write_text(f"#!/bin/sh\nexec sleep {seconds}\n")
        (folder / "run").chmod(0o700)
        program = f"[program:{name}]\ncommand = {folder}/run\nautostart = false\nautorestart = false\nstartsecs = 0\n"
        (self.supervisor / "programs" / f"{name}.conf").write_text(program)

    def start(self, name: str) -> None:
        self.supervisorctl("update", name)
        self.supervisorctl("start", name)

    def sleeping(self) -> list[str]:
        """Seconds of the services that run."""
        (pid,) = [(self.supervisor / "pid").read_text()] if (self.supervisor / "pid").exists() else [""]
        children = psutil.Process(int(pid)).children() if pid and psutil.pid_exists(int(pid)) else []
        return sorted(child.cmdline()[-1] for child in children if child.status() != psutil.STATUS_ZOMBIE)

    def guard(self, action: str, *arguments: str) -> str:
        command = [sys.executable, str(GUARD), action, str(self.state), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hold(self, for_s: float = 600) -> None:
        settings = json.dumps({"supervisor_bin": str(BIN)})
        self.guard("hold", "--owner=one", "--told=one", f"--for={for_s}", "--settings", settings)

    def time_is_up(self) -> None:
        held = json.loads((self.state / "hold.json").read_text())
        (self.state / "hold.json").write_text(json.dumps({**held, "until": 0}))
        self.guard("check")


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("h"))
    (host.supervisor / "programs").mkdir(parents=True)
    (host.supervisor / "supervisord.conf").write_text(
        f"[supervisord]\npidfile = {host.supervisor}/pid\nlogfile = {host.supervisor}/log\n"
        f"[unix_http_server]\nfile = {host.supervisor}/socket\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl = unix://{host.supervisor}/socket\n"
        f"[include]\nfiles = {host.supervisor}/programs/*.conf\n"
    )
    host.define("mooncake-master", 1001)
    subprocess.run([BIN / "supervisord", "-c", host.supervisor / "supervisord.conf"], check=True, timeout=60)
    host.start("mooncake-master")
    yield host
    host.supervisorctl("shutdown")
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-2:] == ["watch", str(host.state)]:
                process.kill()
        except psutil.Error:
            continue
    end = time.monotonic() + 30
    while (host.supervisor / "pid").exists() and time.monotonic() < end:
        time.sleep(0.05)


def test_what_was_found_running_runs_again_as_it_was(host: Host) -> None:
    host.hold()
    host.supervisorctl("stop", "mooncake-master")
    host.define("mooncake-master", 1002)  # another definition, as a change of mode writes it
    host.start("mooncake-master")
    host.time_is_up()
    assert host.sleeping() == ["1001"]


def test_what_was_found_stopped_is_stopped(host: Host) -> None:
    host.hold()
    host.define("lmcache-server", 1003)
    host.start("lmcache-server")
    host.time_is_up()
    assert host.sleeping() == ["1001"]
    assert not (host.supervisor / "programs" / "lmcache-server.conf").exists()


def test_a_supervisord_that_was_killed_is_started_with_what_it_ran(host: Host) -> None:
    host.hold()
    supervisord = psutil.Process(int((host.supervisor / "pid").read_text()))
    family = [supervisord, *supervisord.children()]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)
    host.time_is_up()
    assert host.sleeping() == ["1001"]
