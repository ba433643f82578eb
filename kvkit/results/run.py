"""A run as it was kept: its summary and the records behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvkit.results.reader import read_records
from kvkit.results.record import Record
from kvkit.results.stats import RunStats


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario in one mode, read back from its files."""

    path: Path
    """The stats file."""
    stats: RunStats
    records: tuple[Record, ...]

    @classmethod
    def read(cls, path: Path, stats: RunStats, imported: tuple[Record, ...] | None) -> Run:
        """Read the records that belong to a stats file, where they did not come with it.

        Raises:
            ResultsError: naming the requests file, and the line, the key or the round that is wrong.
        """
        return cls(path, stats, read_records(path, stats) if imported is None else imported)

    def words_of_failures(self) -> dict[str, str]:
        """For each kind of failure that said something, what the first one said."""
        words: dict[str, str] = {}
        for record in self.records:
            if record.failure is not None and record.error:
                words.setdefault(record.failure, record.error)
        return words
