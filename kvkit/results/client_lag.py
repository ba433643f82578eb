"""Could the load generator keep up? Latencies that hold the client's own delays show nothing of the server."""

from __future__ import annotations

from kvkit.results.stats import ClientLag

DELAY_LIMIT_MS = 5.0
"""Timers count whole milliseconds, and a busy machine takes a few to let a process run: below, nothing can be told."""

DELAY_SHARE_OF_TTFT = 0.1
"""A stamp that is late by less than a tenth of the median TTFT bends no figure by more than that tenth."""

CPU_LIMIT = 0.9
"""Share of a core. What waits for a server that is 90 % busy waits ten times as long as it takes (M/M/1)."""

_MEND = "raise --workers, lower the concurrency or the rate, or give the load generator a machine of its own"


def client_problems(client: ClientLag, ttft_p50_ms: float | None) -> list[str]:
    """What was seen of a client that could not keep up, with the limit and what to do; nothing where it could.

    In a round too short for a 99th percentile the median counts, and CPU time does not. Of fewer than 100 requests the
    median counts too: hiccups of one instant in a hundred, as of a machine that the engine shares, bend no figure of
    so few, and a client that is overrun is late at every instant.

    Args:
        client: what was measured.
        ttft_p50_ms: the round's median TTFT; `None` where no request succeeded.
    """
    limit_ms = max(DELAY_LIMIT_MS, DELAY_SHARE_OF_TTFT * (ttft_p50_ms or 0.0))
    allowed = f"allowed are {limit_ms:.1f} ms: {DELAY_LIMIT_MS:g} ms, or a tenth of the median TTFT"
    problems = []
    delay, lag = client.loop_delay_ms, client.schedule_lag_ms
    delay_p99 = delay.p99 if lag.p99 is not None else None
    if (late := _beyond(limit_ms, delay.p50, delay_p99)) is not None:
        problems.append(f"its event loop was {late}; {allowed})")
    if delay.p99 is not None and (share := max(client.cpu_share)) > CPU_LIMIT:
        problems.append(f"it took {share:.0%} of a core (allowed are {CPU_LIMIT:.0%})")
    if client.held_to_schedule and (late := _beyond(limit_ms, lag.p50, lag.p99)) is not None:
        problems.append(f"requests started {late}; {allowed})")
    return [f"the client could not keep up: {problem}: {_MEND}" for problem in problems]


def _beyond(limit_ms: float, p50_ms: float | None, p99_ms: float | None) -> str | None:
    """The 99th percentile where there is one, else the median, in words if it is above the limit."""
    name, value_ms = ("median", p50_ms) if p99_ms is None else ("p99", p99_ms)
    return f"{value_ms:.1f} ms late ({name}" if value_ms is not None and value_ms > limit_ms else None
