"""Section `accelerators`: the GPUs as `nvidia-smi` tells them.

{"nvidia_smi": "" or why it told nothing, "driver", "cuda" (the newest that the driver serves), "open_driver": bool,
"gpus": [{"index", "name", "pci", "memory_total", "memory_used" (MiB), "ecc_uncorrected", "numa"}],
"processes": [{"pid", "name", "memory" (MiB)}], "xids": [{"code", "line"}]}
"""

from __future__ import annotations

import re
from typing import Any

from ..host import Host, Ran
from ..target import Target
from ..told import number_of

FIELDS = ("index", "name", "pci.bus_id", "memory.total", "memory.used", "ecc.errors.uncorrected.volatile.total")


def gather(host: Host, target: Target) -> dict[str, Any]:
    if target.device != "cuda":
        return {
            "nvidia_smi": "",
            "driver": "",
            "cuda": "",
            "open_driver": False,
            "gpus": [],
            "processes": [],
            "xids": [],
        }
    query = host.run(["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"])
    problem = _problem(query)
    version = (host.read(host.procfs / "driver/nvidia/version") or "").splitlines()
    return {
        "nvidia_smi": problem,
        "driver": _first(r"Kernel Module.*?(\d+\.\d+(?:\.\d+)?)", version),
        "cuda": "" if problem else _cuda(host),
        "open_driver": any("Open Kernel Module" in line for line in version),
        "gpus": [] if problem else [_gpu(host, row) for row in _rows(query, len(FIELDS))],
        "processes": [] if problem else _processes(host),
        "xids": _xids(host),
    }


def _problem(ran: Ran) -> str:
    if ran.problem:
        return ran.problem
    return "" if ran.rc == 0 else (ran.err or ran.out).strip() or f"exit code {ran.rc}"


def _rows(ran: Ran, columns: int) -> list[list[str]]:
    """Of its CSV, those that are whole."""
    rows = [[part.strip() for part in line.split(",")] for line in ran.out.splitlines()]
    return [row[:columns] for row in rows if len(row) >= columns]


def _gpu(host: Host, row: list[str]) -> dict[str, Any]:
    index, name, pci, total, used, ecc = row
    # nvidia-smi writes a domain of eight digits, sysfs one of four, in lower case.
    address = pci.lower()[4:] if len(pci.split(":")[0]) == 8 else pci.lower()
    return {
        "index": number_of(index),
        "name": name,
        "pci": pci,
        "memory_total": number_of(total),
        "memory_used": number_of(used),
        "ecc_uncorrected": number_of(ecc),
        "numa": number_of(host.read(host.sysfs / "bus/pci/devices" / address / "numa_node")),
    }


def _cuda(host: Host) -> str:
    return _first(r"CUDA Version: *(\d+\.\d+)", host.run(["nvidia-smi"]).out.splitlines())


def _processes(host: Host) -> list[dict[str, Any]]:
    ran = host.run(["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader,nounits"])
    return [{"pid": number_of(pid), "name": name, "memory": number_of(memory)} for pid, name, memory in _rows(ran, 3)]


def _xids(host: Host) -> list[dict[str, Any]]:
    """Of this boot; the journal may be closed to this user, then there are none to tell."""
    ran = host.run(["journalctl", "-k", "-b", "--no-pager", "-g", "NVRM: Xid"])
    found = []
    for line in ran.out.splitlines():
        if code := re.search(r"NVRM: Xid .*?: (\d+),", line):
            found.append({"code": number_of(code[1]), "line": line.strip()[-200:]})
    return found


def _first(pattern: str, lines: list[str]) -> str:
    return next((found[1] for line in lines if (found := re.search(pattern, line))), "")
