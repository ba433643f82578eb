"""The rule by which a rise of TTFT fails a gate, passes it, or cannot be told.

With a limit L, a regression is called where the rise is over L and the whole interval above none. It passes where the
whole interval is within L, or where the rise is within L and the interval reaches no more than L beyond it. All else
cannot be told.

So a measurement that is precise enough fails in less than 2.5 of 100 cases where nothing changed, and passes in less
than 2.5 of 100 where TTFT rose by twice L: the limit is the line half way between what is to pass and what is to be
caught. A rise of just L falls on either side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, log, log1p
from typing import Literal

from kvkit.history.regression import MIN_RUNS, Change, Regression, RoundRegression
from kvkit.results.speedup import MIN_PAIRS

Outcome = Literal["regression", "invalid", "cannot_tell", "pass"]

_WORST_FIRST: tuple[Outcome, ...] = ("regression", "invalid", "cannot_tell", "pass")

_MOST_RUNS = 50
"""Of each side: with so many runs needed, a quieter machine is the better advice."""


@dataclass(frozen=True, slots=True)
class Judged:
    outcome: Outcome
    reason: str
    """Empty where the figures say it all."""


@dataclass(frozen=True, slots=True)
class Case:
    """One round of one scenario and mode, judged."""

    regression: Regression
    round: RoundRegression | None
    """`None`: there is none to judge."""
    judged: Judged

    @property
    def name(self) -> str:
        scope = f"{self.regression.scenario}, {self.regression.mode}"
        return scope if self.round is None else f"{scope}, round {self.round.number}"


@dataclass(frozen=True, slots=True)
class Gate:
    limit_percent: float
    cases: tuple[Case, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of the cases."""
        found = {case.judged.outcome for case in self.cases}
        return next(outcome for outcome in _WORST_FIRST if outcome in found)


def judge(found: Iterable[Regression], limit_percent: float) -> Gate:
    """Judge every round of every scenario by itself."""
    cases = [
        Case(regression, one, _judge(regression, one, limit_percent))
        for regression in found
        for one in regression.rounds or (None,)
    ]
    return Gate(limit_percent, tuple(cases))


def _judge(regression: Regression, one: RoundRegression | None, limit_percent: float) -> Judged:
    if regression.invalid:
        return Judged("invalid", "; ".join(regression.invalid))
    if regression.nothing_before is not None:
        return Judged("cannot_tell", regression.nothing_before)
    if one is None:
        return Judged("cannot_tell", "the run holds no round")
    if one.change is None:
        return Judged("cannot_tell", "on one side, no request has a time to first token that can be read")
    return judge_change(one.change, limit_percent)


def judge_change(change: Change, limit_percent: float) -> Judged:
    """The rule itself."""
    if change.interval is None or change.reach is None:
        least = min(change.now, change.before)
        return Judged("cannot_tell", f"{least} requests are too few for an interval: at least {MIN_PAIRS} are needed")
    limit = 1 + limit_percent / 100
    if change.ratio > limit and change.interval.low > 1:
        return Judged("regression", "")
    if change.interval.high <= limit or (change.ratio <= limit and change.reach <= log(limit)):
        return Judged("pass", "")
    return Judged("cannot_tell", _what_would_tell(change, change.reach, limit_percent))


def _what_would_tell(change: Change, reach: float, limit_percent: float) -> str:
    wide = f"the interval is wider than the limit of {limit_percent:g} % allows"
    if change.spread is None:
        times = ceil((reach / log1p(limit_percent / 100)) ** 2 * 10) / 10
        return (
            f"{wide}: {times:g} times as many requests (test.requests_per_scenario) would make it narrow enough, "
            f"or --against last:{MIN_RUNS - 1} and more once there are so many runs"
        )
    scatter = f"runs of the same thing lie {change.spread * 100:.1f} % apart (standard deviation)"
    wanted = runs_needed(change.spread, limit_percent)
    if wanted is None:
        return f"{wide}: {scatter}, too much for any number of runs: more requests a run, or a quieter machine"
    return f"{wide}: {scatter}: {wanted} runs on each side would tell, or more requests a run"


def runs_needed(spread: float, limit_percent: float) -> int | None:
    """Runs of each side with which the interval reaches no further than the limit; `None`: more than 50."""
    from kvkit.history.intervals import half_width  # noqa: PLC0415 - SciPy is slow to import

    tried = range(MIN_RUNS // 2 + 1, _MOST_RUNS + 1)
    return next((runs for runs in tried if half_width(spread, runs, runs) <= log1p(limit_percent / 100)), None)
