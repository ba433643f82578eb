"""A round while it runs: its figures so far, defined as those of its summary."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from kvkit.results.distribution import percentile
from kvkit.results.record import Record


@dataclass(frozen=True, slots=True)
class RunningFigures:
    """Over the requests that have ended. `None`: none of them told it."""

    ended: int
    total: int
    failed: int
    ttft_mean_ms: float | None
    ttft_p95_ms: float | None
    requests_per_s: float | None
    """Successful requests over the time from the first start to the last token."""
    prompt_tokens: int
    """Of the successful requests that told how many were cached."""
    cached_tokens: int | None
    """Device and external together, as the answers tell; which is which is known when the round's counters are."""

    @property
    def cached_ratio(self) -> float | None:
        return (
            self.cached_tokens / self.prompt_tokens if self.cached_tokens is not None and self.prompt_tokens else None
        )

    def left_s(self, elapsed_s: float) -> float | None:
        """Seconds to the round's end if the other requests end as fast as those so far; `None` before the first."""
        return elapsed_s * (self.total - self.ended) / self.ended if self.ended else None


class RunningRound:
    """Takes the records of one round as they come; each costs microseconds, whatever came before."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = 0
        self._succeeded = 0
        self._ttft_s: list[float] = []
        """Sorted."""
        self._ttft_sum_s = 0.0
        self._first_start_s = float("inf")
        self._last_token_s = 0.0
        self._prompt_tokens = 0
        self._cached_tokens: int | None = None

    def add(self, record: Record) -> None:
        self._ended += 1
        if not record.ok:
            return
        self._succeeded += 1
        if record.ttft_s is not None:
            insort(self._ttft_s, record.ttft_s)
            self._ttft_sum_s += record.ttft_s
        self._first_start_s = min(self._first_start_s, record.start_s)
        self._last_token_s = max(self._last_token_s, record.start_s + (record.e2e_s or 0.0))
        if record.cached_tokens is not None:
            self._cached_tokens = (self._cached_tokens or 0) + record.cached_tokens
            self._prompt_tokens += record.prompt_tokens or 0

    def figures(self) -> RunningFigures:
        timed = len(self._ttft_s)
        lasted_s = self._last_token_s - self._first_start_s if self._succeeded else 0.0
        return RunningFigures(
            ended=self._ended,
            total=self._total,
            failed=self._ended - self._succeeded,
            ttft_mean_ms=self._ttft_sum_s / timed * 1000 if timed else None,
            ttft_p95_ms=percentile(self._ttft_s, 95) * 1000 if timed else None,
            requests_per_s=self._succeeded / lasted_s if lasted_s > 0 else None,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
        )
