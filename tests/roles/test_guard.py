"""A host has one holder, and puts itself back when that one stays silent. Simple commands stand for an engine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.playbooks import PROJECT

GUARD = PROJECT / "roles/service/files/guard.py"


@dataclass
class Host:
    """Its engine "runs" in a mode while a file of that name is there."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def engine(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "engine").iterdir())

    def settings(self) -> str:
        def commands(mode: str) -> dict[str, list[str]]:
            running = str(self.folder / "engine" / mode)
            return {"start": ["touch", running], "stop": ["rm", running], "status": ["test", "-e", running]}

        return json.dumps({"external": {mode: commands(mode) for mode in ("with-cache", "baseline")}})

    def guard(self, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(GUARD), action, str(self.state), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def hold(self, owner: str, for_s: float = 600, *options: str) -> subprocess.CompletedProcess[str]:
        told = ["--owner", owner, "--told", f"the cycle {owner} of alice on control-1"]
        return self.guard("hold", *told, "--for", str(for_s), "--settings", self.settings(), *options)

    def switch(self, old: str, new: str) -> None:
        (self.folder / "engine" / old).rename(self.folder / "engine" / new)

    def file(self, name: str) -> dict[str, Any] | None:
        path = self.state / name
        return json.loads(path.read_text()) if path.exists() else None

    def hold_that_is_over(self, owner: str) -> None:
        """With no watcher, which might look before the test does."""
        self.hold(owner)
        for watcher in self.watchers():
            watcher.kill()
        held = self.file("hold.json")
        assert held is not None
        (self.state / "hold.json").write_text(json.dumps({**held, "until": 0}))

    def watchers(self) -> list[psutil.Process]:
        return [each for each in psutil.process_iter() if is_watcher(each, self.state)]


def is_watcher(process: psutil.Process, state: Path) -> bool:
    try:
        return process.cmdline()[-2:] == ["watch", str(state)]
    except psutil.Error:
        return False


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "baseline").touch()
    yield host
    for watcher in host.watchers():
        watcher.kill()


def test_what_was_found_is_noted_before_the_first_change_and_kept(host: Host) -> None:
    assert host.hold("one").returncode == 0
    host.switch("baseline", "with-cache")
    host.hold("one")
    found = host.file("found.json")
    assert found is not None
    assert (found["mode_found"], found["running_services"]) == ("baseline", ["vllm"])


def test_a_second_run_is_told_who_holds_the_host_and_since_when(host: Host) -> None:
    host.hold("one")
    refused = host.hold("two")
    held = host.file("hold.json")
    assert held is not None
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"it is held by the cycle one of alice on control-1 since {held['since']}, which last"
    )
    assert "take it over with -e kv_break_lock=true" in refused.stderr
    assert held["owner"] == "one"


def test_a_hold_is_broken_with_a_word(host: Host) -> None:
    host.hold("one")
    host.hold("two", 600, "--break")
    assert host.hold("one").returncode == 1


def test_a_hold_that_is_over_is_nobodys(host: Host) -> None:
    host.hold_that_is_over("one")
    taken = host.hold("two")
    assert json.loads(taken.stdout)["taken_from"] == "the cycle one of alice on control-1"


def test_only_its_holder_releases_a_host(host: Host) -> None:
    host.hold("one")
    assert host.guard("release", "--owner", "two").returncode == 1
    assert host.guard("release", "--owner", "one").returncode == 0
    assert host.hold("two").returncode == 0


def test_released_without_a_word_what_was_found_stays_noted(host: Host) -> None:
    host.hold("one")
    host.guard("release", "--owner", "one")
    assert host.file("found.json") is not None
    host.hold("one")
    host.guard("release", "--owner", "one", "--forget")
    assert host.file("found.json") is None
    assert sorted(path.name for path in host.state.iterdir()) == ["guard.log", "hold.lock"]
    assert host.watchers() == []


def test_when_its_holder_is_silent_the_host_puts_itself_back(host: Host) -> None:
    host.hold("one")
    host.switch("baseline", "with-cache")
    host.hold_that_is_over("one")
    host.guard("check")
    assert host.engine() == ["baseline"]
    assert (host.file("hold.json"), host.file("found.json")) == (None, None)


def test_as_long_as_its_holder_may_be_silent_nothing_is_touched(host: Host) -> None:
    host.hold("one")
    host.switch("baseline", "with-cache")
    host.guard("check")
    assert host.engine() == ["with-cache"]


def test_a_host_that_was_started_again_is_nobodys(host: Host) -> None:
    host.hold("one")
    host.switch("baseline", "with-cache")
    held = host.file("hold.json")
    assert held is not None
    (host.state / "hold.json").write_text(json.dumps({**held, "boot": "of the time before"}))
    host.guard("check")
    assert host.engine() == ["baseline"]


def test_a_run_that_was_silent_for_too_long_does_not_go_on(host: Host) -> None:
    host.hold_that_is_over("one")
    host.guard("check")
    refused = host.hold("one")
    assert refused.returncode == 1
    assert "because the control node had been silent for too long" in refused.stderr


def test_what_could_not_be_put_back_is_said_and_stays_noted_for_restore(host: Host) -> None:
    host.hold_that_is_over("one")
    (host.folder / "engine" / "baseline").unlink()
    held = host.file("hold.json")
    assert held is not None
    held["settings"]["external"]["baseline"]["start"] = ["sh", "-c", "echo no memory >&2; exit 3"]
    (host.state / "hold.json").write_text(json.dumps(held))
    host.guard("check")
    put_back = host.file("put_back.json")
    assert put_back is not None
    assert put_back["failed"] == [
        "start the engine (baseline): sh -c echo no memory >&2; exit 3 ended with 3: no memory"
    ]
    assert host.file("found.json") is not None


def test_a_watcher_looks_without_being_asked_and_ends_with_the_hold(host: Host) -> None:
    host.hold("one")
    host.hold("one")
    (watcher,) = host.watchers()  # one, however often the host is held
    host.switch("baseline", "with-cache")
    host.hold("one", 0.5)
    watcher.wait(timeout=30)
    assert host.engine() == ["baseline"]


def test_a_watcher_that_was_killed_is_started_again(host: Host) -> None:
    host.hold("one")
    (watcher,) = host.watchers()
    watcher.kill()
    end = time.monotonic() + 10
    while host.watchers() and time.monotonic() < end:
        time.sleep(0.05)
    host.hold("one")
    assert len(host.watchers()) == 1


def test_what_a_run_changed_after_it_had_lost_the_host_is_undone(host: Host) -> None:
    host.hold_that_is_over("one")
    host.guard("check")
    host.switch("baseline", "with-cache")  # it comes back, and goes on
    refused = host.guard("release", "--owner", "one")
    assert refused.returncode == 1
    assert "this run has lost it" in refused.stderr
    assert host.engine() == ["baseline"]
