"""The store's `/metrics`, with the names of a real master.

prometheus_client appends `_total` to the name of every counter, but a master has counters without it
(`mem_cache_hit_nums_`, `valid_get_nums_`), so the lines are written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from kvkit.emulator.store.tier import Tier


def exposition(tier: Tier, segment: str) -> str:
    """The text format of Prometheus; `segment` is the name of the one memory segment, `host:port`."""
    gauges = {
        "master_allocated_bytes": tier.allocated_bytes,
        "master_total_capacity_bytes": tier.capacity_bytes,
        "segment_allocated_bytes": tier.allocated_bytes,
        "segment_total_capacity_bytes": tier.capacity_bytes,
        "master_key_count": len(tier),
        "mem_cache_nums_": len(tier),
        "master_active_clients": 1,
    }
    lines = []
    for name, kind in _names_and_types():
        labels = f'{{segment="{segment}"}}' if name.startswith("segment_") else ""
        value = gauges.get(name, tier.counters[name])
        lines.append(f"# TYPE {name} {kind}\n{name}{labels} {value}\n")
    return "".join(lines)


def summary(tier: Tier) -> str:
    """The parts of a master's `/metrics/summary` that people read."""
    used = 100 * tier.allocated_bytes / tier.capacity_bytes
    return (
        "role=leader, state=serving, service_ready=true, "
        f"master={{Mem Storage: {tier.allocated_bytes} B / {tier.capacity_bytes} B ({used:.1f}%) | "
        f"Keys: {len(tier)} (soft-pinned: 0) | Clients: 1}}"
    )


def _names_and_types() -> Iterator[tuple[str, str]]:
    text = resources.files(__package__).joinpath("master_metrics.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line.startswith("#"):
            name, kind = line.split()
            yield name, kind
