"""How a command of the kit ends; the values are the exit codes."""

from __future__ import annotations

from enum import IntEnum


class Ending(IntEnum):
    DONE = 0
    WRONG_INPUT = 1
    """What was asked for is wrong or can't be measured here; nothing was sent."""
    INVALID = 2
    """Done, but INVALID or with more failed requests than allowed."""
    NOT_FINISHED = 3
