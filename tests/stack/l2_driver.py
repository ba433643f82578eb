"""Drives `kvkit.lmcache_l2` inside the real stack's Python, as LMCache's controllers do, and prints what it saw.

Not a test module: `test_lmcache_l2.py` starts it with the stack's interpreter, which has no pytest.
"""

from __future__ import annotations

import json
import os
import select
import sys
from dataclasses import dataclass
from typing import Any

import torch
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.internal_api import L1MemoryDesc

from kvkit.lmcache_l2 import MooncakeL2Adapter

OBJECT_BYTES = 1 << 20
OBJECTS = 4


@dataclass
class Slot:
    """As much of LMCache's MemoryObj as the adapter uses: an address inside the registered arena, and a size."""

    arena: torch.Tensor
    index: int
    size: int = OBJECT_BYTES

    @property
    def data_ptr(self) -> int:
        return int(self.arena.data_ptr()) + self.index * OBJECT_BYTES

    def get_size(self) -> int:
        return self.size

    def bytes(self) -> torch.Tensor:
        return self.arena[self.index * OBJECT_BYTES :][: self.size]


def wait(fd: int) -> None:
    if not select.select([fd], [], [], 60)[0]:
        raise TimeoutError("the adapter signalled no completion within 60 s")
    os.read(fd, 8)  # an eventfd: reading resets it, as LMCache's controllers do


class Driver:
    def __init__(self, params: dict[str, Any]) -> None:
        self.arena = torch.zeros(2 * OBJECTS * OBJECT_BYTES, dtype=torch.uint8)
        self.adapter = MooncakeL2Adapter(
            params, l1_memory_desc=L1MemoryDesc(self.arena.data_ptr(), self.arena.numel(), 4096)
        )
        self.written = [Slot(self.arena, i) for i in range(OBJECTS)]
        self.read = [Slot(self.arena, OBJECTS + i) for i in range(OBJECTS)]
        for i, slot in enumerate(self.written):
            slot.bytes().fill_(i + 1)

    def store(self, keys: list[ObjectKey]) -> int:
        task = self.adapter.submit_store_task(keys, self.written[: len(keys)])
        wait(self.adapter.get_store_event_fd())
        return int(self.adapter.pop_completed_store_tasks()[task])

    def lookup(self, keys: list[ObjectKey]) -> list[int]:
        task = self.adapter.submit_lookup_and_lock_task(keys, {})
        wait(self.adapter.get_lookup_and_lock_event_fd())
        return bits(self.adapter.query_lookup_and_lock_result(task), len(keys))

    def load(self, keys: list[ObjectKey], size: int = OBJECT_BYTES) -> tuple[list[int], bool]:
        slots = [Slot(self.arena, OBJECTS + i, size) for i in range(len(keys))]
        task = self.adapter.submit_load_task(keys, slots)
        wait(self.adapter.get_load_event_fd())
        hits = bits(self.adapter.query_load_result(task), len(keys))
        equal = all(torch.equal(a.bytes(), b.bytes()) for a, b in zip(self.written, slots, strict=False))
        return hits, equal


def bits(bitmap: Any, size: int) -> list[int]:
    return [int(bitmap.test(i)) for i in range(size)]


def keys(first: int, count: int) -> list[ObjectKey]:
    return [ObjectKey(chunk_hash=bytes([first + i]) * 16, model_name="m", kv_rank=1) for i in range(count)]


def main() -> None:
    request = json.loads(sys.argv[1])
    driver = Driver(request["params"])
    stored, unknown = keys(1, OBJECTS), keys(100, 2)
    seen: dict[str, Any] = {"stored_bytes": driver.store(stored)}
    seen["stored_again"] = driver.store(stored)
    seen["lookup"] = driver.lookup([*stored[:2], *unknown])
    seen["load"], seen["equal"] = driver.load(stored)
    seen["load_unknown"], _ = driver.load(unknown)
    seen["load_into_larger"], _ = driver.load(stored[:1], size=2 * OBJECT_BYTES)
    seen["healthy"] = driver.adapter.report_status()["is_healthy"]
    print(json.dumps({"phase": "served", **seen}), flush=True)
    sys.stdin.readline()  # the test stops the master here
    lost = {"lookup": driver.lookup(stored), "load": driver.load(stored)[0], "store": driver.store(keys(50, 1))}
    print(json.dumps({"phase": "lost", **lost, "healthy": driver.adapter.report_status()["is_healthy"]}), flush=True)
    driver.adapter.close()


if __name__ == "__main__":
    main()
