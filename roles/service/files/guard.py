"""Who holds this host and until when: one whose holder stays silent puts itself back into what it was found doing.

    guard.py hold STATE --owner ID --told WORDS --for S [--settings JSON] [--break]
                                     take the host, or go on holding it; note first what it was found doing
    guard.py release STATE --owner ID [--forget]   give it up; with --forget, what was found has been put back
    guard.py check STATE             put the host back if its holder has been silent for too long
    guard.py watch STATE             check until nobody holds the host

Runs on the hosts: standard library only, Python 3.9 and newer. Prints JSON; exit code 1: the reason is on stderr.

Times of the hold are of CLOCK_BOOTTIME: a clock that is set has no say in it, and a host that was started again
belongs to nobody.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from putting_back import Services, note, put_back

POLL_S = 5.0
LOCK_S = 60.0
"""Longer than looking at what runs takes."""
TIMER = "kvkit-guard"


class Refused(Exception):
    """The host is somebody else's, or is no longer the caller's; the message says whose."""


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def clock(ahead_s: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat(timespec="seconds")


def read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # a disk that was full may have left an empty file
        return None
    return data if isinstance(data, dict) else None


def write(path: Path, data: dict[str, Any]) -> None:
    """All of it or nothing, also on a full disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w") as file:
            json.dump(data, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Guard:
    """The files that say who holds the host."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.hold_file = state / "hold.json"
        self.found_file = state / "found.json"
        self.put_back_file = state / "put_back.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One at a time.

        Raises:
            Refused: another one takes too long.
        """
        with (self.state / "hold.lock").open("w") as lock:
            end = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise Refused(
                            f"somebody has been at work on it for {LOCK_S:.0f} s; is it putting itself back "
                            f"({self.state}/guard.log)? Try again."
                        ) from None
                    time.sleep(0.2)
            yield

    def holder(self) -> dict[str, Any] | None:
        """Who holds the host; None when nobody does or the time is up."""
        held = read(self.hold_file)
        return None if held is None or self.is_over(held) else held

    @staticmethod
    def is_over(held: dict[str, Any]) -> bool:
        return held["boot"] != boot() or now_s() > held["until"]

    def hold(self, owner: str, told: str, for_s: float, settings: dict[str, Any], by_force: bool) -> dict[str, Any]:
        held = self.holder()
        if held is not None and held["owner"] != owner and not by_force:
            raise Refused(refusal(held))
        before = read(self.hold_file)
        mine = before is not None and before["owner"] == owner
        self.refuse_who_lost_it(owner)
        found = read(self.found_file)
        if found is None:
            found = note(Services(self.state, settings))
            write(self.found_file, found)
        self.put_back_file.unlink(missing_ok=True)
        held = {
            "owner": owner,
            "told": told,
            "since": before["since"] if before is not None and mine else clock(),
            "renewed": clock(),
            "silent_s": now_s(),
            "until": now_s() + for_s,
            "boot": boot(),
            "settings": settings,
            "watcher": (before or {}).get("watcher"),
        }
        write(self.hold_file, held)
        self.see_to_the_watcher(held)
        return {"found": found, "taken_from": None if mine or before is None else before["told"]}

    def refuse_who_lost_it(self, owner: str) -> None:
        """A run that comes back after the host has put itself back may have changed it since: that is undone.

        Raises:
            Refused: the caller is that run.
        """
        lost = read(self.put_back_file)
        if lost is None or lost["owner"] != owner or read(self.hold_file) is not None:
            return
        if lost["found"] is not None:
            put_back(Services(self.state, lost["settings"]), lost["found"])
        raise Refused(
            f"it was put back at {lost['time']}, because the control node had been silent for too long; this run has "
            "lost it and cannot go on"
        )

    def release(self, owner: str, forget: bool) -> None:
        held = self.holder()
        if held is not None and held["owner"] != owner:
            raise Refused(refusal(held))
        self.refuse_who_lost_it(owner)
        if forget:
            self.found_file.unlink(missing_ok=True)
            Services(self.state, {}).forget()
        if (before := read(self.hold_file)) is not None:
            self.hold_file.unlink()
            end_timer(before["settings"])
            end_watcher(before["watcher"])

    def check(self) -> bool:
        """Put the host back if that is due. Returns whether somebody holds it still."""
        with self.alone():
            held, found = read(self.hold_file), read(self.found_file)
            if held is None:
                return False
            if not self.is_over(held):
                return True
            failed = [] if found is None else put_back(Services(self.state, held["settings"]), found)
            told = {key: held[key] for key in ("owner", "told", "since", "renewed", "settings")}
            write(self.put_back_file, {**told, "time": clock(), "found": found, "failed": failed})
            if not failed:
                self.found_file.unlink(missing_ok=True)
            self.hold_file.unlink()
            end_timer(held["settings"])
            return False

    def see_to_the_watcher(self, held: dict[str, Any]) -> None:
        if has_timer(held["settings"]):
            start_timer(held["settings"], self.state)
        elif not lives(held["watcher"]):
            with (self.state / "guard.log").open("a") as log:
                watcher = subprocess.Popen(  # noqa: S603 - itself
                    [sys.executable, __file__, "watch", str(self.state)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd="/",
                )
            write(self.hold_file, {**held, "watcher": [watcher.pid, started(watcher.pid)]})


def refusal(held: dict[str, Any]) -> str:
    left_s = held["until"] - now_s()
    return (
        f"it is held by {held['told']} since {held['since']}, which last showed itself "
        f"{now_s() - held['silent_s']:.0f} s ago. Wait for its end; if it is dead, the host puts itself back at "
        f"{clock(left_s)}, or take it over with -e kv_break_lock=true"
    )


def started(pid: int) -> int | None:
    """Clock ticks since boot, which tell a process from a later one with its number."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(rest[18])


def lives(watcher: list[int] | None) -> bool:
    return watcher is not None and started(watcher[0]) == watcher[1]


def end_watcher(watcher: list[int] | None) -> None:
    """It does nothing but look: whoever releases a host is alone."""
    if watcher is None or not lives(watcher):
        return
    os.kill(watcher[0], signal.SIGTERM)
    end = time.monotonic() + POLL_S
    while lives(watcher) and time.monotonic() < end:
        time.sleep(0.01)


def has_timer(settings: dict[str, Any]) -> bool:
    """Where systemd runs, and takes orders from this user."""
    return Path("/run/systemd/system").is_dir() and os.geteuid() == 0 and "systemd_dir" in settings


def start_timer(settings: dict[str, Any], state: Path) -> None:
    folder = Path(settings["systemd_dir"])
    service = (
        f"[Unit]\nDescription=kvkit: put the host back when its holder is silent\n[Service]\nType=oneshot\n"
        # What it starts by the user's own commands lives on.
        f"KillMode=process\nExecStart={sys.executable} {__file__} check {state}\n"
    )
    timer = (
        f"[Unit]\nDescription=kvkit: look whether somebody holds the host\n[Timer]\nOnActiveSec={POLL_S:.0f}\n"
        f"OnBootSec={POLL_S:.0f}\nOnUnitInactiveSec={POLL_S:.0f}\nAccuracySec=1\n[Install]\nWantedBy=timers.target\n"
    )
    folder.joinpath(f"{TIMER}.service").write_text(service)
    folder.joinpath(f"{TIMER}.timer").write_text(timer)
    for command in (["daemon-reload"], ["enable", "--quiet", "--now", f"{TIMER}.timer"]):
        subprocess.run(["systemctl", *command], check=True, timeout=60, capture_output=True)  # noqa: S603, S607 - fixed words


def end_timer(settings: dict[str, Any]) -> None:
    if not has_timer(settings):
        return
    # A look that failed was followed by others; else it stays in the list of what failed.
    for command in (["disable", "--quiet", "--now", f"{TIMER}.timer"], ["reset-failed", f"{TIMER}.service"]):
        subprocess.run(["systemctl", *command], check=False, timeout=60, capture_output=True)  # noqa: S603, S607 - fixed words
    for ending in ("timer", "service"):
        Path(settings["systemd_dir"], f"{TIMER}.{ending}").unlink(missing_ok=True)


def watch(guard: Guard) -> None:
    while guard.check():
        time.sleep(POLL_S)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("hold", "release", "check", "watch"):
        action = actions.add_parser(name)
        action.add_argument("state", type=Path)
        if name in ("hold", "release"):
            action.add_argument("--owner", required=True)
        if name == "hold":
            action.add_argument("--told", required=True)
            action.add_argument("--for", dest="for_s", type=float, required=True, help="seconds")
            action.add_argument("--settings", type=json.loads, default={})
            action.add_argument("--break", dest="by_force", action="store_true")
        if name == "release":
            action.add_argument("--forget", action="store_true")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    guard = Guard(arguments.state)
    try:
        guard.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        if arguments.action == "watch":
            watch(guard)
        elif arguments.action == "check":
            guard.check()
        else:
            with guard.alone():
                if arguments.action == "hold":
                    print(
                        json.dumps(
                            guard.hold(
                                arguments.owner, arguments.told, arguments.for_s, arguments.settings, arguments.by_force
                            )
                        )
                    )
                else:
                    guard.release(arguments.owner, arguments.forget)
    except Refused as reason:
        print(reason, file=sys.stderr)
        return 1
    except (OSError, LookupError, subprocess.SubprocessError) as error:
        print(f"it cannot be held: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
