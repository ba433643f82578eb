"""Section `system`: the host itself.

{"hostname", "boot_id", "time" (seconds since 1970), "python", "memory": {"total", "available", "swap_used"},
"hugepages": {"free", "size"}, "shm": {"size", "free"} or null, "disks": {path: {"size", "free"}}, "max_map_count",
"clock": {"source", "synchronised": bool or null, "offset_s"}, "governors": [...], "unit": {property: text}}; sizes in
bytes.
"""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from ..host import Host
from ..target import Target
from ..told import number_of

UNIT_PROPERTIES = ("LimitMEMLOCK", "LimitNOFILE", "TimeoutStopUSec", "KillMode", "Restart", "MainPID")


def gather(host: Host, target: Target) -> dict[str, Any]:
    memory = _meminfo(host)
    return {
        "hostname": platform.node(),
        "boot_id": host.read(host.procfs / "sys/kernel/random/boot_id") or "",
        "time": time.time(),
        "python": platform.python_version(),
        "memory": {
            "total": memory.get("MemTotal", 0),
            "available": memory.get("MemAvailable", 0),
            "swap_used": memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        },
        "hugepages": {"free": memory.get("HugePages_Free", 0), "size": memory.get("Hugepagesize", 0)},
        "shm": _space(host.root / "dev/shm"),
        "disks": {path: _space(_existing(Path(path))) for path in [target.results_dir] if path},
        "max_map_count": number_of(host.read(host.procfs / "sys/vm/max_map_count")),
        "clock": _clock(host, target),
        "governors": _governors(host),
        "unit": _unit(host, target),
    }


def _meminfo(host: Host) -> dict[str, int]:
    """Sizes in bytes, counts as they are."""
    found = re.findall(r"^(\w+): +(\d+)( kB)?", host.read(host.procfs / "meminfo") or "", re.MULTILINE)
    return {name: int(number) * (1024 if unit else 1) for name, number, unit in found}


def _space(path: Path) -> dict[str, int] | None:
    try:
        told = os.statvfs(path)
    except OSError:
        return None
    return {"size": told.f_blocks * told.f_frsize, "free": told.f_bavail * told.f_frsize}


def _existing(path: Path) -> Path:
    """The nearest folder that is there: results land on its file system."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))


def _clock(host: Host, target: Target) -> dict[str, Any]:
    chrony = host.run(["chronyc", "-c", "tracking"], target.timeout_s)
    if chrony.ok:
        fields = chrony.out.strip().split(",")
        offset = _float(fields[4]) if len(fields) > 4 else None
        return {"source": "chronyc", "synchronised": fields[-1] == "Normal", "offset_s": offset}
    timedate = host.run(["timedatectl", "show", "-p", "NTPSynchronized"], target.timeout_s)
    if timedate.ok and "=" in timedate.out:
        return {"source": "timedatectl", "synchronised": timedate.out.strip().endswith("=yes"), "offset_s": None}
    return {"source": "", "synchronised": None, "offset_s": None}


def _governors(host: Host) -> list[str]:
    folder = host.sysfs / "devices/system/cpu"
    told = {
        host.read(folder / name / "cpufreq/scaling_governor")
        for name in host.names(folder)
        if re.fullmatch(r"cpu\d+", name)
    }
    return sorted(governor for governor in told if governor)


def _unit(host: Host, target: Target) -> dict[str, str]:
    if not target.vllm_unit:
        return {}
    ran = host.run(["systemctl", "show", target.vllm_unit, "-p", ",".join(UNIT_PROPERTIES)], target.timeout_s)
    return dict(line.split("=", 1) for line in ran.out.splitlines() if "=" in line) if ran.ok else {}


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
