"""Judgements on what lies between an RDMA device and the process: device nodes, NUMA, GPU memory, leaked resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, warned
from ..target import Target
from .rdma_ports import applies

QP_LIMIT = 10_000


@check(
    "rdma.uverbs.access",
    looks_at="Whether /dev/infiniband/uverbsN of every wanted device can be read and written.",
    why="Mooncake leaves out a device whose node it cannot open, without a word, and takes TCP.",
    mend="Run the service as a user of the group that owns /dev/infiniband, or give the container the devices.",
    needs=("rdma",),
)
def uverbs_access(rdma: Any, target: Target) -> Iterator[Verdict]:
    for device in rdma["devices"] if applies(target) else ():
        name = device["name"]
        if target.rdma_devices and name not in target.rdma_devices:
            continue
        if not device["uverbs"]:
            yield failed("no verbs device belongs to it", "/dev/infiniband/uverbsN, readable and writable", "", name)
        elif device["readable"]:
            yield passed(device["uverbs"], name)
        else:
            yield failed(f"{device['uverbs']} cannot be opened", "readable and writable", "", name)


@check(
    "rdma.gpudirect",
    looks_at="nvidia_peermem, or a kernel and driver with dma-buf, on hosts with GPUs.",
    why="Without either no GPU memory can be registered for RDMA. KV that is staged in host memory is not affected, "
    "so this only warns.",
    mend="modprobe nvidia_peermem, or use the open NVIDIA driver on a kernel of 5.12 or newer.",
    needs=("rdma", "accelerators"),
)
def gpudirect(sections: Any, target: Target) -> Iterator[Verdict]:
    rdma, accelerators = sections
    if not applies(target) or not rdma["devices"] or not accelerators.get("gpus"):
        return
    if rdma["modules"].get("nvidia_peermem"):
        yield passed("nvidia_peermem is loaded")
    elif accelerators.get("open_driver") and kernel_of(rdma["kernel"]) >= (5, 12):
        yield passed(f"dma-buf: open driver, kernel {rdma['kernel']}")
    else:
        yield warned(f"no nvidia_peermem, kernel {rdma['kernel']}, no open driver", "one way to GPU memory", "")


def kernel_of(release: str) -> tuple[int, ...]:
    """`6.1.0-18-amd64` -> (6, 1)."""
    return tuple(int(part) for part in release.partition("-")[0].split(".")[:2] if part.isdigit())


@check(
    "rdma.numa.distance",
    looks_at="The NUMA node of every wanted device, against those of the GPUs.",
    why="A NIC on the other socket than the GPU sends every block through the link between the sockets.",
    mend="Pair each worker with the NIC of its own node (MC_ENABLE_DEST_DEVICE_AFFINITY=1, or name the devices).",
    needs=("rdma", "accelerators"),
)
def numa_distance(sections: Any, target: Target) -> Iterator[Verdict]:
    rdma, accelerators = sections
    nodes = {gpu["numa"] for gpu in accelerators.get("gpus", []) if gpu.get("numa") is not None and gpu["numa"] >= 0}
    for device in rdma["devices"] if applies(target) and nodes else ():
        if target.rdma_devices and device["name"] not in target.rdma_devices:
            continue
        node = device["numa"]
        if node is None or node < 0:
            yield skipped("its node is not known", device["name"])
        elif node in nodes:
            yield passed(f"node {node}, as a GPU", device["name"])
        else:
            yield warned(f"node {node}", f"a node with a GPU: {', '.join(map(str, sorted(nodes)))}", "", device["name"])


@check(
    "rdma.resources.leaked",
    looks_at="Queue pairs and memory regions of every device (`rdma -j resource show`).",
    why="Engines that were killed can leave resources behind until the next one cannot register memory "
    "('CREATE_MKEY failed, no resources').",
    mend="Stop the engines gracefully; reload the driver or reboot when the counts stay with no engine running.",
    needs=("rdma",),
)
def resources_leaked(rdma: Any, target: Target) -> Iterator[Verdict]:
    for device, counts in rdma["resources"].items() if applies(target) else ():
        if counts["qp"] > QP_LIMIT:
            yield warned(f"{counts['qp']} queue pairs", f"at most {QP_LIMIT}", "", device)
        else:
            yield passed(f"{counts['qp']} queue pairs, {counts['mr']} memory regions", device)


CHECKS: tuple[Check, ...] = (uverbs_access, gpudirect, numa_distance, resources_leaked)
