"""What a host was found doing, and how it is put back without a control node.

Services of the kit are found by their folders: STATE/services/NAME. Those that run are copied, as a change of mode
writes over them. An engine that is started by the user's own commands is asked and started by these.

Runs on the hosts: standard library only, Python 3.9 and newer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ORDER = ("mooncake-master", "mooncake-emulated", "mooncake-owner", "lmcache-server", "vllm")
"""In which they start; they stop the other way round."""
ANSWER_S = 60.0
STOP_S = 300.0
"""Far above what a drain takes; supervisord and systemd kill long before."""
READY_S = 1800.0
"""Of an engine that loads its model; the role's own default."""
CLEAR_S = 20
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class PutBackError(Exception):
    """A command failed; the message says which, and what it said."""


class Services:
    """What the kit runs on this host, by whichever manager."""

    def __init__(self, state: Path, settings: dict[str, Any]) -> None:
        self._state = state
        self._copies = state / "found"
        self._supervisor = state / "supervisor"
        self._bin = Path(settings.get("supervisor_bin", ""))
        self._systemd = Path(settings.get("systemd_dir", "/etc/systemd/system"))
        self.external: dict[str, dict[str, list[str]]] = settings.get("external", {})
        self.external_url = settings.get("external_url", "")

    def names(self) -> list[str]:
        """Those that were ever started here, in the order of their start."""
        return [name for name in ORDER if (self._state / "services" / name / "run").exists()]

    def is_running(self, name: str) -> bool:
        if self._program(name).exists():
            return "RUNNING" in self._supervisorctl("status", name, ok=(0, 3, 4))
        if self._unit(name).exists():
            return run(["systemctl", "show", "--property=MainPID", "--value", self._unit(name).name]).strip() != "0"
        return False

    def external_mode(self) -> str | None:
        """The mode in which the user's own commands say that the engine runs."""
        running = (mode for mode, its in self.external.items() if ends_with_0(its["status"]))
        return next(running, None)

    def engine(self) -> dict[str, Any]:
        """How the engine was started; empty where nobody wrote it down."""
        path = self._state / "engine.json"
        told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return told

    def copy(self, names: Sequence[str]) -> None:
        """Keep what starts these services, as it is now."""
        shutil.rmtree(self._copies, ignore_errors=True)
        self._copies.mkdir(mode=0o700, parents=True)
        for name in names:
            (self._copies / name).mkdir(mode=0o700)
            for path in self._files(name):
                shutil.copy2(path, self._copies / name / path.name)
        if (self._state / "engine.json").exists():
            shutil.copy2(self._state / "engine.json", self._copies)

    def forget(self) -> None:
        shutil.rmtree(self._copies, ignore_errors=True)

    def is_as_copied(self, name: str) -> bool:
        return all(
            (self._copies / name / path.name).read_bytes() == path.read_bytes()
            for path in self._files(name)
            if (self._copies / name / path.name).exists()
        )

    def stop(self, name: str) -> None:
        if self._program(name).exists():
            # 4: no supervisord behind its socket (it was killed); 7: the program did not run.
            self._supervisorctl("stop", name, ok=(0, 1, 4, 7))
            self._program(name).unlink()
            last = not list((self._supervisor / "programs").glob("*.conf"))
            self._supervisorctl(*(("shutdown",) if last else ("update", name)), ok=(0, 1, 4))
        elif self._unit(name).exists():
            run(["systemctl", "stop", self._unit(name).name], limit_s=STOP_S)
            # Else one that ended with an error stays in the list of what failed; 1: it did not.
            run(["systemctl", "reset-failed", self._unit(name).name], ok=(0, 1))
            self._unit(name).unlink()
            run(["systemctl", "daemon-reload"])
        self.clear(name)

    def clear(self, name: str, *, kill: bool = True) -> None:
        """See that nothing of it is left; processes of the user's own are told of and left alone."""
        processes = self._state / "services" / name / "processes.json"
        if processes.exists():
            command = [*self._tool("processes.py"), "clear", str(processes), "--wait", str(CLEAR_S)]
            run(command + (["--kill"] if kill else []), limit_s=STOP_S)

    def start(self, name: str) -> None:
        """As it was copied, and return when it answers."""
        for copy in (self._copies / name).iterdir():
            target = {path.name: path for path in (self._program(name), self._unit(name))}.get(
                copy.name, self._state / "services" / name / copy.name
            )
            shutil.copy2(copy, target)
        if (self._copies / name / self._unit(name).name).exists():
            run(["systemctl", "daemon-reload"])
            run(["systemctl", "start", self._unit(name).name], limit_s=STOP_S)
        else:
            self._boot_supervisord()
            self._supervisorctl("update", name)
            self._supervisorctl("start", name, ok=(0, 7))
        self.wait_for(name)

    def wait_for(self, name: str) -> None:
        ready = self._state / "services" / name / "ready.json"
        if ready.exists():
            url, pattern, limit_s = json.loads(ready.read_text())
            self.wait_for_answer(url, pattern, limit_s)

    def wait_for_answer(self, url: str, pattern: str, limit_s: float) -> None:
        command = [*self._tool("await_ready.py"), "--url", url, "--pattern", pattern, "--timeout", str(limit_s)]
        run([*command, "--alive", '["true"]'], limit_s=limit_s + ANSWER_S)

    def put_engine_file_back(self) -> None:
        if (self._copies / "engine.json").exists():
            shutil.copy2(self._copies / "engine.json", self._state)
        else:
            (self._state / "engine.json").unlink(missing_ok=True)

    def _boot_supervisord(self) -> None:
        configuration = str(self._supervisor / "supervisord.conf")
        if self._supervisorctl("pid", ok=range(256)).strip().isdigit():
            return
        for left in ("pid", "socket"):
            (self._supervisor / left).unlink(missing_ok=True)
        home = {"HOME": os.path.expanduser("~")}
        run([str(self._bin / "supervisord"), "-c", configuration], environment={**CLEAN, **home})

    def _supervisorctl(self, *arguments: str, ok: Sequence[int] = (0,)) -> str:
        command = [str(self._bin / "supervisorctl"), "-c", str(self._supervisor / "supervisord.conf")]
        return run([*command, *arguments], ok=ok, limit_s=STOP_S)

    def _files(self, name: str) -> list[Path]:
        folder = self._state / "services" / name
        candidates = [folder / "run", folder / "secrets", folder / "ready.json", self._program(name), self._unit(name)]
        return [path for path in candidates if path.exists()]

    def _program(self, name: str) -> Path:
        return self._supervisor / "programs" / f"{name}.conf"

    def _unit(self, name: str) -> Path:
        return self._systemd / f"kvkit-{name}.service"

    def _tool(self, name: str) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name(name))]


