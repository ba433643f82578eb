"""A client that could not keep up, told from one that could: 5 ms or a tenth of the median TTFT, and 90 % of a core."""

from __future__ import annotations

from typing import Any

import pytest

from kvkit.results.client_lag import client_problems
from kvkit.results.stats import ClientLag, LoopDelay, ScheduleLag
from tests.results.making import success, summary


def lag(**changes: Any) -> ClientLag:
    figures: dict[str, Any] = {
        "workers": 1,
        "held_to_schedule": False,
        "loop_delay_ms": LoopDelay(p50=0.1, p99=1.0, max=3.0),
        "cpu_share": (0.3,),
        "schedule_lag_ms": ScheduleLag(p50=0.2, p99=0.9),
        "events_per_s": 1000.0,
    }
    return ClientLag(**(figures | changes))


def delayed(p99: float | None) -> ClientLag:
    return lag(loop_delay_ms=LoopDelay(p50=0.1, p99=p99, max=99.0))


@pytest.mark.parametrize(
    ("p99", "ttft_p50_ms", "kept_up"),
    [
        (5.0, 20.0, True),  # a tenth of the TTFT would be 2 ms, less than can be told
        (5.1, 20.0, False),
        (30.0, 300.0, True),  # a tenth of the TTFT is 30 ms
        (30.1, 300.0, False),
        (5.1, None, False),  # no request succeeded
    ],
)
def test_the_delay_that_is_allowed_grows_with_the_ttft(
    p99: float | None, ttft_p50_ms: float | None, kept_up: bool
) -> None:
    assert (client_problems(delayed(p99), ttft_p50_ms) == []) == kept_up


@pytest.mark.parametrize(("p50", "kept_up"), [(10.0, True), (10.1, False)])
def test_of_few_requests_the_median_delay_counts(p50: float, kept_up: bool) -> None:
    few = ScheduleLag(p50=0.2, p99=None)
    hiccups = LoopDelay(p50=p50, p99=40.0, max=90.0)
    assert (client_problems(lag(loop_delay_ms=hiccups, schedule_lag_ms=few), 100.0) == []) == kept_up


def test_the_busiest_worker_counts() -> None:
    assert client_problems(lag(cpu_share=(0.2, 0.9)), 100.0) == []
    (problem,) = client_problems(lag(cpu_share=(0.2, 0.91)), 100.0)
    assert "it took 91% of a core (allowed are 90%)" in problem


@pytest.mark.parametrize(("p50", "kept_up"), [(10.0, True), (10.1, False), (None, True)])
def test_in_a_round_too_short_for_a_p99_the_median_delay_counts(p50: float | None, kept_up: bool) -> None:
    short = LoopDelay(p50=p50, p99=None, max=40.0)
    assert (client_problems(lag(loop_delay_ms=short), 100.0) == []) == kept_up


def test_such_a_round_is_not_held_against_its_cpu_time() -> None:
    short = LoopDelay(p50=0.1, p99=None, max=2.0)
    assert client_problems(lag(cpu_share=(1.0,), loop_delay_ms=short), 100.0) == []


def test_late_starts_count_only_where_requests_had_instants_of_their_own() -> None:
    late = ScheduleLag(p50=1.0, p99=50.0)
    assert client_problems(lag(schedule_lag_ms=late), 100.0) == []
    (problem,) = client_problems(lag(schedule_lag_ms=late, held_to_schedule=True), 100.0)
    assert "requests started 50.0 ms late (p99; allowed are 10.0 ms" in problem


def test_of_few_requests_the_median_schedule_lag_counts() -> None:
    def few(p50: float) -> ClientLag:
        return lag(schedule_lag_ms=ScheduleLag(p50=p50, p99=None), held_to_schedule=True)

    assert client_problems(few(10.0), 100.0) == []
    assert len(client_problems(few(10.1), 100.0)) == 1


def test_the_reason_says_what_was_seen_what_is_allowed_and_what_to_do() -> None:
    assert client_problems(delayed(12.34), 80.0) == [
        "the client could not keep up: its event loop was 12.3 ms late (p99; allowed are 8.0 ms: 5 ms, or a tenth of "
        "the median TTFT): raise --workers, lower the concurrency or the rate, or give the load generator a machine of "
        "its own"
    ]


def test_a_round_whose_client_could_not_keep_up_is_invalid() -> None:
    # TTFT is 1,000 ms, so 100 ms are allowed
    late = summary([success()], client=delayed(101.0))
    assert late.valid is False
    assert late.invalid_reasons[0].startswith("the client could not keep up: its event loop was 101.0 ms late")
    assert summary([success()], client=delayed(99.0)).valid is True
