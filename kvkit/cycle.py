"""The full cycle: `playbooks/site.yml` through ansible-runner, told while it runs.

Interrupted once, it lets the playbook put the service back: the file that KVKIT_STOP_FILE names comes to be, which ends
the measurement that is followed (`playbooks/action_plugins/kv_follow.py`) and lets no other mode begin.
"""

from __future__ import annotations

import os
import queue
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Self

import ansible_runner

from kvkit.cycle_events import Events, Outcome, conclude
from kvkit.ending import Ending
from kvkit.report.cycling import CycleReporter, Happening

_PLAYBOOK = Path("playbooks", "site.yml")

_MOMENT_S = 0.25
"""Between two looks at the clock while nothing happens."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A person's Ctrl-C, a machine's end of the job, a terminal that is gone."""


class CycleError(Exception):
    """The cycle can't be begun. The message is complete: print it as it is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """As `ansible-playbook` takes them; empty: what `ansible.cfg` says."""

    inventories: Sequence[str] = ()
    extra_vars: Sequence[str] = ()


def run(asked: Asked, reporter: CycleReporter) -> Ending:
    """Run the cycle once and tell how it goes.

    Raises:
        CycleError: there are no playbooks, no Ansible, or an inventory or a file of variables is not there.
    """
    clone, options = find_clone(), _options(asked)
    listening = _Listening(reporter)
    with (
        TemporaryDirectory(prefix="kvkit-cycle-") as folder,
        _interruptions() as interruptions,
        _Playing(clone, Path(folder), options) as playing,
    ):
        outcome = _tell(playing, interruptions, listening)
    ending, words = conclude(outcome, playing.exit_code, playing.problem, interrupted=interruptions.count > 0)
    listening.ended(ending, words)
    return ending


def find_clone() -> Path:
    """The folder with the playbooks: the one that this package lies in, else the working directory.

    Raises:
        CycleError: neither has them.
    """
    candidates = (Path(__file__).parents[1], Path.cwd())
    for folder in candidates:
        if (folder / _PLAYBOOK).is_file():
            return folder
    raise CycleError(
        f"No {_PLAYBOOK} in {' or in '.join(str(folder) for folder in dict.fromkeys(candidates))}: "
        "kvkit cycle needs a clone of kvkit, because the playbooks are not in its wheel. Change into the clone, or "
        "install kvkit from it: pip install --editable '.[ansible]'"
    )


def _options(asked: Asked) -> list[str]:
    """For `ansible-playbook`, which does not run in the user's working directory: paths are made absolute."""
    options = []
    for inventory in asked.inventories:
        is_list = "," in inventory
        if not is_list and not Path(inventory).exists():
            raise CycleError(
                f"--inventory: found {inventory!r}, which is not there; allowed is a file, a folder or HOST,"
            )
        options += ["--inventory", inventory if is_list else str(Path(inventory).absolute())]
    for given in asked.extra_vars:
        if given.startswith("@") and not Path(given[1:]).is_file():
            raise CycleError(f"--extra-vars: found {given!r}, which is no file")
        options += ["--extra-vars", f"@{Path(given[1:]).absolute()}" if given.startswith("@") else given]
    return options


class _Playing:
    """`ansible-playbook` in a thread of ansible-runner's, which hands over its events and keeps nothing.

    Everything that ansible-runner writes lies in `folder`, with what tasks returned and secrets among it.
    """

    def __init__(self, clone: Path, folder: Path, options: Sequence[str]) -> None:
        self.exit_code: int | None = None
        self.problem: str | None = None
        """Why `ansible-playbook` could not be run or followed."""
        self._stop_file = folder / "stop"
        self._killed = threading.Event()
        self._events: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._play, args=(clone, folder, options))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.stop()
        self._thread.join()

    def events(self) -> Iterator[Mapping[str, Any] | None]:
        """Each event as it comes, `None` where a moment passed without one; ends with the playbook."""
        while True:
            try:
                event = self._events.get(timeout=_MOMENT_S)
            except queue.Empty:
                yield None
                continue
            if event is None:
                return
            yield event

    def stop(self) -> None:
        """Let the playbook break off and put the service back."""
        self._stop_file.touch()

    def kill(self) -> None:
        """End `ansible-playbook` where it stands."""
        self._killed.set()

    def _play(self, clone: Path, folder: Path, options: Sequence[str]) -> None:
        beside = Path(sys.executable).parent
        try:
            played = ansible_runner.run(
                private_data_dir=str(folder),
                project_dir=str(clone),
                playbook=str(_PLAYBOOK),
                cmdline=shlex.join(options) or None,
                envvars={
                    "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                    "ANSIBLE_CONFIG": os.environ.get("ANSIBLE_CONFIG", str(clone / "ansible.cfg")),
                    "KVKIT_STOP_FILE": str(self._stop_file),
                },
                settings={"pexpect_timeout": 1},
                event_handler=self._hand_over,
                cancel_callback=self._killed.is_set,
                quiet=True,
            )
            self.exit_code = played.rc
        except Exception as error:  # a thread has nobody to raise to
            self.problem = f"{type(error).__name__}: {error}"
        finally:
            self._events.put(None)

    def _hand_over(self, event: Mapping[str, Any]) -> bool:
        self._events.put(event)
        return False  # not kept on disk


class _Interruptions:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


@contextmanager
def _interruptions() -> Iterator[_Interruptions]:
    """Counts signals that ask for the end, instead of ending by them. What is ignored (`nohup`) stays so."""
    counting = _Interruptions()
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, counting) for number in heard}
    try:
        yield counting
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(playing: _Playing, interruptions: _Interruptions, listening: _Listening) -> Outcome:
    """Hand on what happens, and interruptions to the playbook, until it has ended."""
    events, answered = Events(), 0
    for event in playing.events():
        for happening in events.take(event) if event is not None else ():
            listening.happened(happening)
        listening.passed()
        if listening.gone:
            playing.stop()
        if interruptions.count > answered:
            answered += 1
            _interrupt(playing, listening, first=answered == 1)
    return events.outcome


def _interrupt(playing: _Playing, reporter: CycleReporter, *, first: bool) -> None:
    if first:
        playing.stop()
        reporter.notice(
            "interrupted: what runs now ends, then the playbook puts the service back as it was found; "
            "Ctrl-C again leaves it as it is"
        )
    else:
        playing.kill()
        reporter.notice("interrupted again: the playbook is ended where it stands")


class _Listening:
    """A reporter, until nobody reads any more: a closed pipe, a terminal that is gone."""

    def __init__(self, reporter: CycleReporter) -> None:
        self.gone = False
        self._reporter = reporter

    def happened(self, happening: Happening) -> None:
        self._try(lambda: self._reporter.happened(happening))

    def passed(self) -> None:
        self._try(self._reporter.passed)

    def notice(self, text: str) -> None:
        self._try(lambda: self._reporter.notice(text))

    def ended(self, ending: Ending, words: str) -> None:
        self._try(lambda: self._reporter.ended(ending, words))

    def _try(self, tell: Callable[[], None]) -> None:
        try:
            if not self.gone:
                tell()
        except OSError:
            self.gone = True
