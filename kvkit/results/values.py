"""Many numbers, of which mean, spread and exact percentiles are wanted: in a few megabytes, however many they are."""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import fsum, sqrt
from pathlib import Path
from typing import IO

from kvkit.results.distribution import Distribution, percentile

IN_MEMORY = 1 << 16
"""Values that are kept in memory: 512 KiB. What comes beyond goes to a file in sorted runs of this length."""


class Values:
    """Numbers that can be added, and described at the end.

    Args:
        folder: where the file lies that holds what memory does not. It has no name and vanishes with the process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._last = array("d")
        self._file: IO[bytes] | None = None
        self._spread = _Spread()
        """Of what is in the file."""

    def __len__(self) -> int:
        return self._spread.count + len(self._last)

    def add(self, value: float) -> None:
        self._last.append(value)
        if len(self._last) >= IN_MEMORY:
            self._spill()

    def extend(self, values: Iterable[float]) -> None:
        for value in values:
            self.add(value)

    def percentile(self, percent: float) -> float:
        """As `distribution.percentile`, exactly.

        Raises:
            IndexError: there is no value.
        """
        return percentile(self._sorted(), percent)

    def distribution(self) -> Distribution:
        if self._file is None:
            return Distribution.of(self._last)
        ordered, spread = self._sorted(), self._spread.with_more(self._last)
        return Distribution(
            mean=spread.mean,
            std=sqrt(spread.squares / spread.count),
            p50=percentile(ordered, 50),
            p90=percentile(ordered, 90),
            p95=percentile(ordered, 95),
            p99=percentile(ordered, 99),
        )

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - it lives as long as the values
        array("d", sorted(self._last)).tofile(self._file)
        self._spread = self._spread.with_more(self._last)
        self._last = array("d")

    def _sorted(self) -> _SortedRuns:
        runs: list[Sequence[float]] = [sorted(self._last)] if self._last else []
        if self._file is not None:
            self._file.flush()
            runs += [
                _RunInFile(self._file.fileno(), begin, IN_MEMORY) for begin in range(0, self._spread.count, IN_MEMORY)
            ]
        return _SortedRuns(runs)


class _Spread:
    """Count, mean and sum of squared deviations of values that come in batches.

    Batches are joined by the formulas of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances" (1979), (2.1).
    """

    def __init__(self, count: int = 0, mean: float = 0.0, squares: float = 0.0) -> None:
        self.count, self.mean, self.squares = count, mean, squares

    def with_more(self, batch: Sequence[float]) -> _Spread:
        if not batch:
            return self
        mean = fsum(batch) / len(batch)
        squares = fsum((value - mean) ** 2 for value in batch)
        count, apart = self.count + len(batch), mean - self.mean
        return _Spread(
            count,
            self.mean + apart * len(batch) / count,
            self.squares + squares + apart * apart * self.count * len(batch) / count,
        )


class _RunInFile(Sequence[float]):
    """Values in a file; each is read when it is asked for. A map of the file would count as this process's memory."""

    def __init__(self, file: int, begin: int, length: int) -> None:
        self._file, self._begin, self._length = file, begin, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> float:  # type: ignore[override]
        value: float = struct.unpack("d", os.pread(self._file, 8, (self._begin + position % self._length) * 8))[0]
        return value


class _SortedRuns(Sequence[float]):
    """Sorted runs, seen as one sorted sequence: the value at a position is found by bisecting all runs at once."""

    def __init__(self, runs: Sequence[Sequence[float]]) -> None:
        self._runs = runs

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def __getitem__(self, position: int) -> float:  # type: ignore[override]
        if not 0 <= position < len(self):
            raise IndexError(position)
        low = min(_as_whole_number(run[0]) for run in self._runs)
        high = max(_as_whole_number(run[-1]) for run in self._runs)
        while low < high:
            middle = (low + high) // 2
            value = _as_float(middle)
            if sum(bisect_right(run, value) for run in self._runs) > position:
                high = middle
            else:
                low = middle + 1
        return _as_float(low)


def _as_whole_number(value: float) -> int:
    """Floats in their order, numbered one by one: a positive one's bits are its number, a negative one's count down."""
    bits: int = struct.unpack("<q", struct.pack("<d", value + 0.0))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


def _as_float(number: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<q", abs(number)))[0]
    return value if number >= 0 else -value
