"""Section `network`: names, ports, proxies, and the MTU of the path.

{"names": {name: {"addresses": [...]} or {"error": text}},
"ports": [{"host", "port", "purpose", "kit" (whether the kit starts the server itself), "state", "ms"}],
"peers": {address: state of its data ports}, "listening": [{"port", "address", "pid", "command"}],
"proxies": {variable: address without credentials}, "no_proxy": text, "paths": [{"host", "device", "mtu"}],
"port_range": [low, high], "closing": connections in TIME_WAIT}

`state` of a port: `open`; `refused`: nobody listens; `filtered`: no answer at all; `slow`: open, after a lost packet;
`unreachable`: no route, or a firewall that says so; `unresolved`: the name has no address.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..host import Host
from ..target import LOADGEN, VLLM, Target
from ..told import number_of, objects_of

SLOW_S = 0.9
"""The kernel sends a first packet that was lost again after 1 s; no path between two hosts takes that long itself."""

DATA_PORTS = (12300, 15000)
"""The first of the store clients' and of the transfer engine's. A host that lets them through answers, if only with a
refusal."""

STATES = ("open", "refused", "slow", "unreachable", "filtered", "unresolved")
"""From the best, of a peer's data ports."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def gather(host: Host, target: Target) -> dict[str, Any]:
    wanted = endpoints(target)
    names = sorted({name for name in (*(one["host"] for one in wanted), target.local_hostname, *target.peers) if name})
    with ThreadPoolExecutor(max_workers=16) as pool:
        resolved = dict(zip(names, pool.map(_resolve, names)))
        states = list(pool.map(lambda one: _connect(one["host"], one["port"], target.timeout_s), wanted))
        pairs = [(peer, port) for peer in target.peers for port in DATA_PORTS]
        reached = list(pool.map(lambda pair: _connect(pair[0], pair[1], target.timeout_s)["state"], pairs))
    return {
        "names": resolved,
        "ports": [{**one, **state} for one, state in zip(wanted, states)],
        "peers": _peers(pairs, reached),
        "listening": _listening(host),
        "proxies": {name: without_credentials(os.environ[name]) for name in PROXIES if os.environ.get(name)},
        "no_proxy": os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "",
        "paths": _paths(host, target, resolved),
        "port_range": [
            int(part) for part in (host.read(host.procfs / "sys/net/ipv4/ip_local_port_range") or "").split()
        ],
        "closing": _closing(host),
    }


def endpoints(target: Target) -> list[dict[str, Any]]:
    """Every server that this host has to reach, and whether the kit is the one that starts it."""
    found: list[dict[str, Any]] = []

    def add(host: str, port: int, purpose: str, kit: bool) -> None:
        if host and port:
            found.append({"host": host, "port": port, "purpose": purpose, "kit": kit})

    if target.uses_store:
        managed = target.mooncake_managed
        add(target.mooncake_host, target.mooncake_rpc_port, "Mooncake master RPC", managed)
        add(target.mooncake_host, target.mooncake_metrics_port, "Mooncake master metrics", managed)
        add(target.mooncake_host, target.mooncake_metadata_port, "Mooncake metadata", managed)
    if target.connector == "lmcache-mp" and VLLM in target.parts and target.engine == "vllm":
        add(target.lmcache_host, target.lmcache_port, "LMCache server", target.kit_serves)
        add(target.lmcache_host, target.lmcache_http_port, "LMCache server HTTP", target.kit_serves)
    if LOADGEN in target.parts:
        for url in target.vllm_urls:
            host, port = address_of(url)
            add(host, port, "vLLM", target.kit_serves)
    return found


def address_of(url: str) -> tuple[str, int]:
    """Host and port of an http or https address."""
    found = re.match(r"(https?)://(\[[^\]]+\]|[^/:]+)(?::(\d+))?", url)
    if found is None:
        return "", 0
    return found[2].strip("[]"), int(found[3] or (443 if found[1] == "https" else 80))


