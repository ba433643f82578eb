"""What is kept on disk: a requests file that grows with the run, a stats file at its end. Nothing is overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import BinaryIO

from kvkit.results.errors import ResultsError
from kvkit.results.record import Record
from kvkit.results.stats import Mode, RunStats


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The two files of one scenario in one mode, open for writing."""

    requests_path: Path
    stats_path: Path
    _stream: BinaryIO

    def add(self, record: Record) -> None:
        """Append one record. The operating system has the whole line before this returns."""
        self._stream.write(record.to_line().encode(errors="replace") + b"\n")
        self._stream.flush()

    @property
    def size(self) -> int:
        """Bytes that the requests file holds now."""
        return self._stream.tell()

    def since(self, size: int) -> Iterator[Record]:
        """Read back the records that were added after the file had this size, one at a time."""
        with self.requests_path.open("rb") as lines:
            lines.seek(size)
            for line in lines:
                yield Record.from_line(line.decode())

    def sync(self) -> None:
        """Return when the records are on the disk itself, so that they outlive the machine."""
        os.fsync(self._stream.fileno())

    def write_stats(self, stats: RunStats) -> Path:
        """Write the stats file; a reader sees all of it or nothing.

        Raises:
            ResultsError: the file exists, or the disk refused it.
        """
        temporary = self.stats_path.with_name(f".{self.stats_path.name}.tmp")
        try:
            with temporary.open("x", encoding="utf-8", errors="replace") as stream:
                stream.write(stats.to_json())
                stream.flush()
                os.fsync(stream.fileno())
            # An exclusive create proves that nothing is there to overwrite, on every file system;
            # the rename then puts the whole content in its place at once.
            self.stats_path.open("xb").close()
            temporary.replace(self.stats_path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ResultsError(f"{self.stats_path}: cannot write the summary: {error.strerror}") from error
        return self.stats_path


@contextmanager
def open_run(results_dir: Path, mode: Mode, scenario: str, started: datetime) -> Iterator[RunFiles]:
    """Create the requests file of one scenario in one mode, and name the stats file that will stand beside it.

    Names are `<with_cache|baseline>_<scenario>_{requests_<time>.jsonl,stats_<time>.json}` with the time in
    UTC as `YYYYmmdd_HHMMSS`; where one of the two is taken, both get a number after the time.

    Raises:
        ResultsError: the directory or the file cannot be made.
    """
    prefix = f"{mode.replace('-', '_')}_{scenario}"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        requests_path, stream = _create(results_dir, prefix, f"{started.astimezone(UTC):%Y%m%d_%H%M%S}")
    except OSError as error:
        raise ResultsError(f"{results_dir}: cannot keep results here: {error.strerror}") from error
    with stream:
        yield RunFiles(requests_path, stats_path_of(requests_path), stream)


@contextmanager
def reopen_run(requests_path: Path) -> Iterator[RunFiles]:
    """Go on with the requests file of a scenario that was cut off.

    Raises:
        ResultsError: the file cannot be written.
    """
    try:
        stream = requests_path.open("ab")
    except OSError as error:
        raise ResultsError(f"{requests_path}: cannot go on with it: {error.strerror}") from error
    with stream:
        yield RunFiles(requests_path, stats_path_of(requests_path), stream)


def stats_path_of(requests_path: Path) -> Path:
    """The stats file that belongs to a requests file."""
    prefix, _, suffix = requests_path.stem.rpartition("_requests_")
    return requests_path.with_name(f"{prefix}_stats_{suffix}.json")


def _create(results_dir: Path, prefix: str, time: str) -> tuple[Path, BinaryIO]:
    for number in count(1):
        requests_path = results_dir / f"{prefix}_requests_{time if number == 1 else f'{time}_{number}'}.jsonl"
        if stats_path_of(requests_path).exists():
            continue
        try:
            return requests_path, requests_path.open("xb")
        except FileExistsError:
            continue
    raise AssertionError("unreachable: count() does not end")
