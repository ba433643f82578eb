"""Run inside the stack's own Python: one key through the store and back, then gone.

`python -c SOURCE` reads {"key", "size", "local_hostname", "metadata_server", "protocol", "rdma_devices", "master",
"only_remove" (of a run that was ended)} from standard input and prints {"problem", "put_s", "get_s", "same",
"queue_pairs" (connected ones of this process; null where the kernel does not tell), "removed"}.
It brings no segment of its own: nothing is left of it when it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any


def queue_pairs() -> int | None:
    """RDMA connections of this process. The master does not know: its `/query_key` says tcp of what RDMA carried."""
    if not any(name.startswith("/dev/infiniband/") for name in open_files()):
        return 0
    try:
        command = ["rdma", "-j", "resource", "show", "qp"]
        ran = subprocess.run(command, capture_output=True, timeout=5, check=True)  # noqa: S603 - fixed words
        pairs = json.loads(ran.stdout)
        # The kernel names the thread that made a pair.
        mine = set(os.listdir("/proc/self/task"))
        return len([pair for pair in pairs if pair.get("state") == "RTS" and str(pair.get("pid")) in mine])
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError):
        return None


def open_files() -> list[str]:
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink("/proc/self/fd/" + number))
        except OSError:  # the listing's own
            continue
    return names


def try_out(store: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    key = wanted["key"]
    code = store.setup(
        wanted["local_hostname"],
        wanted["metadata_server"],
        0,
        max(4 * wanted["size"], 16 << 20),
        wanted["protocol"],
        wanted["rdma_devices"],
        wanted["master"],
    )
    if code != 0:
        return {"problem": f"setup answers {code}"}
    told: dict[str, Any] = {"problem": ""}
    try:
        if wanted.get("only_remove"):
            return told
        value = os.urandom(wanted["size"])
        start = time.perf_counter()
        code = store.put(key, value)
        told["put_s"] = time.perf_counter() - start
        if code != 0:
            told["problem"] = f"put answers {code}"
            return told
        told["same"] = store.get(key) == value
        # Again, because the first one also opens the connection to the owner.
        start = time.perf_counter()
        store.get(key)
        told["get_s"] = time.perf_counter() - start
        told["queue_pairs"] = queue_pairs()
    finally:
        # Into the very dictionary that is returned.
        told["removed"] = removed(store, key)
    return told


def removed(store: Any, key: str) -> bool:
    """By force: a key that was just read is leased for seconds (default_kv_lease_ttl), and would stay until then."""
    store.remove(key, True)
    return bool(store.is_exist(key) == 0)


def main() -> None:
    # Mooncake writes its log to both standard streams: the answer gets one of its own.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    wanted = json.load(sys.stdin)
    os.environ["MC_STORE_CLIENT_SETUP_RETRIES"] = "1"
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    try:
        from mooncake.store import MooncakeDistributedStore  # noqa: PLC0415 - only in the stack's environment
    except ImportError as error:
        told: dict[str, Any] = {"problem": f"mooncake cannot be imported: {error}"}
    else:
        store = MooncakeDistributedStore()
        try:
            told = try_out(store, wanted)
        finally:
            store.close()
    json.dump(told, answer)
    answer.flush()


if __name__ == "__main__":
    main()
