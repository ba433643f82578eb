"""What a run is held against: the last comparable run, the last few, or one that is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvkit.history.folder import History
from kvkit.history.past import PastRun
from kvkit.results.differences import since
from kvkit.results.errors import ResultsError

_LAST = re.compile(r"last(?::(\d{1,4}))?")


@dataclass(frozen=True, slots=True)
class Against:
    """Which earlier runs: so many of the last ones, or those of one run id."""

    last: int | None
    run_id: str | None

    @classmethod
    def parse(cls, text: str) -> Against:
        """Read `last`, `last:N` or the beginning of a run id.

        Raises:
            ResultsError: it is none of them.
        """
        if match := _LAST.fullmatch(text):
            last = int(match[1] or 1)
            if last:
                return cls(last, None)
        elif re.fullmatch(r"[0-9a-f]{4,}", text):
            return cls(None, text)
        raise ResultsError(
            f"--against: found {text!r}, allowed are last, last:N (the last N runs) and a run id or its first "
            "characters, at least 4 (kvkit history lists them)"
        )


class NothingBeforeError(Exception):
    """No earlier run can stand for how it was; the message says why, and what to do."""


def runs_before(now: Sequence[PastRun], against: Against, history: History) -> tuple[PastRun, ...]:
    """The earlier runs that runs of one series are held against, oldest first.

    Of the last ones, only runs of the same series count that are not INVALID.

    Raises:
        NothingBeforeError: there is no such run.
        ResultsError: the run that is named is not there, or not comparable.
    """
    given = {run.identity for run in now}
    earlier = [
        run
        for run in history.runs
        if run.identity not in given
        and (run.scenario, run.mode) == (now[0].scenario, now[0].mode)
        and run.started < min(one.started for one in now)
    ]
    if against.run_id is not None:
        return _named(now, against.run_id, history)
    usable = [run for run in earlier if run.series == now[0].series and run.valid is not False]
    if not usable:
        raise NothingBeforeError(_why_none(now[0], earlier, history))
    assert against.last is not None
    return tuple(usable[-against.last :])


def _named(now: Sequence[PastRun], run_id: str, history: History) -> tuple[PastRun, ...]:
    matching = [run for run in history.runs if run.run_id.startswith(run_id)]
    if len(ids := sorted({run.run_id for run in matching})) > 1:
        raise ResultsError(f"--against {run_id}: is the beginning of {', '.join(ids)}: give more of it")
    if not ids:
        raise ResultsError(
            f"--against {run_id}: no run in {history.results_dir} has this id (kvkit history lists them)"
        )
    given = {run.identity for run in now}
    same = [run for run in matching if (run.scenario, run.mode) == (now[0].scenario, now[0].mode)]
    if not same:
        held = ", ".join(sorted({f"{run.scenario} {run.mode}" for run in matching}))
        raise NothingBeforeError(
            f"run {ids[0]} holds no {now[0].scenario} in the mode {now[0].mode}, but {held}: two modes are compared "
            "with --with-cache-stats and --baseline-stats"
        )
    if any(run.identity in given for run in same):
        raise ResultsError(f"--against {run_id}: is the run that is to be held against it")
    if other := differing(now[0], same[-1], but=("connector",)):
        raise NothingBeforeError(f"run {ids[0]} measured something else: {'; '.join(other)}")
    return tuple(same)


def differing(now: PastRun, before: PastRun, *, but: Iterable[str] = ()) -> list[str]:
    """What makes two runs not comparable, each as one line."""
    new, old = (
        {name: value for name, value in json.loads(run.conditions).items() if name not in but} for run in (now, before)
    )
    return list(since(new, old))


def _why_none(now: PastRun, earlier: Sequence[PastRun], history: History) -> str:
    if not earlier:
        return (
            f"{history.results_dir} holds no earlier run of it in the mode {now.mode}: "
            "the next run can be held against this one"
        )
    newest = earlier[-1]
    if other := differing(now, newest):
        return (
            f"no earlier run is comparable; the newest ({newest.run_id}) had {'; '.join(other)}: "
            "measure once more as it is now, so that there is something to be held against"
        )
    return f"all earlier runs of it are INVALID, the newest ({newest.run_id}) because of: " + "; ".join(
        newest.invalid_reasons[:1]
    )
