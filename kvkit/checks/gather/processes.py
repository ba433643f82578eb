"""Section `processes`: what of the stack runs on this host, and what earlier engines left.

{"vllm": [{"pid", "argv", "environ", "memlock", "nofile", "orphan"}], "lmcache": [...], "mooncake": [...],
"own": [pid] (of the kit's own services), "own_memory": bytes that they hold, "mode": of the kit's own engine,
"shared_memory": [{"path", "size", "mapped"}]}

`environ` holds only names that configure the stack, never a secret. A limit of null is none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..host import Host
from ..target import Target
from ..told import number_of, object_of
from .network import without_credentials

KINDS = {
    "vllm": re.compile(r"(^|/)vllm( serve|$)|vllm\.entrypoints|^VLLM::"),
    "lmcache": re.compile(r"(^|/)lmcache server|lmcache\.v1\.(multiprocess|server)"),
    "mooncake": re.compile(r"(^|/)mooncake_(master|client)\b|mooncake\.mooncake_store_service"),
}
TOLD = re.compile(r"LMCACHE_|MOONCAKE_|MC_|VLLM_|PYTHONHASHSEED$|(no|https?|all)_proxy$", re.IGNORECASE)
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
SHARED_MEMORY = re.compile(r"psm_|vllm_offload_|lmcache_l1_pool_|sem\.mp-")
"""What engines and LMCache's server make in /dev/shm; nothing else there is theirs."""


def gather(host: Host, target: Target) -> dict[str, Any]:
    found: dict[str, Any] = {kind: [] for kind in KINDS}
    for name in host.names(host.procfs):
        if name.isdigit():
            command = (host.read(host.procfs / name / "cmdline") or "").rstrip("\0")
            kind = next((kind for kind, form in KINDS.items() if form.search(command.replace("\0", " "))), None)
            if kind:
                found[kind].append(_process(host, int(name), command))
    own = _own(host, target)
    return {
        **found,
        "own": own,
        "own_memory": sum(_held(host, pid) for pid in own),
        "mode": _mode(host, target) if own else "",
        "shared_memory": _shared_memory(host),
    }


def _process(host: Host, pid: int, command: str) -> dict[str, Any]:
    folder = host.procfs / str(pid)
    limits = host.read(folder / "limits") or ""
    return {
        "pid": pid,
        "argv": without_secrets(command.split("\0")),
        "environ": environment_of(host.read(folder / "environ") or ""),
        "memlock": _limit(limits, "Max locked memory"),
        "nofile": _limit(limits, "Max open files"),
        "orphan": _parent(host.read(folder / "stat") or "") == 1,
    }


def without_secrets(argv: list[str]) -> list[str]:
    """The values of options such as --api-key (which takes several) become stars, in either spelling."""
    told, hidden = [], False
    for argument in argv:
        name, equals, _value = argument.partition("=")
        if argument.startswith("-"):
            hidden = SECRET.search(name.replace("-", "_")) is not None
            told.append(f"{name}=***" if hidden and equals else argument)
            hidden = hidden and not equals
        else:
            told.append("***" if hidden else argument)
    return told


def environment_of(text: str) -> dict[str, str]:
    """The variables that configure the stack; credentials in a proxy's address are cut out."""
    pairs = (entry.partition("=") for entry in text.split("\0") if "=" in entry)
    return {
        name: without_credentials(value) if name.lower().endswith("_proxy") else re.sub(r"//[^/@]*@", "//***@", value)
        for name, _, value in pairs
        if TOLD.match(name) and not SECRET.search(name)
    }


def _limit(limits: str, name: str) -> int | None:
    found = re.search(rf"^{name} +(\S+)", limits, re.MULTILINE)
    return number_of(found[1]) if found else None


def _parent(stat: str) -> int:
    rest = stat[stat.rfind(")") + 2 :].split()
    return int(rest[1]) if len(rest) > 1 else 0


def _own(host: Host, target: Target) -> list[int]:
    """The living processes that the kit's role `service` has recorded, told from later ones of the same number."""
    if not target.state_dir:
        return []
    living = set()
    services = Path(target.state_dir) / "services"
    for service in host.names(services):
        recorded = object_of(host.read(services / service / "processes.json"))
        for pid, started in _pairs([recorded.get("main"), *(recorded.get("processes") or [])]):
            stat = host.read(host.procfs / str(pid) / "stat") or ""
            fields = stat[stat.rfind(")") + 2 :].split()
            if len(fields) > 19 and number_of(fields[19]) == started and fields[0] != "Z":
                living.add(pid)
    return sorted(living)


def _pairs(recorded: list[Any]) -> list[tuple[int, int]]:
    """Of a file that a full disk may have cut off."""
    return [(pair[0], pair[1]) for pair in recorded if isinstance(pair, list) and [*map(type, pair)] == [int, int]]


def _mode(host: Host, target: Target) -> str:
    """As the role `vllm` wrote it down when it started the engine."""
    return str(object_of(host.read(Path(target.state_dir) / "engine.json")).get("mode", ""))


def _held(host: Host, pid: int) -> int:
    found = re.search(r"^Pss: +(\d+) kB", host.read(host.procfs / str(pid) / "smaps_rollup") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _shared_memory(host: Host) -> list[dict[str, Any]]:
    folder = host.root / "dev/shm"
    names = [name for name in host.names(folder) if SHARED_MEMORY.match(name)]
    mapped = _mapped(host) if names else set()
    found = []
    for name in names:
        try:
            size = (folder / name).stat().st_size
        except OSError:
            continue
        found.append({"path": f"/dev/shm/{name}", "size": size, "mapped": f"/dev/shm/{name}" in mapped})
    return found


def _mapped(host: Host) -> set[str]:
    found: set[str] = set()
    for name in host.names(host.procfs):
        if name.isdigit():
            maps = host.read(host.procfs / name / "maps") or ""
            found.update(re.findall(r"(/dev/shm/\S+)", maps))
    return found
