"""The fault matrix: what goes wrong, at which stage of a cycle, and what must be true afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STAGES = (
    "preflight",
    "provision",
    "serve with-cache",
    "prove",
    "measure with-cache",
    "switch",
    "serve baseline",
    "measure baseline",
    "restore",
    "report",
)
FAULTS = (
    "kill -9 of kvkit",
    "kill -9 of a load generator's worker",
    "kill -9 of ansible-playbook",
    "Ctrl-C",
    "control node silent",
    "kill -9 of vLLM",
    "kill -9 of the store",
    "disk full",
    "clock jump",
)

Way = Literal["kvkit", "playbook"]
"""How a cell is driven: the command alone against emulated servers, or the playbooks on this machine."""


class Cannot(Exception):
    """The machine can't make the fault; the message says what is missing."""


@dataclass(frozen=True)
class Cell:
    stage: str
    fault: str
    way: Way
    run: Callable[[Path], str]
    """Makes the fault in an empty folder and asserts what must be true; returns what was said to the operator."""

    @property
    def name(self) -> str:
        return f"{self.stage} x {self.fault}"