def note(services: Services) -> dict[str, Any]:
    """Look at what runs, and keep what it takes to start it again.

    Raises:
        LookupError: the engine runs, and how it was started is not known.
    """
    running = [name for name in services.names() if services.is_running(name)]
    mode = services.external_mode() if services.external else None
    if "vllm" in running:
        mode = services.engine().get("mode")
        if mode is None:
            raise LookupError("the kit's vLLM runs, but engine.json, which says how it was started, is gone; stop it")
    elif mode is not None:
        running.append("vllm")
    services.copy([name for name in running if name in services.names()])
    return {
        "schema": 1,
        "mode_found": mode or "stopped",
        "running_services": running,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def put_back(services: Services, found: dict[str, Any]) -> list[str]:
    """Stop what was not found running, then start what was. Returns what failed; the rest is tried all the same."""
    failed: list[str] = []

    def attempt(what: str, do: Callable[[], object]) -> None:
        print(f"{datetime.now(UTC).isoformat(timespec='seconds')} {what}", flush=True)
        try:
            do()
        except Exception as error:  # whatever it is, the rest is better put back than not
            failed.append(f"{what}: {error}")
            print(f"  failed: {error}", flush=True)

    mode, wanted = found["mode_found"], found["running_services"]
    now = services.external_mode()
    if now not in (None, mode):
        attempt(f"stop the engine ({now})", lambda: run(services.external[str(now)]["stop"], limit_s=STOP_S))
    if services.external and now != mode:
        attempt("see that nothing of the engine is left", lambda: services.clear("vllm", kill=False))
    for name in reversed(services.names()):
        if name not in wanted or not services.is_as_copied(name):
            attempt(f"stop {name}", lambda name=name: services.stop(name))  # type: ignore[misc]
    for name in services.names():
        if name in wanted and not services.is_running(name):
            attempt(f"start {name}", lambda name=name: services.start(name))  # type: ignore[misc]
    if services.external and mode != "stopped" and services.external_mode() != mode:
        attempt(f"start the engine ({mode})", lambda: run(services.external[mode]["start"], limit_s=STOP_S))
        if services.external_url:
            attempt("wait for the engine", lambda: services.wait_for_answer(services.external_url, "", READY_S))
    attempt("write down how the engine runs", services.put_engine_file_back)
    return failed


def run(
    command: Sequence[str],
    *,
    ok: Sequence[int] = (0,),
    limit_s: float = ANSWER_S,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a command to its end; returns what it printed.

    Raises:
        PutBackError: it ended with another code, or not in time.
    """
    argv = [str(argument) for argument in command]
    try:
        done = subprocess.run(  # noqa: S603 - the kit's own, and the inventory's
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PutBackError(f"{argv[0]} did not end within {limit_s:.0f} s") from None
    if done.returncode not in ok:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise PutBackError(f"{' '.join(argv[:4])} ended with {done.returncode}: {said}")
    return done.stdout


def ends_with_0(command: Sequence[str]) -> bool:
    try:
        run(command)
    except (PutBackError, OSError):
        return False
    return True
