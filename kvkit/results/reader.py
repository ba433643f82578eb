"""Read back what was kept. A file that is cut off, foreign or contradicts its neighbour is refused with the reason."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvkit.results.errors import ResultsError
from kvkit.results.record import Record
from kvkit.results.stats import RunStats

_SHOWN_PROBLEMS = 3


def expand(patterns: Sequence[str]) -> list[Path]:
    """The files that the patterns match, each once, in the order of the patterns.

    Raises:
        ResultsError: a pattern matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise ResultsError(f"{pattern}: no file matches (searched from {Path.cwd()})")
        found.update(dict.fromkeys(files))
    return list(found)


def read_stats(path: Path) -> RunStats:
    """Read one stats file.

    Raises:
        ResultsError: naming the file, and the line or the key that is wrong.
    """
    text = read_text(path)
    if not text.strip():
        raise ResultsError(f"{path}: empty: the run that made it did not finish")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultsError(
            f"{path}:{error.lineno}: no JSON document ({error.msg}, column {error.colno}): "
            "cut off, or not a stats file (theirs are named *_stats_*.json)"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
        raise ResultsError(f"{path}: JSON that no run wrote ({error}): not a stats file") from error
    _check_is_ours(path, data)
    try:
        return RunStats.model_validate(data)
    except ValidationError as error:
        raise ResultsError(f"{path}: {problems(error)}") from error


def read_records(stats_path: Path, stats: RunStats) -> tuple[Record, ...]:
    """Read the requests file that a stats file names, and hold it against the counts of the stats file.

    Raises:
        ResultsError: naming the file, and the line, the key or the round that is wrong.
    """
    if not stats.records.isprintable() or Path(stats.records).name != stats.records or not stats.records:
        raise ResultsError(
            f"{stats_path}: key records: found {stats.records!r}, expected the plain name of a file beside it"
        )
    path = stats_path.parent / stats.records
    records: dict[tuple[int, str], Record] = {}
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            record = Record.from_line(line)
        except ValidationError as error:
            raise ResultsError(f"{path}:{number}: {problems(error)}") from error
        if records.setdefault((record.round, record.request_id), record) is not record:
            raise ResultsError(
                f"{path}:{number}: request {record.request_id!r} was recorded before in round {record.round}"
            )
    _check_counts(path, stats_path, stats, Counter(number for number, _ in records))
    return tuple(records.values())


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: not text in UTF-8 (byte {error.start}): not a file of kvkit") from error


def _check_is_ours(path: Path, data: Any) -> None:
    if not isinstance(data, dict) or "schema" not in data:
        raise ResultsError(f"{path}: key schema is missing: not a stats file (theirs are named *_stats_*.json)")
    if data["schema"] != 1:
        raise ResultsError(
            f"{path}: key schema: found {_shorten(data['schema'])}, this kvkit reads 1: "
            "use the kvkit that wrote the file, or a newer one"
        )


def _check_counts(path: Path, stats_path: Path, stats: RunStats, found: Counter[int]) -> None:
    expected = Counter({summary.round: summary.requests.total for summary in stats.rounds})
    for number in sorted(expected | found):
        if expected[number] != found[number]:
            raise ResultsError(
                f"{path}: {found[number]} records of round {number}, but {stats_path.name} counted {expected[number]}: "
                "one of the two was changed or cut off"
            )


def problems(error: ValidationError) -> str:
    """The first problems of a file, each with its key, what was found and what is expected."""
    problems = []
    for problem in error.errors()[:_SHOWN_PROBLEMS]:
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "json_invalid":
            problems.append(f"no JSON ({problem['ctx']['error']}): cut off, or not a record")
        elif problem["type"] == "missing":
            problems.append(f"key {key} is missing")
        else:
            problems.append(f"key {key}: found {_shorten(problem['input'])}: {problem['msg']}")
    more = error.error_count() - len(problems)
    return "; ".join(problems) + (f"; and {more} more" if more else "")


def _shorten(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
