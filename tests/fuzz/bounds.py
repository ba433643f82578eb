"""No reader may hang, whatever it is given."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LIMIT_S = 30
"""For one input. Readers need milliseconds; a machine under load may take a thousand times as long, a hang for ever."""


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where one input takes longer than `LIMIT_S`."""

    def hang(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end within {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
