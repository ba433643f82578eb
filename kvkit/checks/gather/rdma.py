"""Section `rdma`: the devices that sysfs shows, and what `rdma` says of the same links.

{"devices": [{"name", "node_type", "firmware", "numa", "uverbs", "readable", "ports": [{"port", "state", "phys_state",
"link_layer", "rate" (Gbit/s), "gids": [{"index", "gid", "type", "ndev"}], "pkey", "netdev", "netdev_mtu", "active_mtu",
"carrier_losses", "errors", "errors_later"}]}],
"rdma_link": {"problem", "links": [{"device", "port", "state", "phys_state"}]}, "resources": {device: {"qp", "mr"}},
"modules": {name: bool}, "kernel": release}

sysfs needs neither a program nor root, so it comes first; `rdma` is the cross-check.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..host import Host, Ran
from ..target import Target
from ..told import number_of, objects_of

ERRORS = (
    "link_downed",
    "link_error_recovery",
    "symbol_error",
    "port_rcv_errors",
    "local_link_integrity_errors",
    "packet_seq_err",
    "local_ack_timeout_err",
    "rnr_nak_retry_err",
)
"""Counters that stand still on a good link. Their directories differ by driver."""

GID_LIMIT = 32
"""mlx5 has 256 entries, most of them empty; the chosen ones are among the first."""


def gather(host: Host, target: Target) -> dict[str, Any]:
    if not target.uses_rdma:
        return {"devices": [], "rdma_link": {"problem": "", "links": []}, "resources": {}, "modules": {}}
    names = host.names(host.sysfs / "class/infiniband")
    devices = [_device(host, name) for name in names]
    described = _active_mtus(host, target) if devices else {}
    link = host.run(["rdma", "-j", "link"], target.timeout_s)
    resources = host.run(["rdma", "-j", "resource", "show"], target.timeout_s)
    # The commands above took their time: what rises between the two readings rises now.
    for device in devices:
        for port in device["ports"]:
            port["active_mtu"] = described.get((device["name"], port["port"]))
            port["errors_later"] = _errors(host, _port_folder(host, device["name"], port["port"]))
    return {
        "devices": devices,
        "rdma_link": {"problem": _problem(link), "links": parse_links(link.out)},
        "resources": _resources(resources),
        "modules": {name: (host.sysfs / "module" / name).is_dir() for name in ("ib_core", "nvidia_peermem", "nvidia")},
        "kernel": host.read(host.procfs / "sys/kernel/osrelease") or "",
    }


def parse_links(text: str) -> list[dict[str, Any]]:
    """`rdma -j link`: before iproute2 5.5 the port stood in the name (`mlx5_0/1`); state and device are always told."""
    links = []
    for row in objects_of(text):
        device, _, port = str(row.get("ifname", "")).partition("/")
        links.append(
            {
                "device": device,
                "port": number_of(port or row.get("port", 1)) or 1,
                "state": row.get("state", ""),
                "phys_state": row.get("physical_state", ""),
            }
        )
    return links


def _problem(ran: Ran) -> str:
    if ran.problem or ran.rc == 0:
        return ran.problem
    return ran.err.strip() or f"exit code {ran.rc}"


def _device(host: Host, name: str) -> dict[str, Any]:
    folder = host.sysfs / "class/infiniband" / name
    # A virtual device (soft-RoCE) has no `device` below it.
    verbs = host.names(folder / "device/infiniband_verbs") or [
        verb
        for verb in host.names(host.sysfs / "class/infiniband_verbs")
        if host.read(host.sysfs / "class/infiniband_verbs" / verb / "ibdev") == name
    ]
    node = host.root / "dev/infiniband" / verbs[0] if verbs else None
    return {
        "name": name,
        "node_type": host.read(folder / "node_type") or "",
        "firmware": host.read(folder / "fw_ver") or "",
        "numa": number_of(host.read(folder / "device/numa_node")),
        "uverbs": str(node) if node else "",
        "readable": bool(node and os.access(node, os.R_OK | os.W_OK)),
        "ports": [_port(host, name, port) for port in map(number_of, host.names(folder / "ports")) if port is not None],
    }


def _port_folder(host: Host, device: str, port: int) -> Path:
    return host.sysfs / "class/infiniband" / device / "ports" / str(port)


def _port(host: Host, device: str, number: int) -> dict[str, Any]:
    folder = _port_folder(host, device, number)
    gids = _gids(host, folder)
    netdev = next((gid["ndev"] for gid in gids if gid["ndev"]), "") or _netdev(host, device)
    net = host.sysfs / "class/net" / netdev if netdev else None
    return {
        "port": number,
        "state": _after_colon(host.read(folder / "state")),
        "phys_state": _after_colon(host.read(folder / "phys_state")),
        "link_layer": host.read(folder / "link_layer") or "",
        "rate": _rate(host.read(folder / "rate")),
        "gids": gids,
        "pkey": host.read(folder / "pkeys/0") or "",
        "netdev": netdev,
        "netdev_mtu": number_of(host.read(net / "mtu")) if net else None,
        "carrier_losses": number_of(host.read(net / "carrier_down_count")) if net else None,
        "errors": _errors(host, folder),
    }


def _netdev(host: Host, device: str) -> str:
    names = host.names(host.sysfs / "class/infiniband" / device / "device/net")
    return names[0] if names else ""


def _gids(host: Host, folder: Path) -> list[dict[str, Any]]:
    """Entries that are set: an unset one reads as zeros or as EINVAL."""
    found = []
    for index in range(GID_LIMIT):
        gid = host.read(folder / "gids" / str(index))
        if gid and gid.strip("0:"):
            found.append(
                {
                    "index": index,
                    "gid": gid,
                    "type": host.read(folder / "gid_attrs/types" / str(index)) or "",
                    "ndev": host.read(folder / "gid_attrs/ndevs" / str(index)) or "",
                }
            )
    return found


def _errors(host: Host, folder: Path) -> dict[str, int]:
    found = {}
    for directory in ("counters", "hw_counters"):
        for name in ERRORS:
            value = number_of(host.read(folder / directory / name))
            if value is not None:
                found[name] = value
    return found


def _active_mtus(host: Host, target: Target) -> dict[tuple[str, int], int]:
    """From `ibv_devinfo`: neither sysfs nor `rdma link` tells the active MTU."""
    ran = host.run(["ibv_devinfo"], target.timeout_s)
    found: dict[tuple[str, int], int] = {}
    device, port = "", 0
    for line in ran.out.splitlines():
        key, _, value = line.strip().partition(":")
        if key == "hca_id":
            device = value.strip()
        elif key == "port":
            port = number_of(value) or 0
        elif key == "active_mtu" and (mtu := number_of(value.split("(")[0])) is not None:
            found[device, port] = mtu
    return found


def _resources(ran: Ran) -> dict[str, dict[str, int]]:
    return {
        str(row["ifname"]): {"qp": number_of(row.get("qp")) or 0, "mr": number_of(row.get("mr")) or 0}
        for row in (objects_of(ran.out) if ran.ok else [])
        if "ifname" in row
    }


def _after_colon(text: str | None) -> str:
    """`4: ACTIVE` -> `ACTIVE`."""
    return (text or "").rpartition(":")[2].strip()


def _rate(text: str | None) -> float | None:
    """`400 Gb/sec (4X NDR)` -> 400."""
    found = re.match(r"([\d.]+)\s*Gb/sec", text or "")
    return float(found[1]) if found else None
