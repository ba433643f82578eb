"""Did the load generator keep up? How late its event loops ran what was due, and how much of a core they took."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kvkit.results.stats import ClientLag, GeneratorClock, LoopDelay, ScheduleLag
from kvkit.results.tally import Tally
from kvkit.results.values import Values

TICK_S = 0.005
"""Between two looks at the loop's delay: short enough for 200 of them a second, at about 0.2 % of a core."""

TICKS_FOR_P50 = 20
"""A tenth of a second's."""

TICKS_FOR_P99 = 1000
"""Five seconds'. Of less, a single hiccup of a busy machine (30 to 50 ms were seen) is more than one in a hundred."""

REQUESTS_FOR_P99 = 100
"""Of fewer, the 99th percentile is the largest: a single hiccup."""


@dataclass(frozen=True, slots=True)
class LoopLag:
    """What was seen of one event loop."""

    delays_s: Sequence[float]
    """How late the loop ran what was due at each tick, from the first to the last."""
    cpu_share: float
    """CPU time of the loop's thread over the time that it was watched."""
    began_s: float
    """When the watching began, on the monotonic clock, which all processes of a machine share."""


class LoopWatch:
    """Watches the running event loop of this thread from its entry to its exit; `lag` holds what was seen then.

    Ticks stand at fixed instants. A loop that was held over several of them was late for each: what would have come at
    any of these instants would have waited as long.
    """

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._delays_s = array("d")  # 200 a second
        self._cpu_began_s = time.thread_time()
        self._began_s = time.monotonic()
        self._due_s = self._began_s + TICK_S
        self._wait()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._look()
        watched_s = time.monotonic() - self._began_s
        cpu_share = (time.thread_time() - self._cpu_began_s) / watched_s
        self.lag = LoopLag(self._delays_s, cpu_share, self._began_s)

    def _wait(self) -> None:
        # The loop's own clock stands still while a callback runs: what is left is counted on the real one.
        self._timer = self._loop.call_later(max(0.0, self._due_s - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._look()
        self._wait()

    def _look(self) -> None:
        now = time.monotonic()
        while self._due_s <= now:
            self._delays_s.append(now - self._due_s)
            self._due_s += TICK_S


def summarise_lag(
    lags: Sequence[LoopLag], tally: Tally, *, held_to_schedule: bool, generators: Sequence[GeneratorClock] = ()
) -> ClientLag:
    """What the event loops of all workers and the records of a round say about the client that made them.

    Raises:
        IndexError: the round has no record.
    """
    delays_ms = Values()
    for lag in lags:
        delays_ms.extend(delay * 1000 for delay in lag.delays_s)
    waits_ms, duration_s = tally.schedule_lag_ms, tally.busy_s
    return ClientLag(
        workers=len(lags),
        held_to_schedule=held_to_schedule,
        loop_delay_ms=LoopDelay(
            p50=delays_ms.percentile(50) if len(delays_ms) >= TICKS_FOR_P50 else None,
            p99=delays_ms.percentile(99) if len(delays_ms) >= TICKS_FOR_P99 else None,
            max=delays_ms.percentile(100) if len(delays_ms) else None,
        ),
        cpu_share=tuple(lag.cpu_share for lag in lags),
        schedule_lag_ms=ScheduleLag(
            p50=waits_ms.percentile(50),
            p99=waits_ms.percentile(99) if len(waits_ms) >= REQUESTS_FOR_P99 else None,
        ),
        events_per_s=tally.events / duration_s if duration_s else None,
        generators=tuple(generators),
    )
