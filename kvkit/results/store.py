"""What is kept on disk: a requests file that grows with the run, a stats file at its end. Nothing is overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TextIO

from kvkit.results.errors import ResultsError
from kvkit.results.record import Record
from kvkit.results.stats import Mode, RunStats


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The two files of one scenario in one mode, open for writing."""

    requests_path: Path
    stats_path: Path
    _stream: TextIO

    def add(self, record: Record) -> None:
        """Append one record. The operating system has the whole line before this returns."""
        self._stream.write(record.to_line() + "\n")
        self._stream.flush()

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
        requests_path, stats_path, stream = _create(results_dir, prefix, f"{started.astimezone(UTC):%Y%m%d_%H%M%S}")
    except OSError as error:
        raise ResultsError(f"{results_dir}: cannot keep results here: {error.strerror}") from error
    with stream:
        yield RunFiles(requests_path, stats_path, stream)


def _create(results_dir: Path, prefix: str, time: str) -> tuple[Path, Path, TextIO]:
    for number in count(1):
        suffix = time if number == 1 else f"{time}_{number}"
        requests_path = results_dir / f"{prefix}_requests_{suffix}.jsonl"
        stats_path = results_dir / f"{prefix}_stats_{suffix}.json"
        if stats_path.exists():
            continue
        try:
            return requests_path, stats_path, requests_path.open("x", encoding="utf-8", errors="replace")
        except FileExistsError:
            continue
    raise AssertionError("unreachable: count() does not end")
