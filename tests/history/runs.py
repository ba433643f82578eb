"""Runs of several days, with figures that can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from kvkit.results.stats import Mode
from tests.results.making import STARTED, eight, provenance, run_stats, summary, workload, write_run

SCATTER = (0.0, 0.01, -0.01, 0.005, -0.005, 0.008, -0.008, 0.002, -0.002, 0.0)
"""By how much the runs of a series are slower than the first; no order in it."""


def run_id(day: int) -> str:
    return f"{day:02d}aaaaaa"


def write_past_run(
    folder: Path,
    day: int,
    *,
    pace: float = 1.0,
    mode: Mode = "with-cache",
    scenario: str = "cold_start",
    seed: int | None = None,
    valid: bool | None = True,
    parameters: dict[str, Any] | None = None,
    connector: str = "LMCacheMPConnector",
    **engine: Any,
) -> Path:
    """One run of that day; the path of its stats file. Median TTFT: `pace` seconds cold, a quarter of it on a hit.

    Eight requests a round. Each day has a seed of its own, unless one is given, so that its prompts are others.
    """
    started = STARTED + timedelta(days=day)
    cold, hits = eight(1, pace), eight(2, pace / 4)
    judged = {"valid": valid, "invalid_reasons": () if valid else ("no external tokens",)}
    stats = run_stats(
        mode,
        [summary(cold), summary(hits, 2, **judged)],
        run_id=run_id(day),
        scenario=scenario,
        workload=workload(
            f"sha256:{day if seed is None else seed}", seed=day if seed is None else seed, **(parameters or {})
        ),
        provenance=provenance(started, connector=connector, **engine),
    )
    return write_run(folder, stats, cold + hits)


def write_series(folder: Path, *, rise: float = 0.0, changed: int = 5, days: int = 10) -> list[Path]:
    """So many days, on each of which a run scatters by up to 1 %; from day `changed` on, TTFT is higher by `rise`."""
    paces = [(1 + SCATTER[day % len(SCATTER)]) * (1 + rise if day >= changed else 1) for day in range(days)]
    return [write_past_run(folder, day, pace=pace) for day, pace in enumerate(paces)]


def reasons(not_read: Sequence[tuple[Path, str]]) -> dict[str, str]:
    return {path.name: reason for path, reason in not_read}
