"""What one pass over the records of a round tells: each is looked at once, and none is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Self

from kvkit.results.record import Record
from kvkit.results.values import Values


class Tally:
    """Counts, sums and times of a round's requests. Times in milliseconds are of successful requests only.

    Args:
        folder: for what does not fit into memory.
        objectives: most milliseconds of a good request, by `ttft_ms`, `tpot_ms`, `e2e_ms`.
    """

    def __init__(self, folder: Path | None = None, objectives: Mapping[str, float] | None = None) -> None:
        self.objectives = dict(objectives or {})
        self.good = 0
        """Successful requests that met every objective; a time that a request does not have misses none."""
        self.total = 0
        self.failed_by_kind: Counter[str] = Counter()
        self.parts = 1
        """Of a round that was cut off and resumed; 1: it was not."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cached_tokens: int | None = None
        """Of those that told it, as below; `None` when none did."""
        self.expected_prompt_tokens: int | None = None
        self.ttft_ms = Values(folder)
        self.tpot_ms = Values(folder)
        self.itl_ms = Values(folder)
        self.e2e_ms = Values(folder)
        self.from_scheduled_ms = Values(folder)
        """First token minus scheduled."""
        self.schedule_lag_ms = Values(folder)
        """Of all requests: start minus scheduled minus the setting up of a connection."""
        self.events = 0
        """Token events of all requests."""
        self._all = _Span()
        self._succeeded = _Span()

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        tally = cls()
        for record in records:
            tally.add(record)
        return tally

    @property
    def failed(self) -> int:
        return self.failed_by_kind.total()

    @property
    def succeeded(self) -> int:
        return self.total - self.failed

    @property
    def duration_s(self) -> float | None:
        """First start to last token event of the successful requests; `None` where there is none."""
        return self._succeeded.seconds

    @property
    def busy_s(self) -> float | None:
        """The same of all requests."""
        return self._all.seconds

    def add(self, record: Record) -> None:
        self.total += 1
        self.parts = max(self.parts, record.part)
        self.schedule_lag_ms.add((record.start_s - (record.connect_s or 0.0) - record.scheduled_s) * 1000)
        self.events += 0 if record.ttft_s is None else len(record.itl_s) + 1
        self._all.add(record.start_s, record.start_s + (record.e2e_s or 0.0))
        if record.failure is not None:
            self.failed_by_kind[record.failure] += 1
        if record.ok:
            self._add_success(record)

    def _add_success(self, record: Record) -> None:
        self.prompt_tokens += record.prompt_tokens or 0
        self.completion_tokens += record.completion_tokens or 0
        self.cached_tokens = _plus(self.cached_tokens, record.cached_tokens)
        self.expected_prompt_tokens = _plus(self.expected_prompt_tokens, record.expected_prompt_tokens)
        self.itl_ms.extend(gap * 1000 for gap in record.itl_s)
        good = True
        for name, values, seconds in (
            ("ttft_ms", self.ttft_ms, record.ttft_s),
            ("tpot_ms", self.tpot_ms, record.tpot_s),
            ("e2e_ms", self.e2e_ms, record.e2e_s),
        ):
            if seconds is not None:
                values.add(seconds * 1000)
                good = good and seconds * 1000 <= self.objectives.get(name, inf)
        self.good += good
        if record.ttft_s is not None:
            self.from_scheduled_ms.add((record.start_s + record.ttft_s - record.scheduled_s) * 1000)
        if record.e2e_s is not None:
            self._succeeded.add(record.start_s, record.start_s + record.e2e_s)


class _Span:
    """From the first start to the last end."""

    def __init__(self) -> None:
        self._first, self._last = inf, -inf

    def add(self, start: float, end: float) -> None:
        self._first = min(self._first, start)
        self._last = max(self._last, end)

    @property
    def seconds(self) -> float | None:
        return self._last - self._first if self._last >= self._first else None


def _plus(sum_so_far: int | None, told: int | None) -> int | None:
    return sum_so_far if told is None else (sum_so_far or 0) + told
