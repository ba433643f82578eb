"""The counters of an LMCache server (`lmcache server`), and clearing its first tier.

Everything that it counts is kept: the names carry units that changed between releases. In-process LMCache exposes
`lmcache:*` on its internal API server, which can be given as the address too.
"""

from __future__ import annotations

import httpx

from kvkit.observe.prometheus import Change, Names, Reading
from kvkit.observe.reset import ResetError

NAMES = Names(
    counters=(
        "lmcache_mp_*",
        "lmcache:*",
        # A histogram of each load's bytes over its time, from submitted to completed.
        "lmcache_mp_l2_load_throughput_GB_per_second_sum",
        "lmcache_mp_l2_load_throughput_GB_per_second_count",
    ),
    levels=("lmcache_mp_l1_memory_usage_bytes", "lmcache_mp_l2_usage_bytes"),
)

_STORES_SUBMITTED = "lmcache_mp_l2_store_submitted_requests_total"
_STORES_COMPLETED = "lmcache_mp_l2_store_completed_requests_total"
_CLEAR_TIMEOUT_S = 60.0


def metrics_url(url: str) -> str:
    return f"{url.rstrip('/')}/metrics"


def failed_loads(server: Change) -> int:
    """Chunks that were expected in the second tier and could not be loaded.

    `l1_contended` is left out: another request was loading the same chunk.
    """
    name = "lmcache_mp_l2_prefetch_failure_chunks_total"
    return round(sum(server.total(name, reason=reason) or 0 for reason in ("l1_oom", "not_found")))


def busy(reading: Reading) -> str | None:
    """Stores on their way to the second tier, in words; failed ones count as completed."""
    submitted, completed = (_sum(reading, name) for name in (_STORES_SUBMITTED, _STORES_COMPLETED))
    return (
        f"{submitted - completed:g} stores of LMCache on their way to the second tier"
        if submitted > completed
        else None
    )


async def clear_first_tier(http: httpx.AsyncClient, url: str) -> None:
    """Drop what LMCache holds in its own memory, so that a hit has to come from the store behind it.

    Without `force`: objects in use stay, because clearing them corrupts transfers.

    Raises:
        ResetError: it was not cleared.
    """
    address = f"{url.rstrip('/')}/cache/clear"
    try:
        response = await http.post(address, json={"tier": "l1", "force": False}, timeout=_CLEAR_TIMEOUT_S)
    except (httpx.HTTPError, ValueError) as error:  # ValueError: no such host name can exist
        raise ResetError(f"{address}: no answer ({error or type(error).__name__})") from None
    if response.status_code != 200:
        raise ResetError(f"{address}: HTTP {response.status_code}: {response.text[:100]}")


def _sum(reading: Reading, name: str) -> float:
    return sum(value for key, value in reading.counters.items() if key == name or key.startswith(name + "{"))
