"""Which chat completion meets which fault: every n-th, so that a test knows how many there will be."""

from __future__ import annotations

from kvkit.emulator.settings import FaultKind


class FaultInjector:
    """Counts chat completions and picks every n-th."""

    def __init__(self, kind: FaultKind, every: int) -> None:
        self.set(kind, every)

    def set(self, kind: FaultKind, every: int) -> None:
        """Change the fault; the count starts again, so the n-th request from now on is the next one struck."""
        self._kind = kind
        self._every = every
        self._seen = 0

    def next(self) -> FaultKind:
        """The fault of the chat completion that has just come; `NONE` for most."""
        self._seen += 1
        return self._kind if self._seen % self._every == 0 else FaultKind.NONE
