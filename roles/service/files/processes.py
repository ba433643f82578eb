"""What a service consists of while it runs, and whether all of it is gone afterwards.

A service is its main process, that process' group and all their descendants, with the shared memory that they map.
The state file remembers them, because processes that outlive their parent cannot be found from it any more.

    processes.py record STATE --pid PID        add what belongs to PID now
    processes.py record STATE --listening PORT add whoever listens there, and its descendants
    processes.py clear STATE --wait S [--kill] [--gpu]
                                               wait until it is gone, remove its shared memory, delete STATE
    processes.py memory DIRECTORY              bytes that the services with their state in it hold now

Runs on the hosts: standard library only, Python 3.9 and newer. Prints JSON; exit code 1: something is still there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
SHARED_MEMORY = "/dev/shm/"  # noqa: S108 (the kernel's place for it, not a temporary file)
POLL_S = 0.1
NVIDIA_SMI = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
ANSWER_S = 10.0
"""nvidia-smi hangs for good when a GPU fell off the bus."""


@dataclass(frozen=True)
class Process:
    """One line of /proc. `started` (clock ticks since boot) tells a process from a later one with its number."""

    pid: int
    parent: int
    group: int
    started: int
    title: str


@dataclass
class State:
    """What was seen to belong to a service."""

    main: list[int] = field(default_factory=list)
    """Number and start of the main process."""
    processes: list[list[int]] = field(default_factory=list)
    shared_memory: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> State:
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, path: Path) -> None:
        """All of it or nothing: a disk that is full takes nothing away from what was known."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self.__dict__, indent=1) + "\n")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def living() -> dict[int, Process]:
    """All processes but zombies, which hold nothing any more."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := _read(entry)):
            found[process.pid] = process
    return found


def _read(entry: Path) -> Process | None:
    try:
        stat = (entry / "stat").read_text()
        title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None  # it has ended meanwhile
    # The name may hold spaces and brackets: what follows starts after its last one.
    state, parent, group, *rest = stat[stat.rindex(")") + 2 :].split()
    if state == "Z":
        return None
    return Process(int(entry.name), int(parent), int(group), int(rest[16]), title)


def belonging(state: State, processes: dict[int, Process]) -> list[Process]:
    """Those recorded, those in the main process' group, and all their descendants."""
    recorded = {(pid, started) for pid, started in state.processes}
    members = {p.pid for p in processes.values() if (p.pid, p.started) in recorded}
    if state.main:
        pid, started = state.main
        leader = processes.get(pid)
        if leader is None or leader.started == started:  # else the number was given to a stranger
            members |= {p.pid for p in processes.values() if p.group == pid}
    grew = True
    while grew:
        children = {p.pid for p in processes.values() if p.parent in members} - members
        members |= children
        grew = bool(children)
    return [processes[pid] for pid in sorted(members)]


def mapped_by(pid: int) -> set[str]:
    """Files of /dev/shm that a process maps. Nothing where its map may not be read."""
    try:
        lines = (PROC / str(pid) / "maps").read_text().splitlines()
    except OSError:
        return set()
    paths = (line.split(maxsplit=5)[-1] for line in lines if SHARED_MEMORY in line)
    return {path for path in paths if path.startswith(SHARED_MEMORY) and not path.endswith(" (deleted)")}


def record(state: State, pid: int) -> None:
    """Add what belongs to the main process `pid` now.

    Raises:
        LookupError: there is no such process.
    """
    processes = living()
    if pid not in processes:
        raise LookupError(f"no process {pid}")
    state.main = [pid, processes[pid].started]
    add_members(state, processes)


def record_listener(state: State, port: int) -> None:
    """Add the processes that listen on a TCP port, as far as this user may see them.

    Their group is left out: whoever started them may have put strangers into it.
    """
    processes = living()
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    holders = [p for p in processes.values() if sockets & _open_files(p.pid)]
    state.processes += [[p.pid, p.started] for p in holders]
    add_members(state, processes)


