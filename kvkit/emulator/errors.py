"""What goes wrong before the emulator serves."""

from __future__ import annotations


class EmulatorError(Exception):
    """The emulator cannot start. The message says what was found, what is allowed and what to do."""
