"""Judgements on RDMA links: whether there is one over which this host's KV blocks can travel.

Source of the limits: health checks of large clusters, which warn of five flaps a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..target import Target
from .rdma_ports import applies, ports_of

FLAPS_LIMIT = 5
RATE_SLACK = 0.999
LINK_LAYERS = ("InfiniBand", "Ethernet")


def _not_wanted(target: Target) -> Verdict:
    return skipped(f"connector {target.connector}, protocol {target.protocol}: no RDMA is asked for")


@check(
    "rdma.device.present",
    looks_at="The RDMA devices in /sys/class/infiniband and in `rdma -j link`, against the wanted ones.",
    why="Mooncake with protocol rdma and no usable device takes TCP and says nothing, or fails after 20 retries "
    "where devices are named. Either way no KV block travels over RDMA.",
    mend="Load the driver (modprobe mlx5_ib), correct device_name and mooncake_rdma_devices to names that "
    "`ibv_devices` lists, or set the protocol to tcp and expect less.",
    needs=("rdma",),
)
def device_present(rdma: Any, target: Target) -> Iterator[Verdict]:
    if not applies(target):
        yield _not_wanted(target)
        return
    names = [device["name"] for device in rdma["devices"]]
    if not names:
        seen = "no RDMA device in /sys/class/infiniband"
        if not rdma["modules"].get("ib_core"):
            seen += ", and the kernel has no ib_core"
        yield failed(seen, ", ".join(target.rdma_devices) or "at least one device", "")
    for wanted in target.rdma_devices if names else ():
        if wanted in names:
            yield passed("there", wanted)
        else:
            yield failed(f"not among {', '.join(names)}", f"a device named {wanted}", "", wanted)
    if names and not target.rdma_devices:
        yield passed(", ".join(names))


@check(
    "rdma.link.state",
    looks_at="The logical state of every wanted port (sysfs ports/N/state).",
    why="Only an ACTIVE port moves data. INIT on InfiniBand means that no subnet manager has configured it.",
    mend="Check cable and switch port (`ibstat`), on InfiniBand start the subnet manager, on RoCE set the netdev up "
    "(`ip link set DEV up`).",
    needs=("rdma",),
)
def link_state(rdma: Any, target: Target) -> Iterator[Verdict]:
    if not applies(target):
        yield _not_wanted(target)
        return
    for name, port in ports_of(rdma, target):
        if port["state"] == "ACTIVE":
            yield passed("ACTIVE", name)
        elif not port["state"]:
            yield unknown("sysfs tells no state", subject=name)
        else:
            yield failed(port["state"], "ACTIVE", "", name)


@check(
    "rdma.link.physical_state",
    looks_at="The physical state of every wanted port (sysfs ports/N/phys_state).",
    why="Polling means that the other end is gone (cable, switch port), Disabled that somebody switched the port "
    "off, LinkErrorRecovery that the cable is bad: transfers stall or break.",
    mend="Polling: reseat the cable and look at the switch port. Disabled: `ip link set DEV up` or `ibportstate "
    "enable`. LinkErrorRecovery: replace the cable.",
    needs=("rdma",),
)
def physical_state(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) else ():
        if port["phys_state"] == "LinkUp":
            yield passed("LinkUp", name)
        elif not port["phys_state"]:
            yield unknown("sysfs tells no physical state", subject=name)
        # A port that is down on both levels has one fault, and rdma.link.state has named it.
        elif port["state"] == "ACTIVE":
            yield failed(port["phys_state"], "LinkUp", "", name)
        else:
            yield skipped(f"{port['phys_state']}: see rdma.link.state", name)


@check(
    "rdma.link.layer",
    looks_at="The link layer of every wanted port (sysfs ports/N/link_layer).",
    why="A device of layer Unknown starts and fails at the first transfer; mixing InfiniBand and Ethernet ports in "
    "one pool gives peers that cannot reach each other.",
    mend="Name only devices of the wanted layer in device_name and mooncake_rdma_devices; change a port's layer "
    "with mlxconfig LINK_TYPE_P1.",
    needs=("rdma",),
)
def link_layer(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) else ():
        layer = port["link_layer"]
        allowed = (target.rdma_link_layer,) if target.rdma_link_layer else LINK_LAYERS
        if layer in allowed:
            yield passed(layer, name)
        else:
            yield failed(layer or "none told", " or ".join(allowed), "", name)


@check(
    "rdma.link.rate",
    looks_at="The rate of every wanted port (sysfs ports/N/rate) against the expected one.",
    why="A link that trained down to fewer lanes or an older generation works, and moves KV at a fraction of its "
    "speed.",
    mend="Compare `ibstat` of both ends; reseat or replace the cable, and check that the slot gives the card its "
    "lanes.",
    needs=("rdma",),
)
def link_rate(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) and target.rdma_min_rate else ():
        if port["rate"] is None:
            yield unknown("sysfs tells no rate", subject=name)
        elif port["rate"] >= target.rdma_min_rate * RATE_SLACK:
            yield passed(f"{port['rate']:g} Gbit/s", name)
        else:
            yield failed(f"{port['rate']:g} Gbit/s", f"at least {target.rdma_min_rate:g} Gbit/s", "", name)


@check(
    "rdma.sources.agree",
    looks_at="Whether `rdma -j link` and sysfs tell the same state of every wanted port.",
    why="Inside a container or a network namespace a device can stand in sysfs that the process may not use.",
    mend="Give the container /dev/infiniband and the RDMA network namespace (`rdma system show`, `rdma dev set DEV "
    "netns`).",
    needs=("rdma",),
)
def sources_agree(rdma: Any, target: Target) -> Iterator[Verdict]:
    told = rdma["rdma_link"]
    if not applies(target) or not rdma["devices"]:
        return
    if told["problem"]:
        yield skipped(f"`rdma -j link`: {told['problem']}; sysfs has to do")
        return
    by_name = {f"{link['device']}/{link['port']}": link for link in told["links"]}
    for name, port in ports_of(rdma, target):
        link = by_name.get(name)
        if link is None:
            yield failed("in sysfs, not in `rdma -j link`", "the same device in both", "", name)
        elif link["state"] != port["state"]:
            yield failed(f"rdma link: {link['state']}, sysfs: {port['state']}", "the same state in both", "", name)
        else:
            yield passed(f"both {link['state']}", name)


@check(
    "rdma.errors.rising",
    looks_at="Error counters of every wanted port (counters and hw_counters), read twice.",
    why="Errors that rise now mean retransmissions: transfers time out at random and TTFT scatters.",
    mend="Clean or replace the cable, look at the switch port's counters; on RoCE check PFC and ECN (`mlnx_qos -i "
    "DEV`).",
    needs=("rdma",),
)
def errors_rising(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) else ():
        rising = {
            key: f"{key} {port['errors'][key]} -> {value}"
            for key, value in port["errors_later"].items()
            if value > port["errors"].get(key, value)
        }
        if rising:
            yield warned(", ".join(rising.values()), "counters that stand still", "", name)
        elif port["errors_later"]:
            yield passed("none rises", name)
        else:
            yield skipped("this driver has no such counters", name)


@check(
    "rdma.link.flaps",
    looks_at="How often the carrier of every wanted port's netdev was lost since boot (carrier_down_count).",
    why="A link that comes and goes breaks transfers in flight; each costs a timeout of seconds.",
    mend="Replace cable or transceiver; read `journalctl -k | grep -i 'link down'` for when it happened.",
    needs=("rdma",),
)
def link_flaps(rdma: Any, target: Target) -> Iterator[Verdict]:
    for name, port in ports_of(rdma, target) if applies(target) else ():
        losses = port["carrier_losses"]
        if losses is None:
            continue
        if losses < FLAPS_LIMIT:
            yield passed(f"{losses} since boot", name)
        else:
            yield warned(f"{losses} since boot", f"fewer than {FLAPS_LIMIT}", "", name)


CHECKS: tuple[Check, ...] = (
    device_present,
    link_state,
    physical_state,
    link_layer,
    link_rate,
    sources_agree,
    errors_rising,
    link_flaps,
)
