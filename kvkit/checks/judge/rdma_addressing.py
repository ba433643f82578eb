"""Judgements on how RDMA ports are addressed: GIDs, MTU, partitions.

Source: Mooncake's troubleshooting page and its topology code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..target import Target
from .rdma_ports import applies, ports_of

LIMITED_PKEY_MASK = 0x8000
"""The bit of a partition key that makes a member a full one; two limited members cannot talk."""


@check(
    "rdma.gid.routable",
    looks_at="The GID table of every wanted RoCE port: an entry of type RoCE v2 with an IPv4-mapped or global address.",
    why="Mooncake drops a device without a usable GID ('No suitable GID found'), and with a link-local one (fe80::) "
    "peers in other subnets are never reached.",
    mend="Give the port's netdev an IPv4 address, then choose its RoCE v2 entry: export MC_GID_INDEX to the index "
    "that `show_gids` or this finding names.",
    needs=("rdma",),
)
def gid_routable(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) else ():
        if port["link_layer"] != "Ethernet":
            continue
        routable = [gid for gid in port["gids"] if is_routable(gid)]
        if routable:
            best = routable[0]
            yield passed(f"index {best['index']}: {best['gid']} on {best['ndev'] or 'no netdev'}", name)
        else:
            had = ", ".join(f"{gid['index']}: {gid['gid']} ({gid['type'] or 'no type'})" for gid in port["gids"])
            yield failed(had or "an empty GID table", "a RoCE v2 GID that is not fe80::", "", name)


def is_routable(gid: dict[str, Any]) -> bool:
    return "v2" in gid["type"].lower() and not gid["gid"].lower().startswith("fe80:")


@check(
    "rdma.gid.index",
    looks_at="The entry that MC_GID_INDEX (gid_index) chooses on every wanted RoCE port.",
    why="An index that is empty, of RoCE v1, or link-local makes Mooncake drop the device ('GID is NULL, please "
    "check your GID index') or fail to connect its queue pairs.",
    mend="Set MC_GID_INDEX to the index that rdma.gid.routable names, or unset it and let Mooncake choose.",
    needs=("rdma",),
)
def gid_index(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) and target.gid_index >= 0 else ():
        if port["link_layer"] != "Ethernet":
            continue
        chosen = next((gid for gid in port["gids"] if gid["index"] == target.gid_index), None)
        others = ", ".join(str(gid["index"]) for gid in port["gids"] if is_routable(gid)) or "none"
        if chosen is None:
            yield failed(f"index {target.gid_index} is empty", f"a routable RoCE v2 index: {others}", "", name)
        elif not is_routable(chosen):
            seen = f"index {target.gid_index} is {chosen['gid']}, {chosen['type']}"
            yield failed(seen, f"a routable RoCE v2 index: {others}", "", name)
        else:
            yield passed(f"index {target.gid_index} is {chosen['gid']}", name)


@check(
    "rdma.mtu.active",
    looks_at="The active MTU of every wanted port (`ibv_devinfo`), and on RoCE the netdev's MTU that it follows from.",
    why="Peers with different active MTUs fail to connect ('Failed to modify QP to RTR, check mtu'), and 1024 costs "
    "bandwidth. An active MTU of 4096 needs a netdev MTU of at least 4192.",
    mend="Set the same MTU on every netdev and switch port of the fabric: `ip link set DEV mtu 9000`; or export "
    "MC_MTU to the smallest of all.",
    needs=("rdma",),
)
def mtu_active(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) else ():
        active = port["active_mtu"] or mtu_from_netdev(port["netdev_mtu"])
        if active is None:
            yield skipped("neither `ibv_devinfo` nor a netdev tells it", name)
            continue
        source = "" if port["active_mtu"] else f", by the netdev's {port['netdev_mtu']}"
        if active >= 2048:
            yield passed(f"{active}{source}", name)
        else:
            yield warned(f"{active}{source}", "2048 or 4096", "", name)


def mtu_from_netdev(mtu: int | None) -> int | None:
    """The active MTU that RoCE takes: the largest that fits, less 96 bytes of headers."""
    return next((size for size in (4096, 2048, 1024, 512, 256) if mtu and mtu >= size + 96), None)


@check(
    "rdma.pkey.full",
    looks_at="The first partition key of every wanted InfiniBand port (sysfs ports/N/pkeys/0).",
    why="Two limited members of a partition cannot talk to each other: vLLM starts, and fails at the first transfer.",
    mend="Make the port a full member in the subnet manager's partitions, or choose another index with MC_PKEY_INDEX.",
    needs=("rdma",),
)
def pkey_full(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) else ():
        if port["link_layer"] != "InfiniBand" or not port["pkey"]:
            continue
        if not re.fullmatch("0x[0-9a-f]{1,4}", port["pkey"]):
            yield unknown(f"{port['pkey'][:40]}: no partition key", name)
        elif int(port["pkey"], 16) & LIMITED_PKEY_MASK:
            yield passed(port["pkey"], name)
        else:
            yield failed(f"{port['pkey']}, a limited member", "a full member (0x8000 set)", "", name)


CHECKS: tuple[Check, ...] = (gid_routable, gid_index, mtu_active, pkey_full)
