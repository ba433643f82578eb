"""Runs against earlier runs of the same mode: what changed, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log
from pathlib import Path
from statistics import median
from typing import Literal

from kvkit.history.against import Against, NothingBeforeError, runs_before
from kvkit.history.folder import History, read_history
from kvkit.history.past import PastRound, PastRun, read_past_run
from kvkit.results.differences import changed_settings
from kvkit.results.errors import ResultsError
from kvkit.results.reader import expand, read_records, read_stats
from kvkit.results.record import Record
from kvkit.results.speedup import Interval
from kvkit.results.stats import Mode, RoundName

MIN_RUNS = 5
"""Of both sides together: with fewer, how far runs of the same thing lie apart is hardly known, and an interval between
runs is many times as wide as that (3 degrees of freedom: 3.2 standard errors, 1 degree: 12.7)."""

Basis = Literal["runs", "pairs", "requests"]
"""What the interval is made of. `runs`: each run is one observation. `pairs`: the same prompts in both of two runs.
`requests`: prompts of another seed, so that only the two sets of times can be compared. The last two do not hold how
far two runs of the same thing lie apart."""


@dataclass(frozen=True, slots=True)
class Change:
    """The median TTFT now over the one before. Dimensionless; above 1 it is slower now."""

    ratio: float
    interval: Interval | None
    """95 %. `None`: too few requests."""
    basis: Basis
    now: int
    """Runs, pairs or requests behind it, as the basis says."""
    before: int
    spread: float | None
    """Between runs of the same side, as a standard deviation of logarithms; `None` on another basis."""

    @property
    def rise_percent(self) -> float:
        return (self.ratio - 1) * 100

    @property
    def reach(self) -> float | None:
        """How far the interval reaches from the ratio, as a difference of logarithms; on its wider side."""
        if self.interval is None:
            return None
        return max(log(self.interval.high / self.ratio), log(self.ratio / self.interval.low))


@dataclass(frozen=True, slots=True)
class RoundRegression:
    """One round now and before. Times are medians over the runs of each side; `None`: no run tells."""

    number: int
    name: RoundName
    ttft_ms: tuple[float | None, float | None]
    """Now, before; as below."""
    tpot_ms: tuple[float | None, float | None]
    requests_per_s: tuple[float | None, float | None]
    change: Change | None
    """`None`: no request has a time to first token on one side, or a run is INVALID: then a difference is none."""


@dataclass(frozen=True, slots=True)
class Regression:
    """One scenario in one mode. `before` is empty where there is nothing to be held against."""

    now: tuple[PastRun, ...]
    before: tuple[PastRun, ...]
    nothing_before: str | None
    """Why there is nothing, and what to do."""
    rounds: tuple[RoundRegression, ...]
    """Those of the newest run."""
    settings: tuple[str, ...]
    """What is not as it was: configuration, versions, engine flags, of the newest run of each side."""
    invalid: tuple[str, ...]
    """Why nothing that differs can be told: a run is INVALID."""

    @property
    def scenario(self) -> str:
        return self.now[0].scenario

    @property
    def mode(self) -> Mode:
        return self.now[0].mode


def regressions(patterns: Sequence[str] | None, against: Against, results_dir: Path) -> tuple[Regression, ...]:
    """Hold runs against earlier ones, those of one scenario, mode and workload together.

    Args:
        patterns: stats files, or globs of them. `None`: the newest run, or the newest cycle, of the results folder.
        against: which runs of the results folder stand for how it was.
        results_dir: the folder with the history.

    Raises:
        ResultsError: a file cannot be read, the run that is named is not there, there is no run at all, or SciPy is not
            installed.
    """
    history = read_history(results_dir)
    given = _newest(history) if patterns is None else [read_past_run(path) for path in expand(patterns)]
    by_series: dict[tuple[str, str, str], dict[tuple[object, ...], PastRun]] = {}
    for run in sorted(given, key=lambda run: run.started):
        by_series.setdefault(run.series, {})[run.identity] = run
    return tuple(_hold(tuple(runs.values()), against, history) for runs in by_series.values())


def _newest(history: History) -> list[PastRun]:
    """The newest run with all its scenarios; where it lies in a folder of its own, as a cycle's, all runs of it."""
    if not history.runs:
        raise ResultsError(
            f"{history.results_dir}: holds no run that can be read "
            f"(files that cannot: {len(history.not_read)}; kvkit history names them)"
        )
    newest = history.runs[-1]
    if newest.path.parent == history.results_dir:
        return [run for run in history.runs if run.run_id == newest.run_id]
    return [run for run in history.runs if run.path.parent == newest.path.parent]


