"""The noise floor: how far two measurements of the same thing lie apart (an A/A comparison)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from kvkit.results.record import Record
from kvkit.results.run import Run
from kvkit.results.speedup import MIN_PAIRS, Speedup
from kvkit.results.stats import RoundSummary

NO_TWO_COLD_ROUNDS = (
    "no baseline with two cold rounds: it takes two valid rounds before each of which the device cache was cleared "
    "(--isolation device)"
)


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Differences inside it are none."""

    aa: Speedup | None
    """Round 1 of the baseline over its round 2: the same prompts, computed both times. `None`: no such rounds."""

    @classmethod
    def of(cls, runs: Iterable[Run]) -> NoiseFloor:
        """Of the pairs of all runs together."""
        from kvkit.results.bootstrap import ttft_speedup  # noqa: PLC0415 - SciPy is slow to import and in an extra

        return cls(ttft_speedup([pair for run in runs for pair in aa_pairs(run)]))

    @property
    def factor(self) -> float | None:
        """How far the interval of the A/A comparison reaches from 1, as a factor of at least 1. `None`: unknown."""
        if self.aa is None or self.aa.interval is None:
            return None
        return max(self.aa.interval.high, 1 / self.aa.interval.low)

    @property
    def unknown(self) -> str | None:
        """Why it is unknown, when it is."""
        if self.factor is not None:
            return None
        if self.aa is None:
            return NO_TWO_COLD_ROUNDS
        return f"the baseline's cold rounds have {self.aa.pairs} pairs, at least {MIN_PAIRS} are needed"

    def covers(self, ratio: float) -> bool:
        """Whether a ratio is no further from 1 than the floor; False where the floor is unknown."""
        return self.factor is not None and 1 / self.factor <= ratio <= self.factor


def aa_pairs(run: Run) -> list[tuple[Record, Record]]:
    """The same requests in the first two cold rounds of a run; empty where it has no two.

    Its counters say what is cold: the round is valid, the device cache was cleared before it, and nothing came from a
    store. What the device served is then what the workload shares within a round, in both rounds alike.
    """
    cold = list(islice(_cold_rounds(run.stats.rounds), 2))
    if len(cold) < 2:
        return []
    first, second = ({r.request_id: r for r in run.records if r.round == number and r.ok} for number in cold)
    return [(record, second[request_id]) for request_id, record in first.items() if request_id in second]


def _cold_rounds(rounds: Iterable[RoundSummary]) -> Iterable[int]:
    return (
        summary.round
        for summary in rounds
        if summary.valid is True and summary.isolation != "none" and summary.tokens.by_source.external == 0
    )
