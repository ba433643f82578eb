"""Section `mooncake`: what the master says of itself, and a canary through the store.

{"health": {"status", "body"}, "metrics": {name: value}, "metrics_status", "metrics_error", "metrics_connected" (whether
somebody took a call that got no answer), "metrics_head": the first lines of what answered, "metadata": {"status",
"body"} or null, "segments": [name], "canary": null or {"problem", "key", "size", "put_s", "get_s", "same",
"queue_pairs", "removed"}}
"""

from __future__ import annotations

import inspect
import json
import uuid
from typing import Any

from ..host import Host
from ..target import VLLM, Target
from . import canary
from .web import get, samples

METRICS = (
    "master_key_count",
    "master_total_capacity_bytes",
    "master_allocated_bytes",
    "master_active_clients",
    "master_put_start_alloc_failures_total",
    "master_successful_evictions_total",
)
CANARY_BYTES = 4 << 20
CANARY_LIMIT_S = 45.0
REMOVAL_LIMIT_S = 15.0


def gather(host: Host, target: Target) -> dict[str, Any]:
    told: dict[str, Any] = {"health": None, "metrics": {}, "metadata": None, "segments": [], "canary": None}
    if not target.uses_store or not target.mooncake_host or not target.mooncake_metrics_port:
        return told
    base = f"http://{target.mooncake_host}:{target.mooncake_metrics_port}"
    metrics = get(f"{base}/metrics", target.timeout_s)
    told["metrics_status"] = metrics["status"]
    told["metrics_error"] = metrics.get("error", "")
    told["metrics_connected"] = metrics.get("connected", False)
    if not metrics["status"]:
        return told
    told["metrics"] = samples(metrics["body"], METRICS)
    told["metrics_head"] = " ".join(metrics["body"].split())[:120]
    told["health"] = get(f"{base}/health", target.timeout_s)
    told["version"] = get(f"{base}/version", target.timeout_s)
    if target.mooncake_metadata_port:
        address = f"http://{target.mooncake_host}:{target.mooncake_metadata_port}/metadata?key=kvkit_preflight"
        told["metadata"] = get(address, target.timeout_s)
    if told["metrics"]:
        told["segments"] = _segments(base, target)
        # Without a segment a put can only fail, and adds to the allocation failures that the next preflight reports.
        if told["metrics"].get("master_total_capacity_bytes") != 0:
            told["canary"] = _canary(host, target)
    return told


def _segments(base: str, target: Target) -> list[str]:
    """The registered segments. Their names look like addresses, and nobody need listen there."""
    answer = get(f"{base}/get_all_segments", target.timeout_s)
    return [line.strip() for line in answer["body"].splitlines() if ":" in line] if answer["status"] == 200 else []


def _canary(host: Host, target: Target) -> dict[str, Any] | None:
    if not (target.canary and target.stack_python and VLLM in target.parts) or target.engine == "emulated":
        return None
    key = f"kvkit_preflight_{uuid.uuid4().hex}"
    metadata = f"http://{target.mooncake_host}:{target.mooncake_metadata_port}/metadata"
    wanted = {
        "key": key,
        "size": CANARY_BYTES,
        "local_hostname": target.local_hostname or "127.0.0.1",
        "metadata_server": metadata if target.mooncake_metadata_port else "P2PHANDSHAKE",
        "protocol": target.protocol,
        "rdma_devices": ",".join(target.rdma_devices),
        "master": f"{target.mooncake_host}:{target.mooncake_rpc_port}",
    }
    program = [target.stack_python, "-c", inspect.getsource(canary)]
    ran = host.run(program, CANARY_LIMIT_S, json.dumps(wanted))
    sent = {"key": key, "size": CANARY_BYTES}
    try:
        return {**sent, **json.loads(ran.out)}
    except ValueError:
        last = ran.err.strip().splitlines()[-1:] or [f"exit code {ran.rc}"]
        told = {**sent, "problem": ran.problem or last[0]}
    if ran.problem == "timeout" or (ran.rc < 0 and not ran.problem):
        # Ended by a signal, perhaps between put and remove.
        again = host.run(program, REMOVAL_LIMIT_S, json.dumps({**wanted, "only_remove": True}))
        told["removed"] = again.ok and '"removed": true' in again.out
    return told
