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

    In a round too short for a 99th percentile, the loop's median delay counts, and its CPU time does not.

    Args:
        client: what was measured.
        ttft_p50_ms: the round's median TTFT; `None` where no request succeeded.
    """
    limit_ms = max(DELAY_LIMIT_MS, DELAY_SHARE_OF_TTFT * (ttft_p50_ms or 0.0))
    allowed = f"allowed are {limit_ms:.1f} ms: {DELAY_LIMIT_MS:g} ms, or a tenth of the median TTFT"
    long_enough = client.loop_delay_ms.p99 is not None
    name, delay_ms = ("p99", client.loop_delay_ms.p99) if long_enough else ("median", client.loop_delay_ms.p50)
    problems = []
    if delay_ms is not None and delay_ms > limit_ms:
        problems.append(f"its event loop was {delay_ms:.1f} ms late ({name}; {allowed})")
    if long_enough and (share := max(client.cpu_share)) > CPU_LIMIT:
        problems.append(f"it took {share:.0%} of a core (allowed are {CPU_LIMIT:.0%})")
    if client.open_loop and (lag_ms := client.schedule_lag_ms.p99) > limit_ms:
        problems.append(f"requests started {lag_ms:.1f} ms after they were due (p99; {allowed})")
    return [f"the client could not keep up: {problem}: {_MEND}" for problem in problems]
