"""Rows of a report that are the same in every form: which facts stand there, and in what order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

from kvkit.report import wording
from kvkit.results.comparison import RoundPair, RunPair
from kvkit.results.stats import Mode, PhysicalLimit, RoundSummary, RunStats

CLEARED = {
    "none": "nothing",
    "device": "device cache",
    "restart": "all but the store, by a restart",
    None: wording.UNKNOWN,
}


def wordings() -> dict[str, Callable[..., Any]]:
    """Filters for templates: figures, outcomes and verdicts in words, and the rows below."""
    return {
        "cleared": CLEARED.__getitem__,
        "count": wording.count,
        "effect": wording.EFFECTS.__getitem__,
        "failures": failures,
        "kinds": wording.kinds,
        "limits": limits,
        "noise_floor": wording.noise_floor,
        "number": wording.number,
        "objectives": wording.objectives,
        "outcome": wording.OUTCOMES.__getitem__,
        "percent": wording.percent,
        "provenance": provenance,
        "round_name": wording.ROUND_NAMES.__getitem__,
        "share": wording.share,
        "sides": sides,
        "speedup": wording.speedup,
        "validity": wording.validity,
    }


def sides(pair: RoundPair) -> tuple[tuple[Mode, RoundSummary], tuple[Mode, RoundSummary]]:
    return ("with-cache", pair.with_cache), ("baseline", pair.baseline)


def limits(pair: RunPair) -> Iterator[tuple[RoundPair, PhysicalLimit]]:
    for this in pair.rounds:
        if this.with_cache.limit is not None:
            yield this, this.with_cache.limit


def failures(pair: RunPair) -> Iterator[tuple[Mode, str, str]]:
    for run in pair.runs:
        for kind, words in run.words_of_failures().items():
            yield run.stats.mode, kind, words


def provenance(pair: RunPair) -> Iterator[tuple[str, Any, Any]]:
    ours, theirs = _told(pair.with_cache.stats), _told(pair.baseline.stats)
    yield "stats file", pair.with_cache.path.name, pair.baseline.path.name
    yield from ((name, ours[name], theirs[name]) for name in ours)


def _told(stats: RunStats) -> dict[str, Any]:
    provenance = stats.provenance
    return {
        "requests file": stats.records,
        "run": stats.run_id,
        "started": f"{provenance.started.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "model": provenance.engine.model,
        "engine version": provenance.engine.version,
        "connector": provenance.engine.connector,
        "system fingerprint": provenance.engine.system_fingerprint,
        "kvkit": f"{provenance.kvkit_version}, Python {provenance.python}, on {provenance.host}",
        "seed": provenance.seed,
        "workload": stats.workload.fingerprint,
    }
