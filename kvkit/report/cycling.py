"""What a cycle tells while it runs: what happened on the hosts, as `kvkit.cycle` makes it of Ansible's events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from kvkit.ending import Ending

HostState = Literal["running", "ok", "changed", "skipped", "failed", "unreachable"]
"""`skipped`: nothing of the stage is this host's."""


@dataclass(frozen=True, slots=True)
class StageStarted:
    stage: str


@dataclass(frozen=True, slots=True)
class HostAt:
    """Where a host stands in a stage: `running` while a task runs on it, the others once the stage is over."""

    stage: str
    host: str
    state: HostState
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A line that a host's program printed, or that the playbook has for whoever runs it."""

    host: str
    line: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A task failed on a host. The playbook may yet mend it: what it comes to, the cycle's end tells."""

    stage: str
    host: str
    task: str
    message: str


Happening = StageStarted | HostAt | Said | Failed


class CycleReporter(Protocol):
    """Shows a cycle to a person or a program."""

    def happened(self, happening: Happening) -> None:
        """Something happened just now."""

    def passed(self) -> None:
        """A moment passed: called several times a second, whether anything happened or not."""

    def notice(self, text: str) -> None:
        """Something worth a line, at any time."""

    def ended(self, ending: Ending, words: str) -> None:
        """It is over. The words are complete: what it came to, and what to do."""
