"""What is measured of the client itself. Clocks are the test's own: the loop is not waited for."""

from __future__ import annotations

import asyncio

import pytest

from kvkit.load import lag as lag_module
from kvkit.load.lag import REQUESTS_FOR_P99, TICK_S, TICKS_FOR_P50, TICKS_FOR_P99, LoopLag, LoopWatch, summarise_lag
from kvkit.results.record import Record
from kvkit.results.tally import Tally

MS = 0.001


def record(start_s: float, scheduled_s: float, *, connect_s: float | None = None, events: int = 0) -> Record:
    """`events` token events, the first 1 s after the start, then one every 0.5 s."""
    return Record(
        "r",
        round=1,
        group="r",
        scheduled_s=scheduled_s,
        start_s=start_s,
        connect_s=connect_s,
        ttft_s=1.0 if events else None,
        e2e_s=1.0 + 0.5 * (events - 1) if events else None,
        itl_s=(0.5,) * (events - 1),
        ok=bool(events),
    )


class Clock:
    """Stands still until the test sets it."""

    now_s = 0.0
    cpu_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def thread_time(self) -> float:
        return self.cpu_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lag_module, "time", clock)
    return clock


def test_a_loop_that_was_held_is_late_for_every_tick_of_that_time(clock: Clock) -> None:
    async def watch() -> LoopLag:
        with LoopWatch() as watching:
            clock.now_s = 4 * TICK_S + MS  # due at 1, 2, 3 and 4 ticks: late by 3 ticks and 1 ms, 2 ticks and 1 ms, ...
            clock.cpu_s = clock.now_s / 2
        return watching.lag

    seen = asyncio.run(watch())
    assert seen.delays_s == pytest.approx([3 * TICK_S + MS, 2 * TICK_S + MS, TICK_S + MS, MS])
    assert seen.cpu_share == pytest.approx(0.5)


def test_the_loop_looks_at_each_tick(clock: Clock) -> None:
    async def watch() -> LoopLag:
        with LoopWatch() as watching:
            clock.now_s = TICK_S
            await asyncio.sleep(2 * TICK_S)  # of the real clock: the loop's timer for the first tick comes before
            clock.now_s = 2.5 * TICK_S
        return watching.lag

    assert asyncio.run(watch()).delays_s == pytest.approx([0.0, 0.5 * TICK_S])


def test_what_was_seen_of_all_loops_is_one_distribution() -> None:
    ticks = TICKS_FOR_P99 // 2
    lags = [
        LoopLag((1 * MS,) * ticks, cpu_share=0.2, began_s=0.0),
        LoopLag((3 * MS,) * ticks, cpu_share=0.4, began_s=0.0),
    ]
    client = summarise_lag(lags, Tally.of([record(0.0, 0.0)]), held_to_schedule=False)
    # half of the delays are 1 ms, half 3 ms: the median lies between
    assert client.loop_delay_ms.model_dump() == pytest.approx({"p50": 2.0, "p99": 3.0, "max": 3.0})
    assert (client.workers, client.cpu_share) == (2, (0.2, 0.4))


@pytest.mark.parametrize(
    ("ticks", "p50", "p99"),
    [(TICKS_FOR_P50 - 1, None, None), (TICKS_FOR_P50, 1.0, None), (TICKS_FOR_P99 - 1, 1.0, None)],
)
def test_a_round_too_short_to_tell_has_no_percentiles(ticks: int, p50: float | None, p99: float | None) -> None:
    client = summarise_lag(
        [LoopLag((MS,) * ticks, 0.2, began_s=0.0)], Tally.of([record(0.0, 0.0)]), held_to_schedule=False
    )
    assert client.loop_delay_ms.model_dump() == {"p50": p50, "p99": p99, "max": 1.0}


def test_setting_up_a_connection_is_no_lag_of_the_client() -> None:
    # scheduled at 2, started at 2.5, of which 0.3 went into the connection: 200 ms late
    client = summarise_lag(
        [LoopLag((), 0.2, began_s=0.0)], Tally.of([record(2.5, 2.0, connect_s=0.3)]), held_to_schedule=True
    )
    assert client.schedule_lag_ms.p50 == pytest.approx(200.0)
    assert client.held_to_schedule


@pytest.mark.parametrize(("requests", "p99"), [(REQUESTS_FOR_P99 - 1, None), (REQUESTS_FOR_P99, 500.0)])
def test_few_requests_have_no_p99(requests: int, p99: float | None) -> None:
    client = summarise_lag(
        [LoopLag((), 0.2, began_s=0.0)], Tally.of([record(2.5, 2.0)] * requests), held_to_schedule=True
    )
    assert client.schedule_lag_ms.p99 == p99


def test_events_per_second_are_those_of_all_requests_also_failed_ones() -> None:
    # 5 events until 0 + 1 + 4 · 0.5 = 3 s, 3 until 2 + 1 + 2 · 0.5 = 4 s, and none of one that failed: 8 events in 4 s
    records = [record(0.0, 0.0, events=5), record(2.0, 2.0, events=3), record(1.0, 1.0)]
    assert summarise_lag([LoopLag((), 0.2, began_s=0.0)], Tally.of(records), held_to_schedule=False).events_per_s == 2.0