def _hold(now: tuple[PastRun, ...], against: Against, history: History) -> Regression:
    try:
        before, nothing = runs_before(now, against, history), None
    except NothingBeforeError as error:
        before, nothing = (), str(error)
    invalid = tuple(
        f"{run.run_id}: {reason}"
        for run in (*now, *before)
        if run.valid is False
        for reason in run.invalid_reasons or ("no reason was given",)
    )
    new, old = _Side(now), _Side(before)
    return Regression(
        now=now,
        before=before,
        nothing_before=nothing,
        rounds=tuple(_hold_round(one.number, new, old, valid=not invalid) for one in now[-1].rounds),
        settings=changed_settings(read_stats(now[-1].path), read_stats(before[-1].path)) if before else (),
        invalid=invalid,
    )


class _Side:
    """The runs of one side, with their records read once and only where they are needed."""

    def __init__(self, runs: Sequence[PastRun]) -> None:
        self.runs = runs

    def rounds(self, number: int) -> list[PastRound]:
        return [one for run in self.runs if (one := run.round(number)) is not None]

    def medians(self, number: int) -> list[float]:
        return [one.ttft_ms for one in self.rounds(number) if one.ttft_ms]

    def requests(self, number: int) -> list[Record]:
        return [record for record in self._records if record.round == number and record.ok and record.ttft_s]

    @cached_property
    def _records(self) -> list[Record]:
        """Of the runs whose records can be read."""
        readable = [run.path for run in self.runs if run.records_problem is None]
        return [record for path in readable for record in read_records(path, read_stats(path))]


def _hold_round(number: int, now: _Side, before: _Side, *, valid: bool) -> RoundRegression:
    new, old = now.rounds(number), before.rounds(number)
    return RoundRegression(
        number=number,
        name=new[-1].name,
        ttft_ms=(_median(one.ttft_ms for one in new), _median(one.ttft_ms for one in old)),
        tpot_ms=(_median(one.tpot_ms for one in new), _median(one.tpot_ms for one in old)),
        requests_per_s=(_median(one.requests_per_s for one in new), _median(one.requests_per_s for one in old)),
        change=_change(number, now, before) if valid else None,
    )


def _change(number: int, now: _Side, before: _Side) -> Change | None:
    new, old = now.medians(number), before.medians(number)
    if not new or not old:
        return None
    if len(new) + len(old) >= MIN_RUNS:
        return _between_runs(new, old)
    fingerprints = {run.fingerprint for run in (*now.runs, *before.runs)}
    if len(now.runs) == len(before.runs) == len(fingerprints) == 1:
        return _between_pairs(now.requests(number), before.requests(number))
    return _between_requests(now.requests(number), before.requests(number))


def _between_runs(new: Sequence[float], old: Sequence[float]) -> Change:
    from kvkit.history.intervals import ratio_between_runs, spread  # noqa: PLC0415 - SciPy is slow to import

    ratio, interval = ratio_between_runs(new, old)
    return Change(ratio, interval, "runs", len(new), len(old), spread(new, old))


def _between_pairs(now: Sequence[Record], before: Sequence[Record]) -> Change | None:
    from kvkit.results.bootstrap import ttft_speedup  # noqa: PLC0415 - numpy, slow to import

    old = {record.request_id: record for record in before}
    # A speed-up is its first side over its second.
    found = ttft_speedup([(record, old[record.request_id]) for record in now if record.request_id in old])
    return Change(found.ratio, found.interval, "pairs", found.pairs, found.pairs, None) if found else None


def _between_requests(now: Sequence[Record], before: Sequence[Record]) -> Change | None:
    from kvkit.history.intervals import ratio_of_independent_medians  # noqa: PLC0415 - numpy, slow to import

    new, old = ([record.ttft_s for record in side if record.ttft_s] for side in (now, before))
    if not new or not old:
        return None
    return Change(*ratio_of_independent_medians(new, old), "requests", len(new), len(old), None)


def _median(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return median(told) if told else None
