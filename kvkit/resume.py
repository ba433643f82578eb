"""Going on with a run that was cut off: what is there, and what is left to send.

Every request that had ended is in the requests file and stays. A round that had ended has its summary. Of a round that
was cut in its middle the rest is sent as a further part, and what only the whole round could have told is unknown.
"""

from __future__ import annotations

import platform
import secrets
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from kvkit import __version__
from kvkit.config import Config, Isolation
from kvkit.load.share import Share
from kvkit.results.errors import ResultsError
from kvkit.results.reader import problems
from kvkit.results.record import Record
from kvkit.results.stats import Engine, Mode, Provenance
from kvkit.results.unfinished import Journal, RunState, ScenarioState, unfinished_runs
from kvkit.workload import Workload

_OF_ENGINE = ("version", "model", "connector", "flags")


class ResumeError(Exception):
    """There is nothing to go on with, or it is not the same run. The message is complete: print it as it is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a requests file holds of the round that was cut off, or would come next."""

    begins: int = 0
    """Bytes before the round's first record."""
    requests: frozenset[str] = frozenset()
    """Those that have ended."""
    parts: int = 0
    """The parts in which they were sent."""

    def rest_of(self, share: Share) -> Share:
        """What is left of a round: each request starts as if those before it had just ended."""
        left = [position for position, each in enumerate(share.requests) if each.request_id not in self.requests]
        starts = share.starts and [share.starts[position] for position in left]
        return replace(
            share,
            requests=[
                replace(request, after=None, think_time_s=0.0) if request.after in self.requests else request
                for request in (share.requests[position] for position in left)
            ],
            starts=starts and [start - min(starts) for start in starts],
        )


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run as it is asked for, before anything is sent."""

    config: Config
    mode: Mode
    isolation: Isolation
    engine: Engine
    workloads: Sequence[Workload]


def begin(run: NewRun, results_dir: Path) -> Journal:
    """Begin the file that says how far the run has come.

    Raises:
        ResultsError: it can't be written.
    """
    return Journal.create(
        results_dir,
        RunState(
            schema=1,
            run_id=secrets.token_hex(8),
            mode=run.mode,
            isolation=run.isolation,
            provenance=Provenance(
                kvkit_version=__version__,
                python=platform.python_version(),
                host=socket.gethostname(),
                started=datetime.now(UTC),
                seed=run.config.test.seed,
                engine=run.engine,
            ),
            config=run.config.redacted(),
            scenarios=tuple(
                ScenarioState(scenario=each.scenario, fingerprint=each.fingerprint) for each in run.workloads
            ),
        ),
    )


def go_on(run: NewRun, results_dir: Path) -> Journal:
    """Take over the newest run of this mode that was cut off.

    Raises:
        ResumeError: there is none, it sends other requests, or the rest would not be measured as its beginning was.
        ResultsError: its file is not whole, or the run still goes on.
    """
    paths = unfinished_runs(results_dir, run.mode)
    if not paths:
        raise ResumeError(f"{results_dir}: no run of mode {run.mode} was cut off here: run without --resume")
    journal = Journal.reopen(paths[-1])
    try:
        _check_same_requests(journal, run)
        _check_same_conditions(journal, run)
        journal.resumed(datetime.now(UTC))
    except BaseException:
        journal.close(finished=False)
        raise
    return journal


def _check_same_requests(journal: Journal, run: NewRun) -> None:
    state = journal.state
    if [(each.scenario, each.fingerprint) for each in run.workloads] != [
        (each.scenario, each.fingerprint) for each in state.scenarios
    ]:
        raise ResumeError(
            f"{journal.path}: that run sends other requests (scenarios "
            f"{', '.join(each.scenario for each in state.scenarios)}; seed {state.provenance.seed}): resume it with "
            "its own configuration and flags, which stand in the file under config"
        )


def _check_same_conditions(journal: Journal, run: NewRun) -> None:
    state, before = journal.state, journal.state.provenance
    pairs = [
        ("the load generator", before.host, socket.gethostname()),
        ("isolation", state.isolation, run.isolation),
        *((f"the engine's {key}", getattr(before.engine, key), getattr(run.engine, key)) for key in _OF_ENGINE),
    ]
    other = [f"{name} was {then} and is {now}" for name, then, now in pairs if then != now]
    if other:
        raise ResumeError(f"{journal.path}: the rest would not be measured as its beginning was: {'; '.join(other)}")


def look_at_records(path: Path, state: ScenarioState) -> Kept:
    """Read a requests file that was cut off, and remove from its end the line that was cut through.

    Raises:
        ResultsError: naming the line that is wrong, or the round that has not as many records as it was summarised
            with.
    """
    rounds: dict[int, set[str]] = defaultdict(set)
    parts, begins, size = 0, 0, 0
    going_on = len(state.rounds) + 1
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            record = _record(path, number, line)
            if record.round < going_on:
                begins = size + len(line)
            else:
                parts = max(parts, record.part)
            rounds[record.round].add(record.request_id)
            size += len(line)
    with path.open("ab") as file:
        file.truncate(size)
    _check(path, state, rounds)
    return Kept(begins, frozenset(rounds[going_on]), parts)


def _record(path: Path, number: int, line: bytes) -> Record:
    try:
        return Record.from_line(line.decode(errors="replace"))
    except ValidationError as error:
        raise ResultsError(f"{path}:{number}: {problems(error)}") from error


def _check(path: Path, state: ScenarioState, rounds: Mapping[int, set[str]]) -> None:
    summarised = {summary.round: summary.requests.total for summary in state.rounds}
    for number in sorted(rounds.keys() | summarised.keys()):
        if number > len(state.rounds) + 1 or len(rounds[number]) != summarised.get(number, len(rounds[number])):
            raise ResultsError(
                f"{path}: {len(rounds[number])} records of round {number}, expected {summarised.get(number, 0)}: "
                "the file was changed, and the run can't be resumed"
            )
