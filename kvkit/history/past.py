"""What the history keeps of a run: enough to list it, to draw it and to find what it can be held against."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from kvkit.history.median import median_interval
from kvkit.results.errors import ResultsError
from kvkit.results.reader import read_records, read_stats
from kvkit.results.record import Record
from kvkit.results.speedup import Interval
from kvkit.results.stats import Mode, RoundName, RoundSummary, RunStats

_FREE = "seed"
"""The parameter of a workload that may differ between comparable runs: it makes other prompts of the same shape."""

_MOST = 2**31
"""No run has more rounds or requests; SQLite holds no number without an end."""


@dataclass(frozen=True, slots=True)
class PastRound:
    """One round, as the history shows it."""

    number: int
    name: RoundName
    valid: bool | None
    succeeded: int
    ttft_ms: float | None
    """Median."""
    ttft_interval: Interval | None
    """Of that median, in milliseconds. `None`: too few requests, or their records cannot be read."""
    tpot_ms: float | None
    """Mean."""
    requests_per_s: float | None
    hit_ratio: float | None


@dataclass(frozen=True, slots=True)
class PastRun:
    """One stats file."""

    path: Path
    run_id: str
    mode: Mode
    scenario: str
    started: datetime
    valid: bool | None
    invalid_reasons: tuple[str, ...]
    model: str | None
    engine_version: str | None
    connector: str | None
    kvkit_version: str
    host: str
    """The load generator."""
    fingerprint: str
    conditions: str
    """What must be equal for two runs to be comparable, as JSON: the workload without its seed, what was cleared before
    a round, the connector."""
    records: str
    """Name of the requests file beside it."""
    records_problem: str | None
    """Why the requests file cannot be read, where it cannot."""
    rounds: tuple[PastRound, ...]

    @property
    def identity(self) -> tuple[str, str, str, datetime]:
        """The same in every copy of a run's files."""
        return self.run_id, self.mode, self.scenario, self.started

    @property
    def series(self) -> tuple[str, str, str]:
        """Runs of one series can be held against each other."""
        return self.scenario, self.mode, self.conditions

    def round(self, number: int) -> PastRound | None:
        return next((one for one in self.rounds if one.number == number), None)


def read_past_run(path: Path) -> PastRun:
    """Read a stats file and the requests file beside it. One whose records cannot be read has no intervals.

    Raises:
        ResultsError: naming the stats file, and the line or the key that is wrong.
    """
    stats = read_stats(path)
    records, problem = _records(path, stats)
    engine = stats.provenance.engine
    return PastRun(
        path=path,
        run_id=printable(stats.run_id),
        mode=stats.mode,
        scenario=printable(stats.scenario),
        started=_in_utc(path, stats.provenance.started),
        valid=stats.valid,
        invalid_reasons=tuple(map(printable, stats.invalid_reasons)),
        model=_printable(engine.model),
        engine_version=_printable(engine.version),
        connector=_printable(engine.connector),
        kvkit_version=printable(stats.provenance.kvkit_version),
        host=printable(stats.provenance.host),
        fingerprint=printable(stats.workload.fingerprint),
        conditions=json.dumps(conditions_of(stats), sort_keys=True),
        records=printable(stats.records),
        records_problem=_printable(problem),
        rounds=tuple(_past_round(path, summary, records) for summary in stats.rounds),
    )


def conditions_of(stats: RunStats) -> Mapping[str, Any]:
    """What two runs of one mode must have in common for a difference between their figures to tell anything."""
    return {
        "workload": {name: value for name, value in stats.workload.parameters.items() if name != _FREE},
        "isolation": stats.rounds[0].isolation if stats.rounds else None,
        "connector": stats.provenance.engine.connector,
    }


def printable(text: str) -> str:
    """Text that every file and terminal takes: halves of characters, which JSON and file names can hold, are spelt."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _printable(text: str | None) -> str | None:
    return None if text is None else printable(text)


def _records(path: Path, stats: RunStats) -> tuple[tuple[Record, ...], str | None]:
    try:
        return read_records(path, stats), None
    except ResultsError as error:
        return (), str(error)


def _in_utc(path: Path, started: datetime) -> datetime:
    try:
        return started.astimezone(UTC)
    except OverflowError:
        raise ResultsError(f"{path}: key provenance.started: found {started.isoformat()}: no time of a run") from None


def _past_round(path: Path, summary: RoundSummary, records: Iterable[Record]) -> PastRound:
    if not (0 <= summary.round < _MOST and 0 <= summary.requests.succeeded < _MOST):
        raise ResultsError(f"{path}: key rounds: holds a number that no run has")
    times = [
        record.ttft_s * 1000
        for record in records
        if record.round == summary.round and record.ok and record.ttft_s is not None
    ]
    return PastRound(
        number=summary.round,
        name=summary.name,
        valid=summary.valid,
        succeeded=summary.requests.succeeded,
        ttft_ms=_finite(summary.ttft_ms.p50),
        ttft_interval=median_interval(times),
        tpot_ms=_finite(summary.tpot_ms.mean),
        requests_per_s=_finite(summary.throughput.requests_per_s),
        hit_ratio=_finite(summary.tokens.hit_ratio),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