def without_credentials(address: str) -> str:
    """To the last @: a password may hold @ and /, and the scheme may be left out."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1***@", address, flags=re.IGNORECASE)


def _peers(pairs: list[tuple[str, int]], states: list[str]) -> dict[str, str]:
    """Peer -> the worst state among its ports."""
    found: dict[str, str] = {}
    for (peer, _), state in zip(pairs, states):
        found[peer] = max(found.get(peer, state), state, key=STATES.index)
    return found


def _resolve(name: str) -> dict[str, Any]:
    try:
        return {"addresses": sorted({str(info[4][0]) for info in socket.getaddrinfo(name, None)})}
    except OSError as error:
        return {"error": error.strerror or str(error)}


def _connect(host: str, port: int, limit_s: float) -> dict[str, Any]:
    start = time.monotonic()

    def told(state: str) -> dict[str, Any]:
        return {"state": state, "ms": round((time.monotonic() - start) * 1000, 1)}

    try:
        with socket.create_connection((host, port), timeout=limit_s):
            return told("slow" if time.monotonic() - start >= SLOW_S else "open")
    except ConnectionRefusedError:
        return told("refused")
    except (TimeoutError, socket.timeout):
        return told("filtered")
    except socket.gaierror:
        return told("unresolved")
    except OSError:
        return told("unreachable")


def _listening(host: Host) -> list[dict[str, Any]]:
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in (host.read(host.procfs / "net" / table) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == "0A":
                address, _, port = fields[1].rpartition(":")
                sockets[fields[9]] = (int(port, 16), _address(address))
    owners = _owners(host, set(sockets))
    return [
        {"port": port, "address": address, **owners.get(inode, {"pid": 0, "command": ""})}
        for inode, (port, address) in sorted(sockets.items(), key=lambda item: item[1])
    ]


def _address(text: str) -> str:
    """The kernel writes words of four bytes in the machine's order (little-endian on every host that runs vLLM)."""
    raw = b"".join(bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _owners(host: Host, inodes: set[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in host.names(host.procfs):
        if not name.isdigit() or len(found) == len(inodes):
            continue
        for link in host.names(host.procfs / name / "fd"):
            try:
                opened = os.readlink(host.procfs / name / "fd" / link)
            except OSError:
                continue
            # Pipes and files have numbers too, and equal ones.
            inode = opened[len("socket:[") : -1] if opened.startswith("socket:[") else ""
            if inode in inodes and inode not in found:
                command = _command(host.read(host.procfs / name / "cmdline") or "")
                found[inode] = {"pid": int(name), "command": command[:120]}
    return found


def _command(cmdline: str) -> str:
    """The program and what it was told before the first option: options hold keys and passwords."""
    found = re.match(r"[^\0]*(\0-m)?(\0[^-\0][^\0]*)*", cmdline)
    words = found[0].split("\0") if found else []
    return " ".join(without_credentials(word) for word in words)


def _paths(host: Host, target: Target, resolved: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The device towards each peer and the store, and its MTU, or the path's where the kernel has learnt it."""
    found = []
    for name in sorted({target.mooncake_host, *target.peers} - {""}) if target.uses_store else ():
        address = next(iter(resolved.get(name, {}).get("addresses", [])), "")
        ran = host.run(["ip", "-j", "route", "get", address], target.timeout_s) if address else None
        route = next(iter(objects_of(ran.out)), {}) if ran is not None and ran.ok else {}
        device = str(route.get("dev", ""))
        metrics = objects_of(json.dumps(route.get("metrics")))
        mtu = next((number_of(metric["mtu"]) for metric in metrics if "mtu" in metric), None)
        if device and mtu is None:
            mtu = number_of(host.read(host.sysfs / "class/net" / device / "mtu"))
        if device:
            found.append({"host": name, "device": device, "mtu": mtu})
    return found


def _closing(host: Host) -> int:
    found = re.search(r"^TCP: .*\btw (\d+)", host.read(host.procfs / "net/sockstat") or "", re.MULTILINE)
    return int(found[1]) if found else 0
