"""Judgements on the host itself: memory, limits, disks, clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..target import LOADGEN, MOONCAKE_MASTER, VLLM, Target

GIB = 1 << 30
MEMORY_SHARE = 0.7
"""A host that gives more than this of its available memory to the store swaps, or dies under load."""

NOFILE = 65536
MAP_COUNT = 262144
DISK_FREE = 1 << 30
OFFSET_LIMIT_S = 0.05
SWAP_LIMIT = GIB


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _holds_memory(target: Target) -> bool:
    return target.uses_store and (VLLM in target.parts or MOONCAKE_MASTER in target.parts)


@check(
    "host.memory.segments",
    looks_at="Segments of the store, transfer buffers and CPU tiers of all workers, against the available memory.",
    why="Each worker pins its own segment, buffer and CPU tier. Above 70 % of what is available the host swaps or "
    "the engine is killed under load, long after the start looked well.",
    mend="Lower global_segment_size, local_buffer_size or max_local_cpu_size of the profile, use fewer workers, or "
    "stop what uses the memory.",
    needs=("system", "processes"),
)
def memory_segments(sections: Any, target: Target) -> Iterator[Verdict]:
    system, processes = sections
    if not _holds_memory(target):
        return
    if not system["memory"]["available"]:
        yield unknown("/proc/meminfo tells no MemAvailable")
        return
    # What the kit's own services hold is free again before the next start.
    available = system["memory"]["available"] + processes["own_memory"]
    workers = target.workers if VLLM in target.parts else 0
    asked = target.segments * target.global_segment_size + workers * (target.local_buffer_size + target.cpu_tier_size)
    allowed = MEMORY_SHARE * available
    seen = (
        f"{target.segments} segments of {_gib(target.global_segment_size)} and {workers} workers with a buffer of "
        f"{_gib(target.local_buffer_size)} and a CPU tier of {_gib(target.cpu_tier_size)} are {_gib(asked)}"
    )
    if asked <= allowed:
        yield passed(f"{seen}, of {_gib(available)} available")
    else:
        yield failed(seen, f"at most {_gib(allowed)}: 70 % of the {_gib(available)} available", "")


@check(
    "host.memory.swap",
    looks_at="How much swap is in use.",
    why="KV blocks that were swapped out are read from a disk: a hit can take longer than computing.",
    mend="Find what uses the memory (`smem`, `ps --sort=-rss`), stop it, then swapoff -a && swapon -a.",
    needs=("system",),
)
def memory_swap(system: Any, target: Target) -> Iterator[Verdict]:
    if not _holds_memory(target):
        return
    used = system["memory"]["swap_used"]
    if used > SWAP_LIMIT:
        yield warned(f"{_gib(used)} in use", f"at most {_gib(SWAP_LIMIT)}", "")
    else:
        yield passed(f"{_gib(used)} in use")


@check(
    "host.hugepages",
    looks_at="Free hugepages, where MC_STORE_USE_HUGEPAGE=1 is set for a running service.",
    why="With that variable and too few free hugepages Mooncake cannot allocate its segment, and setup fails.",
    mend="sysctl -w vm.nr_hugepages=N with N x page size above the segment, or unset MC_STORE_USE_HUGEPAGE.",
    needs=("system", "processes"),
)
def hugepages(sections: Any, target: Target) -> Iterator[Verdict]:
    system, processes = sections
    running = [one for kind in ("vllm", "lmcache", "mooncake") for one in processes[kind]]
    if not any(one["environ"].get("MC_STORE_USE_HUGEPAGE") == "1" for one in running):
        return
    free = system["hugepages"]["free"] * system["hugepages"]["size"]
    needed = target.segments * target.global_segment_size
    if free >= needed:
        yield passed(f"{_gib(free)} free")
    else:
        yield failed(f"{_gib(free)} of hugepages free", f"at least {_gib(needed)} for the segments", "")


@check(
    "host.limits.memlock",
    looks_at="The locked-memory limit of the running vLLM, LMCache and Mooncake processes, or of vLLM's systemd "
    "unit. The shell's own limit says nothing about them.",
    why="RDMA pins the registered memory. Below the segment's size registration fails, and 'the application will "
    "still enter a fake normal state'.",
    mend="LimitMEMLOCK=infinity in the unit, --ulimit memlock=-1 for a container; the process must have the right "
    "to raise it (CAP_SYS_RESOURCE).",
    needs=("system", "processes"),
)
def limits_memlock(sections: Any, target: Target) -> Iterator[Verdict]:
    system, processes = sections
    if not target.uses_rdma or not _holds_memory(target):
        return
    needed = (target.global_segment_size + target.local_buffer_size) * max(1, len(target.rdma_devices))
    running = [(kind, one) for kind in ("vllm", "lmcache", "mooncake") for one in processes[kind]]
    for kind, one in running:
        subject = f"{kind} process {one['pid']}"
        if one["memlock"] is None or one["memlock"] >= needed:
            yield passed("unlimited" if one["memlock"] is None else _gib(one["memlock"]), subject)
        else:
            yield failed(f"{one['memlock']} bytes", f"unlimited, or at least {_gib(needed)}", "", subject)
    limit = system["unit"].get("LimitMEMLOCK")
    if not running and limit:
        if limit == "infinity" or (limit.isdigit() and int(limit) >= needed):
            yield passed(limit, target.vllm_unit)
        else:
            yield failed(f"LimitMEMLOCK={limit}", "infinity", "", target.vllm_unit)
    elif not running:
        yield skipped("nothing runs yet, and there is no unit to read")


@check(
    "host.limits.nofile",
    looks_at="The open-files limit of the running vLLM, LMCache and Mooncake processes.",
    why="Each client, peer and shared memory segment takes descriptors; when they are used up, connections fail "
    "under load only.",
    mend="LimitNOFILE=1048576 in the unit, or `ulimit -n 1048576` before the start.",
    needs=("processes",),
)
def limits_nofile(processes: Any, target: Target) -> Iterator[Verdict]:
    if not target.uses_store or target.device == "cpu":
        return
    for kind in ("vllm", "lmcache", "mooncake"):
        for one in processes[kind]:
            subject = f"{kind} process {one['pid']}"
            if one["nofile"] is None or one["nofile"] >= NOFILE:
                yield passed("unlimited" if one["nofile"] is None else str(one["nofile"]), subject)
            else:
                yield warned(str(one["nofile"]), f"at least {NOFILE}", "", subject)


@check(
    "host.sysctl.max_map_count",
    looks_at="vm.max_map_count, where RDMA memory is registered.",
    why="Large segments are mapped in many pieces; below the limit mmap fails with 'Cannot allocate memory' "
    "although memory is free.",
    mend="sysctl -w vm.max_map_count=16777216, and the same line in /etc/sysctl.d.",
    needs=("system",),
)
def max_map_count(system: Any, target: Target) -> Iterator[Verdict]:
    if not target.uses_rdma or not _holds_memory(target) or system["max_map_count"] is None:
        return
    count = system["max_map_count"]
    if count >= MAP_COUNT:
        yield passed(str(count))
    else:
        yield warned(str(count), f"at least {MAP_COUNT}", "")


@check(
    "host.shm.size",
    looks_at="/dev/shm, where vLLM's workers and the first tier of an LMCache server live.",
    why="LMCache's server warns 'Insufficient /dev/shm capacity' and goes on with less; vLLM's workers die with a "
    "bus error when it is full. Containers get 64 MiB by default.",
    mend="mount -o remount,size=N /dev/shm, --shm-size for a container, or lower the first tier (--l1-size-gb).",
    needs=("system",),
)
def shm_size(system: Any, target: Target) -> Iterator[Verdict]:
    if VLLM not in target.parts or target.engine == "emulated":
        return
    if system["shm"] is None:
        yield unknown("/dev/shm cannot be looked at")
        return
    needed = max(GIB, target.cpu_tier_size if target.connector == "lmcache-mp" else 0)
    if system["shm"]["size"] >= needed:
        yield passed(f"{_gib(system['shm']['size'])}, {_gib(system['shm']['free'])} free")
    else:
        yield failed(_gib(system["shm"]["size"]), f"at least {_gib(needed)}", "")


@check(
    "host.disk.results",
    looks_at="Free space where the results go.",
    why="A full disk loses the records of a run that took an hour of GPU time.",
    mend="Free space, or choose another results folder.",
    needs=("system",),
)
def disk_results(system: Any, target: Target) -> Iterator[Verdict]:
    for path, space in system["disks"].items() if LOADGEN in target.parts else ():
        if space is None:
            yield unknown("its file system cannot be looked at", subject=path)
        elif space["free"] >= DISK_FREE:
            yield passed(f"{_gib(space['free'])} free", path)
        else:
            yield failed(f"{_gib(space['free'])} free", f"at least {_gib(DISK_FREE)}", "", path)


@check(
    "host.clock.synchronised",
    looks_at="Whether chrony or systemd-timesyncd keeps the clock.",
    why="Times of several hosts are held against each other in logs and reports; leases of the store expire by the "
    "clock.",
    mend="Start chronyd (`systemctl enable --now chrony`), and open UDP port 123 to its servers.",
    needs=("system",),
)
def clock_synchronised(system: Any, target: Target) -> Iterator[Verdict]:
    clock = system["clock"]
    offset = clock["offset_s"]
    if clock["synchronised"] is None:
        yield skipped("neither chronyc nor timedatectl answers, as in a container")
    elif not clock["synchronised"]:
        yield warned(f"{clock['source']}: not synchronised", "synchronised", "")
    elif offset is not None and abs(offset) > OFFSET_LIMIT_S:
        yield warned(f"{offset * 1000:.0f} ms off", f"within {OFFSET_LIMIT_S * 1000:.0f} ms", "")
    else:
        yield passed(f"{clock['source']}: synchronised")


@check(
    "host.cpu.governor",
    looks_at="The frequency governor of the CPUs.",
    why="With powersave the scheduler's and the client's own time change from run to run: differences between modes "
    "drown in it.",
    mend="cpupower frequency-set -g performance.",
    needs=("system",),
)
def cpu_governor(system: Any, target: Target) -> Iterator[Verdict]:
    if not system["governors"]:
        return
    if "powersave" in system["governors"]:
        yield warned(", ".join(system["governors"]), "performance (or schedutil)", "")
    else:
        yield passed(", ".join(system["governors"]))


CHECKS: tuple[Check, ...] = (
    memory_segments,
    memory_swap,
    hugepages,
    limits_memlock,
    limits_nofile,
    max_map_count,
    shm_size,
    disk_results,
    clock_synchronised,
    cpu_governor,
)
