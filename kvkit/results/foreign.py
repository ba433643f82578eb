"""A run that is not read from a stats file: what the file that it comes from does not tell is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from kvkit.results.record import Record
from kvkit.results.stats import Engine, Mode, Provenance, RoundSummary, RunStats, WorkloadFacts
from kvkit.results.summary import run_validity

NOT_TOLD = "unknown"
"""Stands where a stats file must have words, the workload's fingerprint among them."""

NO_SOURCES = "where the prompt tokens came from is not known: the file does not tell"


class ImportedRun(NamedTuple):
    stats: RunStats
    records: tuple[Record, ...] | None
    """`None`: in the requests file that `stats` names."""


class Origin(NamedTuple):
    """Which run something in a file belongs to."""

    run_id: str
    mode: Mode
    scenario: str
    fingerprint: str
    """Of the workload."""


def foreign_stats(
    path: Path,
    origin: Origin,
    rounds: Sequence[RoundSummary],
    *,
    started: datetime,
    model: str | None = None,
    config: dict[str, Any] | None = None,
) -> RunStats:
    """Stats of rounds that came from another file; that file stands where a stats file names its requests file."""
    valid, reasons = run_validity(rounds)
    return RunStats(
        run_id=origin.run_id,
        mode=origin.mode,
        scenario=origin.scenario,
        valid=valid,
        invalid_reasons=reasons,
        config=config or {},
        provenance=Provenance(
            kvkit_version=NOT_TOLD,
            python=NOT_TOLD,
            host=NOT_TOLD,
            started=started,
            seed=None,
            engine=Engine(model=model),
        ),
        workload=WorkloadFacts(
            fingerprint=origin.fingerprint,
            scenario=origin.scenario,
            parameters={},
            ideal_hit_ratio=None,
            requests=rounds[0].requests.total,
        ),
        records=path.name,
        rounds=tuple(rounds),
    )
