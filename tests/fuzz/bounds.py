"""No reader may hang, whatever it is given."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LIMIT_S = 30
"""Of CPU time, for one input: readers need milliseconds and never wait, and a busy machine takes none of it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where one input takes longer than `LIMIT_S`."""

    def hang(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end within {LIMIT_S} s of CPU time")

    before = signal.signal(signal.SIGPROF, hang)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
