"""What belongs to a service, and that strangers never do."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.playbooks import PROJECT


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script that the role copies to its hosts."""
    spec = importlib.util.spec_from_file_location("processes", PROJECT / "roles/service/files/processes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for the types of their fields
    spec.loader.exec_module(module)
    return module


def pids(tool: ModuleType, state: object, *processes: tuple[int, int, int, int]) -> list[int]:
    """Those that belong; a process is (pid, parent, group, started)."""
    living = {pid: tool.Process(pid, parent, group, started, "title") for pid, parent, group, started in processes}
    return [process.pid for process in tool.belonging(state, living)]


def test_a_service_is_its_group_and_its_descendants(tool: ModuleType) -> None:
    state = tool.State(main=[10, 100])
    assert pids(tool, state, (10, 1, 10, 100), (11, 10, 10, 101), (12, 11, 12, 102), (13, 1, 13, 103)) == [10, 11, 12]


def test_orphans_belong_to_it_by_their_group(tool: ModuleType) -> None:
    assert pids(tool, tool.State(main=[10, 100]), (11, 1, 10, 101)) == [11]


def test_orphans_belong_to_it_by_the_record(tool: ModuleType) -> None:
    state = tool.State(main=[10, 100], processes=[[12, 102]])
    assert pids(tool, state, (12, 1, 12, 102)) == [12]


def test_a_stranger_with_a_recorded_number_does_not(tool: ModuleType) -> None:
    state = tool.State(main=[10, 100], processes=[[12, 102]])
    assert pids(tool, state, (12, 1, 12, 999)) == []


def test_a_strangers_group_with_the_main_process_number_does_not(tool: ModuleType) -> None:
    assert pids(tool, tool.State(main=[10, 100]), (10, 1, 10, 999), (11, 10, 10, 1000)) == []


def test_shared_memory_in_use_stays(tool: ModuleType, tmp_path: Path) -> None:
    ours, shared = tmp_path / "psm_1", tmp_path / "psm_2"
    for segment in (ours, shared):
        segment.touch()
    assert tool.remove_shared_memory([str(ours), str(shared)], lambda: {str(shared)}) == [str(ours)]


def test_a_listener_is_found_by_its_port(tool: ModuleType) -> None:

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        state = tool.State()
        tool.record_listener(state, listening.getsockname()[1])
    assert os.getpid() in {pid for pid, _ in state.processes}


def test_gpu_memory_is_waited_for_until_the_driver_has_freed_it(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = iter([{7, 12}, {7, 12}, {7}])
    monkeypatch.setattr(tool, "on_gpus", lambda: next(listed))
    assert tool.until_gpus_are_free({12, 13}, wait_s=60) == set()


def test_gpu_memory_that_stays_is_told(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "on_gpus", lambda: {7, 12})
    assert tool.until_gpus_are_free({12, 13}, wait_s=0) == {12}


def test_a_full_disk_takes_nothing_away_from_what_was_known(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "processes.json"
    tool.State(main=[1, 2]).write(path)

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left on device"):
        tool.State(main=[3, 4]).write(path)
    assert tool.State.read(path).main == [1, 2]