def _listening(port: int) -> set[str]:
    """Inodes of the sockets that listen on a port (/proc/net/tcp: local address, state 0A, inode)."""
    rows = []
    for table in ("net/tcp", "net/tcp6"):
        if (PROC / table).exists():
            rows += [line.split() for line in (PROC / table).read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add(os.readlink(entry))
    return found


def add_members(state: State, processes: dict[int, Process]) -> list[Process]:
    members = belonging(state, processes)
    seen = {(pid, started) for pid, started in state.processes} | {(p.pid, p.started) for p in members}
    state.processes = [list(pair) for pair in sorted(seen)]
    state.shared_memory = sorted(set(state.shared_memory).union(*(mapped_by(p.pid) for p in members)))
    return members


def until_gone(state: State, wait_s: float) -> list[Process]:
    """Wait until nothing is left, at most `wait_s` seconds; returns what is."""
    end = time.monotonic() + wait_s
    while members := add_members(state, living()):
        if time.monotonic() > end:
            break
        time.sleep(POLL_S)
    return members


def remove_shared_memory(paths: list[str], in_use: Callable[[], set[str]]) -> list[str]:
    """Delete the segments that nobody maps; returns those deleted."""
    left = [path for path in paths if os.path.exists(path)]
    if not left:
        return []
    used = in_use()
    removed = [path for path in left if path not in used]
    for path in removed:
        os.unlink(path)
    return removed


def mapped_by_anyone() -> set[str]:
    return set().union(*(mapped_by(pid) for pid in living()))


def on_gpus() -> set[int]:
    """Processes that hold GPU memory, after the driver; it lists them a while longer than they live."""
    listed = subprocess.run(  # noqa: S603 (a constant)
        NVIDIA_SMI, capture_output=True, text=True, timeout=ANSWER_S, check=True
    )
    return {int(line) for line in listed.stdout.split() if line.isdigit()}


def until_gpus_are_free(pids: set[int], wait_s: float) -> set[int]:
    """Wait until none of the processes holds GPU memory, at most `wait_s` seconds; returns those that still do."""
    end = time.monotonic() + wait_s
    while holding := on_gpus() & pids:
        if time.monotonic() > end:
            break
        time.sleep(POLL_S)
    return holding


def clear(path: Path, wait_s: float, kill: bool, gpu: bool) -> dict[str, list[str]]:
    """See that nothing of the service is left.

    Returns:
        `killed` and `alive`: processes as text; `removed`: shared memory segments.

    Raises:
        OSError, subprocess.SubprocessError: nvidia-smi is missing, fails or hangs.
    """
    state = State.read(path)
    members = until_gone(state, wait_s)
    killed = []
    if members and kill:
        for process in members:
            os.kill(process.pid, signal.SIGKILL)
        killed = [_told(p) for p in members]
        members = until_gone(state, wait_s)
    alive = [_told(p) for p in members]
    if gpu and not members:
        holding = until_gpus_are_free({pid for pid, _ in state.processes}, wait_s)
        alive = [f"{pid} (ended, but its GPU memory is not free)" for pid in sorted(holding)]
    if not alive:
        removed = remove_shared_memory(state.shared_memory, mapped_by_anyone)
        path.unlink(missing_ok=True)
    else:
        removed = []
        state.write(path)
    return {"killed": killed, "alive": alive, "removed": removed}


def memory(directory: Path) -> int:
    """Bytes of memory that the services hold: what would be free again after they end.

    Pages that processes share are divided between them (PSS, proc(5)), so that they count once.
    """
    processes = living()
    members = {p.pid for path in directory.glob("*/processes.json") for p in belonging(State.read(path), processes)}
    return sum(_proportional_set_size(pid) for pid in members)


def _proportional_set_size(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _told(process: Process) -> str:
    return f"{process.pid} {process.title[:120]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    recording = actions.add_parser("record")
    clearing = actions.add_parser("clear")
    for action in (recording, clearing):
        action.add_argument("state", type=Path)
    whom = recording.add_mutually_exclusive_group(required=True)
    whom.add_argument("--pid", type=int)
    whom.add_argument("--listening", type=int, metavar="PORT")
    clearing.add_argument("--wait", type=float, required=True, help="seconds")
    clearing.add_argument("--kill", action="store_true", help="kill what is left after that")
    clearing.add_argument("--gpu", action="store_true", help="wait until its GPU memory is free as well")
    measuring = actions.add_parser("memory")
    measuring.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "memory":
        print(json.dumps({"bytes": memory(arguments.directory)}))
        return 0
    if arguments.action == "record":
        state = State.read(arguments.state)
        try:
            if arguments.pid is not None:
                record(state, arguments.pid)
            else:
                record_listener(state, arguments.listening)
            state.write(arguments.state)
        except (LookupError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        print(json.dumps(state.__dict__))
        return 0
    try:
        left = clear(arguments.state, arguments.wait, arguments.kill, arguments.gpu)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot ask the driver who holds GPU memory: {error}", file=sys.stderr)
        return 1
    print(json.dumps(left))
    return 1 if left["alive"] else 0


if __name__ == "__main__":
    sys.exit(main())
