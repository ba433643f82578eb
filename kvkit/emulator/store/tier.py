"""What the store holds: the size of each key, up to a capacity, evicted least recently used first.

No KV bytes are kept or sent: sizes are enough to count, and the engine waits as long as the bytes would take. There
are no leases, so a key can be evicted as soon as it is the oldest.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

NO_AVAILABLE_HANDLE = -200
"""Mooncake's error code for a value that finds no room."""


class Tier:
    """Keys and sizes, and the counters that a real master moves for the same calls.

    Which counter moves when was read from a master 0.3.13.post1 whose client made these calls.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.allocated_bytes = 0
        self.counters: Counter[str] = Counter()
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def keys(self) -> list[str]:
        return list(self._sizes)

    def exist(self, keys: list[str]) -> list[bool]:
        self._count_batch("exist_key", items=len(keys), failed=0)
        return [key in self._sizes for key in keys]

    def get(self, keys: list[str]) -> list[int | None]:
        """Sizes of the keys, `None` where there is none; what is found becomes the last to be evicted."""
        sizes = [self._touch(key) for key in keys]
        self._count_batch("get_replica_list", items=len(keys), failed=sizes.count(None))
        self._count_hits(sizes)
        return sizes

    def query(self, key: str) -> int | None:
        """Size of one key. A master counts this as a hit, too: who asks for a key changes `mem_cache_hit_nums_`."""
        size = self._touch(key)
        self.counters["master_get_replica_list_requests_total"] += 1
        self.counters["master_get_replica_list_failures_total"] += size is None
        self._count_hits([size])
        return size

    def put(self, sizes: Mapping[str, int]) -> list[int]:
        """Store keys with their sizes; 0 for each, or an error code. A key that is here already stays as it is."""
        new = {key: size for key, size in sizes.items() if key not in self._sizes}
        results = {key: self._store(key, size) for key, size in new.items()}
        stored = sum(code == 0 for code in results.values())
        self._count_batch("put_start", items=len(sizes), failed=len(sizes) - stored)
        if stored:
            self._count_batch("put_end", items=stored, failed=0)
        return [results.get(key, 0) for key in sizes]

    def remove_all(self) -> int:
        """Forget every key; returns how many there were."""
        removed = len(self._sizes)
        self.counters["master_remove_all_requests_total"] += 1
        self._sizes.clear()
        self.allocated_bytes = 0
        return removed

    def _touch(self, key: str) -> int | None:
        if key in self._sizes:
            self._sizes.move_to_end(key)
        return self._sizes.get(key)

    def _store(self, key: str, size: int) -> int:
        if size > self.capacity_bytes:
            self.counters["master_put_start_alloc_failures_total"] += 1
            return NO_AVAILABLE_HANDLE
        self._evict(self.allocated_bytes + size - self.capacity_bytes)
        self._sizes[key] = size
        self.allocated_bytes += size
        return 0

    def _evict(self, needed_bytes: int) -> None:
        if needed_bytes <= 0:
            return
        evicted = 0
        while evicted < needed_bytes:
            _, size = self._sizes.popitem(last=False)
            evicted += size
            self.counters["master_evicted_key_count"] += 1
        self.allocated_bytes -= evicted
        self.counters["master_evicted_size_bytes"] += evicted
        self.counters["master_attempted_evictions_total"] += 1
        self.counters["master_successful_evictions_total"] += 1

    def _count_batch(self, operation: str, *, items: int, failed: int) -> None:
        prefix = f"master_batch_{operation}"
        self.counters[f"{prefix}_requests_total"] += 1
        self.counters[f"{prefix}_items_total"] += items
        self.counters[f"{prefix}_failed_items_total"] += failed
        if failed:
            outcome = "failures" if failed == items else "partial_successes"
            self.counters[f"{prefix}_{outcome}_total"] += 1

    def _count_hits(self, sizes: Iterable[int | None]) -> None:
        for size in sizes:
            self.counters["total_get_nums_"] += 1
            if size is not None:
                self.counters["valid_get_nums_"] += 1
                self.counters["mem_cache_hit_nums_"] += 1
                self.counters["mem_cache_hit_bytes_total"] += size
