"""How a command of the kit ends; the values are the exit codes."""

from __future__ import annotations

import sys
from enum import IntEnum


class Ending(IntEnum):
    DONE = 0
    WRONG_INPUT = 1
    """What was asked for is wrong or can't be measured here; nothing was sent."""
    INVALID = 2
    """Done, but INVALID or with more failed requests than allowed."""
    NOT_FINISHED = 3


def refuse(message: str) -> Ending:
    """Say on standard error what is wrong with what was asked for."""
    print(message, file=sys.stderr)
    return Ending.WRONG_INPUT
