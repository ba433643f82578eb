"""The counters of a Mooncake master.

LMCache's and vLLM's calls are batch calls: `master_put_start_requests_total` and its like stay at 0. Names are as a
0.3.13 master exposes them; some really end in an underscore.
"""

from __future__ import annotations

from kvkit.observe.prometheus import Names

KEY_COUNT = "master_key_count"
READ_BYTES = "mem_cache_hit_bytes_total"
ALLOCATED_BYTES = "master_allocated_bytes"

NAMES = Names(
    counters=(
        "master_batch_put_start_requests_total",
        "master_batch_put_start_items_total",
        "master_batch_put_start_failed_items_total",
        "master_batch_get_replica_list_requests_total",
        "master_batch_get_replica_list_items_total",
        "master_batch_get_replica_list_failed_items_total",
        "master_put_start_requests_total",
        "master_get_replica_list_requests_total",
        # The store is full (code -200): what was not stored can't hit.
        "master_put_start_alloc_failures_total",
        "master_successful_evictions_total",
        "mem_cache_hit_nums_",
        READ_BYTES,
        "file_cache_hit_nums_",
        "valid_get_nums_",
        "total_get_nums_",
    ),
    levels=(KEY_COUNT, ALLOCATED_BYTES, "master_active_clients"),
)


def metrics_url(host: str, port: int) -> str:
    """`host` may be an IPv6 address, with or without brackets."""
    return (
        f"http://[{host}]:{port}/metrics"
        if ":" in host and not host.startswith("[")
        else f"http://{host}:{port}/metrics"
    )
