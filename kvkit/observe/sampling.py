"""How much the store gave and holds while a round goes on, looked at about once a second.

Only the Mooncake master is asked: it is in no request's way, and its page is 25 KB, made in half a millisecond. vLLM
makes its own page on the event loop that streams tokens, so that asking it would be seen in the figures of a round.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

import httpx

from kvkit.observe.mooncake import ALLOCATED_BYTES, READ_BYTES

EVERY_S = 1.0
_TIMEOUT_S = 2.0
"""A store that does not answer is asked again; what it moved meanwhile is in the next sample."""


@dataclass(frozen=True, slots=True)
class StoreSamples:
    """Looks at the store, the first at the round's start. Bytes are counted from the first look on."""

    times_s: tuple[float, ...]
    """Since the round's start."""
    read_bytes: tuple[int, ...]
    stored_bytes: tuple[int, ...] | None
    """How far what the store holds has grown: it falls where keys are evicted. `None`: not told."""


class StoreSampler:
    """Samples from its entry to its exit, with a look at both.

    Args:
        http: sends no key.
        url: the master's `/metrics`; `None` where there is none, and then nothing is known.
        every_s: between two looks.
    """

    def __init__(self, http: httpx.AsyncClient, url: str | None, *, every_s: float = EVERY_S) -> None:
        self._http = http
        self._url = url
        self._every_s = every_s
        self._samples: list[tuple[float, int, int | None]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._url is not None:
            await self._look(self._url)
            self._task = asyncio.create_task(self._go_on(self._url))
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._url is None or self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if error is None:
            await self._look(self._url)

    def since(self, began_s: float) -> StoreSamples | None:
        """What was seen, with times from this instant of the monotonic clock on.

        `None` where the store did not tell twice, or where its counter fell: then it was restarted in between.
        """
        if len(self._samples) < 2:
            return None
        times, read, held = zip(*self._samples, strict=True)
        if any(later < earlier for earlier, later in pairwise(read)):
            return None
        return StoreSamples(
            times_s=tuple(round(at_s - began_s, 3) for at_s in times),
            read_bytes=tuple(value - read[0] for value in read),
            stored_bytes=None if None in held else tuple(value - held[0] for value in held),
        )

    async def _go_on(self, url: str) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._look(url)

    async def _look(self, url: str) -> None:
        try:
            response = await self._http.get(url, timeout=_TIMEOUT_S)
        except (httpx.HTTPError, ValueError):  # ValueError: no such host name can exist
            return
        read = _value(response.content, READ_BYTES)
        if response.status_code == 200 and read is not None:
            self._samples.append((time.monotonic(), read, _value(response.content, ALLOCATED_BYTES)))


def _value(page: bytes, name: str) -> int | None:
    """One sample without labels. The page is searched, not parsed: parsing would hold the loop that stamps tokens."""
    _, found, rest = (b"\n" + page).partition(f"\n{name} ".encode())
    try:
        return int(float(rest.split(maxsplit=1)[0])) if found else None
    except (ValueError, IndexError, OverflowError):
        return None
