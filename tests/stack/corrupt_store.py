"""Gives every object of a Mooncake store other bytes of the same size: its own numbers, a thousand times as large.

A model with random weights hardly attends: smaller changes leave its few words as they are.

Not a test module: it runs in the real stack's Python, which has Mooncake's client.

    corrupt_store.py MASTER_HOST:PORT METRICS_URL
"""

from __future__ import annotations

import sys
import urllib.request
from array import array

from mooncake.store import MooncakeDistributedStore


def main(master: str, metrics_url: str) -> None:
    store = MooncakeDistributedStore()
    code = store.setup("127.0.0.1", "P2PHANDSHAKE", 0, 64 * 1024 * 1024, "tcp", "", master)
    assert code == 0, f"setup answered {code}"
    with urllib.request.urlopen(f"{metrics_url}/get_all_keys") as answer:
        keys = answer.read().decode().split()
    for key in keys:
        numbers = array("f", store.get(key))
        assert numbers, key
        assert store.remove(key, True) == 0, key
        assert store.put(key, array("f", (1000 * number for number in numbers)).tobytes()) == 0, key
    store.close()
    print(len(keys))


if __name__ == "__main__":
    main(*sys.argv[1:])
