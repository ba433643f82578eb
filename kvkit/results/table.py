"""Results as a table (CSV), one row a record, written and read."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvkit.results.errors import ResultsError
from kvkit.results.foreign import NO_SOURCES, ImportedRun, Origin, foreign_stats
from kvkit.results.reader import problems
from kvkit.results.record import RECORD_FORMAT, Record
from kvkit.results.stats import Counters, RoundSummary, RunStats, TokensBySource
from kvkit.results.summary import summarise_round
from kvkit.results.tally import Tally

_RECORD_COLUMNS = tuple(field.name for field in fields(Record))
_COLUMNS = Origin._fields + _RECORD_COLUMNS
_LISTS = frozenset(field.name for field in fields(Record) if isinstance(field.default, tuple))
"""Columns whose cells are JSON lists."""
_LATER_COLUMNS = frozenset({"part"})
"""Tables of an earlier kvkit don't have them."""


def as_table(runs: Iterable[tuple[RunStats, Sequence[Record]]]) -> str:
    """The run that a record belongs to, and the record. Unknown is empty; the gaps between tokens are a JSON list."""
    text = io.StringIO()
    writer = csv.writer(text)  # ends lines with \r\n, as RFC 4180 says: only so is a \r inside a value quoted
    writer.writerow(_COLUMNS)
    for stats, records in runs:
        origin = Origin(stats.run_id, stats.mode, stats.scenario, stats.workload.fingerprint)
        writer.writerows((*origin, *_cells(record)) for record in records)
    return text.getvalue()


def is_table(text: str) -> bool:
    return text.startswith(",".join(Origin._fields))


def runs_in_table(path: Path, text: str) -> tuple[ImportedRun, ...]:
    """The runs of a table that `as_table` made.

    Raises:
        ResultsError: naming the column that is missing, or the line that is wrong.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), restval="")
    if missing := sorted(set(_COLUMNS) - _LATER_COLUMNS - set(rows.fieldnames or ())):
        raise ResultsError(f"{path}: has no column {', '.join(missing)}: not a table of this kvkit")
    runs: dict[Origin, list[Record]] = defaultdict(list)
    for row in rows:
        try:
            runs[_origin(row)].append(RECORD_FORMAT.validate_python(_values(row)))
        except ValidationError as error:
            raise ResultsError(f"{path}:{rows.line_num}: {problems(error)}") from error
        except ValueError as error:
            raise ResultsError(f"{path}:{rows.line_num}: {', '.join(_LISTS)}: is not JSON ({error})") from error
    started = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return tuple(
        ImportedRun(foreign_stats(path, origin, _summaries(records), started=started), tuple(records))
        for origin, records in runs.items()
    )


def _origin(row: Mapping[str, Any]) -> Origin:
    return Origin(**{column: row[column] for column in Origin._fields})


def _cells(record: Record) -> Iterator[Any]:
    for column, value in asdict(record).items():
        yield json.dumps(value) if column in _LISTS else value


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        column: json.loads(row[column]) if column in _LISTS else row[column] or None
        for column in _RECORD_COLUMNS
        if column in row
    }


def _summaries(records: Iterable[Record]) -> list[RoundSummary]:
    by_round: dict[int, Tally] = defaultdict(Tally)
    for record in records:
        by_round[record.round].add(record)
    return [
        summarise_round(
            tally,
            number=number,
            isolation=None,
            by_source=TokensBySource(),
            counters=Counters(),
            valid=None,
            invalid_reasons=[NO_SOURCES],
            max_failed_ratio=1,
        )
        for number, tally in sorted(by_round.items())
    ]
