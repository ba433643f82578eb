"""Wait until nothing moves any more: stores are asynchronous, and what is still on its way can't hit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

POLL_S = 0.5
LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Activity:
    busy: str | None
    """What is going on, in words; `None` when everything that tells is idle."""
    marks: Hashable
    """Whatever must be equal over two polls: stored keys, tokens served."""


async def wait_quiet(
    look: Callable[[], Awaitable[Activity]], *, poll_s: float = POLL_S, limit_s: float = LIMIT_S
) -> str | None:
    """Poll until two looks in a row show nothing going on and equal marks.

    Returns:
        What was still going on after `limit_s`, or `None` when it is quiet.
    """
    deadline = time.monotonic() + limit_s
    previous = await look()
    while True:
        await asyncio.sleep(poll_s)
        current = await look()
        if current.busy is None and current == previous:
            return None
        if time.monotonic() >= deadline:
            return f"not quiet after {limit_s:g} s: {current.busy or 'stored keys or served tokens still change'}"
        previous = current
