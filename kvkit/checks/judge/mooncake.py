"""Judgements on the Mooncake store: its master, its segments, and a canary through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..target import Target
from ..told import object_of

SLOW_CANARY = 0.1
"""GB/s. A 4 MiB key over a gigabit link comes at that rate; computing KV again is hardly slower."""


def _answered(mooncake: Any) -> bool:
    """Whether a Mooncake master answered; where not, network.port and mooncake.metrics.format say so."""
    return bool(mooncake["metrics"])


@check(
    "mooncake.metrics.format",
    looks_at="GET /metrics at the master's metrics port, for master_key_count.",
    why="Another server on that port (8080 is LMCache's too, 9300 its coordinator's) answers 200, and every proof "
    "from the store's counters is then missing.",
    mend="Correct mooncake_metrics_port to the master's --metrics_port (9003 by default, 9004 in older guides).",
    needs=("mooncake",),
)
def metrics_format(mooncake: Any, target: Target) -> Iterator[Verdict]:
    status = mooncake.get("metrics_status", 0)
    if not target.uses_store:
        yield skipped(f"connector {target.connector}")
    elif status == 0 and mooncake.get("metrics_connected"):
        yield failed(
            f"takes the call and answers no HTTP: {mooncake['metrics_error'][:80]!r}", "a master's metrics", ""
        )
    elif status == 0:
        # That nobody answers at all is a fault of the port, and named there.
        yield skipped("nobody answers: see network.port.refused and network.port.filtered")
    elif "master_key_count" not in mooncake["metrics"]:
        yield failed(f"HTTP {status}: {mooncake['metrics_head'] or 'nothing'}", "a master's metrics", "")
    else:
        yield passed(f"{mooncake['metrics']['master_key_count']:.0f} keys")


@check(
    "mooncake.master.health",
    looks_at="GET /health at the master's metrics port: its role and whether it serves.",
    why="A master that stands by, or has not recovered, refuses every put and get.",
    mend="Point mooncake_host at the leader (`curl HOST:9003/leader`), or read the master's log.",
    needs=("mooncake",),
)
def master_health(mooncake: Any, target: Target) -> Iterator[Verdict]:
    if not _answered(mooncake):
        return
    health = object_of(mooncake["health"]["body"])
    if not health:
        yield unknown(f"HTTP {mooncake['health']['status']}, and no JSON: an older master?")
        return
    seen = ", ".join(f"{key} {health[key]}" for key in ("status", "role", "ha_state", "service_ready") if key in health)
    if health.get("role", "leader") != "leader" or health.get("service_ready") is False or health.get("status") != "ok":
        yield failed(seen, "status ok, role leader, service_ready", "")
    else:
        yield passed(seen)


@check(
    "mooncake.metadata.path",
    looks_at="GET /metadata for a key that nobody has: a healthy server says 404 'metadata not found'.",
    why="Clients register there where their segments are. Without the /metadata path, or with another server on the "
    "port, every setup fails with -1, and LMCache logs success.",
    mend="Start the master with --enable_http_metadata_server=true, write http://HOST:PORT/metadata, or use "
    "P2PHANDSHAKE.",
    needs=("mooncake",),
)
def metadata_path(mooncake: Any, target: Target) -> Iterator[Verdict]:
    told = mooncake["metadata"]
    if not _answered(mooncake):
        return
    if told is None:
        yield skipped("P2PHANDSHAKE needs no metadata server")
    elif told["status"] == 0 and told.get("connected"):
        yield failed(f"takes the call and answers no HTTP: {told['error'][:80]!r}", "HTTP 404 'metadata not found'", "")
    elif told["status"] == 0:
        yield skipped("nobody answers: see network.port.refused and network.port.filtered")
    elif told["status"] == 200 or "metadata not found" in told["body"]:
        yield passed(f"HTTP {told['status']}")
    else:
        yield failed(f"HTTP {told['status']}: {told['body'][:80]}", "HTTP 404 'metadata not found'", "")


@check(
    "mooncake.version",
    looks_at="The version that the master tells, against the client that is installed here.",
    why="Master and clients of different versions answer each other 'invalid rpc arg' (RPC_FAIL), or worse, "
    "differently.",
    mend="Install the same mooncake-transfer-engine on the master and on every client, then restart both.",
    needs=("mooncake", "stack"),
)
def version(sections: Any, target: Target) -> Iterator[Verdict]:
    mooncake, stack = sections
    if not _answered(mooncake):
        return
    client = next((told for name, told in stack["packages"].items() if name.startswith("mooncake")), "")
    told = mooncake["version"]
    master = told["body"].strip().strip('"') if told["status"] == 200 else ""
    if not master or not client:
        yield skipped("the master tells no version" if client else "the client's version is not known")
    elif client.partition(".post")[0] != master.lstrip("v").partition(".post")[0]:
        yield failed(f"master {master}, client {client}", "the same version", "")
    else:
        yield passed(f"master {master}, client {client}")


@check(
    "mooncake.capacity",
    looks_at="The capacity of all segments together, against the working set.",
    why="A store without segments takes no key at all, and one that is smaller than what is to be shared evicts it "
    "before it is read again: round 2 misses.",
    mend="Start the owner of the memory (mooncake_client), raise global_segment_size, or measure fewer tokens.",
    needs=("mooncake",),
)
def capacity(mooncake: Any, target: Target) -> Iterator[Verdict]:
    size = mooncake["metrics"].get("master_total_capacity_bytes")
    if not _answered(mooncake) or size is None:
        return
    gib = f"{size / 2**30:.2f} GiB"
    if size == 0 and target.stage != "after" and target.segments:
        yield skipped("no segment yet: the engines bring them when they start")
    elif size == 0:
        yield failed("no segment", "at least one", "")
    elif size < target.working_set_bytes:
        yield failed(gib, f"the working set of {target.working_set_bytes / 2**30:.2f} GiB", "")
    else:
        yield passed(gib)


@check(
    "mooncake.allocation_failures",
    looks_at="How often the master found no room for a key (master_put_start_alloc_failures_total).",
    why="Each is a block that was computed and not stored (NO_AVAILABLE_HANDLE): what should be a hit is computed "
    "again.",
    mend="Raise global_segment_size or add hosts; remove keys of earlier runs.",
    needs=("mooncake",),
)
def allocation_failures(mooncake: Any, target: Target) -> Iterator[Verdict]:
    if not _answered(mooncake):
        return
    count = mooncake["metrics"].get("master_put_start_alloc_failures_total", 0)
    if count:
        yield warned(f"{count:.0f} since the master started", "0", "")
    else:
        yield passed("0")


@check(
    "mooncake.segments.stale",
    looks_at="The segments that the master has registered, against the clients that it counts (master_active_clients).",
    why="Keys in the segment of a process that is gone are found and cannot be read: each such hit costs a timeout, "
    "or fails the request.",
    mend="Restart the owner, or wait until the master has dropped its segment (client_ttl, 10 s); restart the "
    "master when it stays.",
    needs=("mooncake",),
)
def segments_stale(mooncake: Any, target: Target) -> Iterator[Verdict]:
    clients = mooncake["metrics"].get("master_active_clients")
    segments = mooncake["segments"]
    if clients is None or not segments:
        return
    if clients:
        yield passed(f"{len(segments)} segments, {clients:.0f} clients")
    else:
        yield failed(f"{', '.join(segments)}, and no client", "a living owner of each segment", "")


@check(
    "mooncake.canary.roundtrip",
    looks_at="A key of 4 MiB that is put into the store, read back and compared, with the stack's own client.",
    why="It is the only look that takes the way of a KV block. LMCache ignores what setup returns and logs success.",
    mend="setup: correct the master's address, the metadata server and the protocol. put -200: the store has no "
    "room. get: open ports 15000-17000 between the hosts, and look at the owner's log.",
    needs=("mooncake",),
)
def canary_roundtrip(mooncake: Any, target: Target) -> Iterator[Verdict]:
    canary = mooncake["canary"]
    if canary is None:
        if target.uses_store:
            yield skipped("no canary: it needs a store with a segment, and the stack's interpreter on a vLLM host")
    elif canary["problem"]:
        yield failed(canary["problem"], "put, get and compare without an error", "")
    elif not canary["same"]:
        yield failed("other bytes came back", "the bytes that were put", "")
    else:
        yield passed(f"{canary['size']} bytes came back as they were put")


@check(
    "mooncake.canary.protocol",
    looks_at="Whether the process that read the canary's key had connected RDMA queue pairs (`rdma resource show qp`).",
    why="Asked for rdma and finding no usable device, Mooncake takes TCP without an error; the segments still say "
    "rdma, and the master's `/query_key` says tcp in either case.",
    mend="Name the devices in mooncake_rdma_devices (the key that is read), mend what the rdma checks name, and "
    "export MC_FORCE_HCA=1 so that it fails instead.",
    needs=("mooncake",),
)
def canary_protocol(mooncake: Any, target: Target) -> Iterator[Verdict]:
    canary = mooncake["canary"] or {}
    if "queue_pairs" not in canary or target.protocol == "tcp":
        return
    pairs = canary["queue_pairs"]
    if pairs is None:
        yield unknown("the kernel does not tell the canary's queue pairs", "Install iproute2 with its command `rdma`.")
    elif pairs:
        yield passed(f"{pairs} queue pairs")
    else:
        yield failed(
            f"asked for {target.protocol}, and no queue pair was connected: TCP carried it", target.protocol, ""
        )


@check(
    "mooncake.canary.bandwidth",
    looks_at="The rate at which the canary's key came back, over a connection that was open already.",
    why="Below some 0.1 GB/s a hit takes longer than computing the tokens again.",
    mend="Compare with `transfer_engine_bench`; look at the link's rate, its MTU, and at what else uses it.",
    needs=("mooncake",),
)
def canary_bandwidth(mooncake: Any, target: Target) -> Iterator[Verdict]:
    canary = mooncake["canary"] or {}
    if not canary.get("get_s"):
        return
    rate = canary["size"] / canary["get_s"] / 1e9
    if rate < SLOW_CANARY:
        yield warned(f"{rate:.3f} GB/s", f"at least {SLOW_CANARY} GB/s", "")
    else:
        yield passed(f"{rate:.2f} GB/s")


@check(
    "mooncake.canary.removed",
    looks_at="Whether the canary's key is gone again.",
    why="A preflight leaves nothing behind; a key that cannot be removed also tells of a master that is not well.",
    mend="Remove it by hand: MooncakeDistributedStore.remove(KEY, True).",
    needs=("mooncake",),
)
def canary_removed(mooncake: Any, target: Target) -> Iterator[Verdict]:
    canary = mooncake["canary"]
    if canary is None or (canary["problem"] and "removed" not in canary):
        return
    if canary.get("removed"):
        yield passed("gone")
    else:
        yield failed(f"{canary['key']} may still be there", "gone", "")


CHECKS: tuple[Check, ...] = (
    metrics_format,
    master_health,
    metadata_path,
    version,
    capacity,
    allocation_failures,
    segments_stale,
    canary_roundtrip,
    canary_protocol,
    canary_bandwidth,
    canary_removed,
)
