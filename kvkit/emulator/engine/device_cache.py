"""The device's KV cache: a pool of blocks, shared by reference, evicted least recently used first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class BlockTable:
    """The blocks that one request holds."""

    cached: list[str] = field(default_factory=list)
    """Hashes of its full prompt blocks, from the first on; others may hold them too."""
    fresh: int = 0
    """Blocks behind them that are still being filled, or that hold generated tokens."""

    @property
    def blocks(self) -> int:
        return len(self.cached) + self.fresh


class DeviceCache:
    """A pool of `capacity` blocks.

    A block is held by requests, or idle with a hash under which it can be found again, or empty. Unlike vLLM's, the
    pool keeps one block per hash: of two requests that computed the same block, the second lets go of its own.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._holders: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._fresh = 0

    @property
    def held_blocks(self) -> int:
        return len(self._holders) - len(self._idle) + self._fresh

    @property
    def usage(self) -> float:
        """Held blocks over all blocks, 0 to 1. Idle blocks count as free, as they do in vLLM."""
        return self.held_blocks / self._capacity

    def leading_hits(self, hashes: Sequence[str]) -> int:
        """How many of these blocks are here, counted from the first without a gap."""
        return next((index for index, key in enumerate(hashes) if key not in self._holders), len(hashes))

    def acquire(self, table: BlockTable, shared: Sequence[str], total: int) -> bool:
        """Give an empty table the blocks in `shared`, which are here, and fresh ones up to `total`; or nothing."""
        idle_shared = sum(key in self._idle for key in shared)
        if total - len(shared) > self._capacity - self.held_blocks - idle_shared:
            return False
        for key in shared:
            self._hold(key)
            table.cached.append(key)
        return self.grow(table, total - len(shared))

    def grow(self, table: BlockTable, count: int) -> bool:
        """Add `count` fresh blocks, at the cost of the longest idle ones; or none, when too few can be had."""
        if count > self._capacity - self.held_blocks:
            return False
        while len(self._holders) + self._fresh + count > self._capacity:
            evicted, _ = self._idle.popitem(last=False)
            del self._holders[evicted]
        self._fresh += count
        table.fresh += count
        return True

    def commit(self, table: BlockTable, key: str) -> None:
        """The table's first fresh block is full now and can be found under this hash."""
        self._fresh -= 1
        table.fresh -= 1
        self._hold(key)
        table.cached.append(key)

    def release(self, table: BlockTable) -> None:
        """Let go of all blocks; the last of the chain becomes the first to be evicted."""
        for key in reversed(table.cached):
            self._holders[key] -= 1
            if not self._holders[key]:
                self._idle[key] = None
        self._fresh -= table.fresh
        table.cached.clear()
        table.fresh = 0

    def reset(self) -> bool:
        """Forget every hash. Refused (False) while any block is held."""
        if self.held_blocks:
            return False
        self._holders.clear()
        self._idle.clear()
        return True

    def _hold(self, key: str) -> None:
        self._idle.pop(key, None)
        self._holders[key] = self._holders.get(key, 0) + 1
