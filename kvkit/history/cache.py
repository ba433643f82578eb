"""What was read of a results folder, kept in SQLite beside the results. The files stay the truth: it can be deleted.

Tables `files`, `runs` and `rounds`, by the file's name in the folder; times in UTC, milliseconds, unknown is NULL.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from kvkit.history.past import PastRound, PastRun
from kvkit.results.speedup import Interval

NAME = "history.sqlite"

_APPLICATION_ID = 0x6B766869
"""Tells a file of ours from another program's: "kvhi"."""

_VERSION = 1
"""Of the tables. Another one is made anew."""

_WAIT_S = 5.0
"""For another `kvkit history` that writes."""

_TABLES = """
CREATE TABLE files (file TEXT PRIMARY KEY, signature TEXT NOT NULL, records_signature TEXT, reason TEXT);
CREATE TABLE runs (
    file TEXT PRIMARY KEY REFERENCES files ON DELETE CASCADE, run_id TEXT NOT NULL, mode TEXT NOT NULL,
    scenario TEXT NOT NULL, started TEXT NOT NULL, valid INTEGER, invalid_reasons TEXT NOT NULL, model TEXT,
    engine_version TEXT, connector TEXT, kvkit_version TEXT NOT NULL, host TEXT NOT NULL, fingerprint TEXT NOT NULL,
    conditions TEXT NOT NULL, records TEXT NOT NULL, records_problem TEXT
);
CREATE TABLE rounds (
    file TEXT NOT NULL REFERENCES files ON DELETE CASCADE, number INTEGER NOT NULL, name TEXT NOT NULL, valid INTEGER,
    succeeded INTEGER NOT NULL, ttft_ms REAL, ttft_low_ms REAL, ttft_high_ms REAL, tpot_ms REAL, requests_per_s REAL,
    hit_ratio REAL
);
CREATE INDEX rounds_of_file ON rounds (file);
"""


class Entry(NamedTuple):
    """What was made of one JSON file: a run, or the reason why it is none."""

    signature: str
    records_signature: str | None
    """Of the requests file that belongs to it."""
    run: PastRun | None
    reason: str | None


class CacheError(Exception):
    """The cache cannot be used; the message says why."""


class Cache:
    """The file, for one reading of the folder: others wait until it is closed."""

    def __init__(self, path: Path, notice: str | None = None) -> None:
        self._connection = _connect(path)
        try:
            self.entries = _entries(self._connection)
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            self.close()
            raise _DamagedError(f"damaged ({error})") from error
        self.notice = notice
        """What a person should know of it, where there is something."""

    @classmethod
    def open(cls, results_dir: Path) -> Cache:
        """Open it; make it where it is missing, damaged or of another version.

        Raises:
            CacheError: it belongs to another program, or the file system or another process does not let it be used.
        """
        path = results_dir / NAME
        try:
            return cls(path)
        except _DamagedError as damage:
            aside = path.with_name(f"{NAME}.damaged")
            try:
                path.replace(aside)
                return cls(path, f"{path}: {damage}: made anew from the results; the old one is {aside.name}")
            except OSError as error:
                raise CacheError(f"{path}: {damage}, and cannot be replaced: {error.strerror}") from error
            except _DamagedError as again:
                raise CacheError(f"{path}: {again}") from again

    def keep(self, read: Mapping[str, Entry], gone: Collection[str]) -> None:
        """Take in what was read anew, and forget what is gone; all of it or nothing.

        Raises:
            CacheError: it cannot be written.
        """
        try:
            self._connection.executemany("DELETE FROM files WHERE file = ?", [(file,) for file in [*gone, *read]])
            for file, entry in read.items():
                self._connection.execute(
                    "INSERT INTO files VALUES (?, ?, ?, ?)",
                    (file, entry.signature, entry.records_signature, entry.reason),
                )
                if entry.run is not None:
                    self._add(file, entry.run)
            self._connection.commit()
        except sqlite3.Error as error:
            raise CacheError(f"{NAME}: cannot be written ({error})") from error

    def close(self) -> None:
        self._connection.close()

    def _add(self, file: str, run: PastRun) -> None:
        values = (
            file, run.run_id, run.mode, run.scenario, run.started.isoformat(), run.valid,
            json.dumps(run.invalid_reasons), run.model, run.engine_version, run.connector, run.kvkit_version, run.host,
            run.fingerprint, run.conditions, run.records, run.records_problem,
        )  # fmt: skip
        self._connection.execute(f"INSERT INTO runs VALUES ({_marks(values)})", values)  # noqa: S608 - question marks
        for one in run.rounds:
            low, high = (one.ttft_interval.low, one.ttft_interval.high) if one.ttft_interval else (None, None)
            row = (
                file, one.number, one.name, one.valid, one.succeeded, one.ttft_ms, low, high, one.tpot_ms,
                one.requests_per_s, one.hit_ratio,
            )  # fmt: skip
            self._connection.execute(f"INSERT INTO rounds VALUES ({_marks(row)})", row)  # noqa: S608 - question marks


class _DamagedError(Exception):
    """The file is no database, or not one of this version."""


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that holds the lock for writing, to a database with our tables.

    Raises:
        CacheError: as `Cache.open`.
        _DamagedError: the file is to be made anew.
    """
    try:
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    except sqlite3.Error as error:
        raise CacheError(f"{path}: cannot be opened ({error})") from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        _prepare(path, connection)
    except sqlite3.OperationalError as error:
        connection.close()
        raise CacheError(f"{path}: cannot be used ({error})") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _DamagedError(f"damaged ({error})") from error
    except (CacheError, _DamagedError):
        connection.close()
        raise
    return connection


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION_ID and tables:
        raise CacheError(f"{path}: is another program's database, which is left alone")
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise _DamagedError(f"damaged ({state})")
    if tables and version != _VERSION:
        raise _DamagedError(f"has tables of version {version}, this kvkit makes {_VERSION}")
    if not tables:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _entries(connection: sqlite3.Connection) -> dict[str, Entry]:
    """What is known, by file."""
    rounds: dict[str, list[PastRound]] = defaultdict(list)
    for file, *values in connection.execute("SELECT * FROM rounds ORDER BY rowid"):
        rounds[file].append(_round(values))
    runs = {row["file"]: _run(row, tuple(rounds[row["file"]])) for row in connection.execute("SELECT * FROM runs")}
    return {
        file: Entry(signature, records_signature, runs.get(file), reason)
        for file, signature, records_signature, reason in connection.execute("SELECT * FROM files")
    }


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)


def _run(row: sqlite3.Row, rounds: tuple[PastRound, ...]) -> PastRun:
    kept = dict(row)
    return PastRun(
        path=Path(kept.pop("file")),
        started=datetime.fromisoformat(kept.pop("started")),
        valid=_truth(kept.pop("valid")),
        invalid_reasons=tuple(json.loads(kept.pop("invalid_reasons"))),
        rounds=rounds,
        **kept,
    )


def _round(values: Iterable[Any]) -> PastRound:
    number, name, valid, succeeded, ttft_ms, low, high, tpot_ms, requests_per_s, hit_ratio = values
    return PastRound(
        number=number,
        name=name,
        valid=_truth(valid),
        succeeded=succeeded,
        ttft_ms=ttft_ms,
        ttft_interval=None if low is None else Interval(low, high),
        tpot_ms=tpot_ms,
        requests_per_s=requests_per_s,
        hit_ratio=hit_ratio,
    )


def _truth(value: int | None) -> bool | None:
    return None if value is None else bool(value)
