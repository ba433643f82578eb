"""How far a run has come: a file that is there while it goes on, and stays when it is cut off."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal, Self, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from kvkit.config import Isolation
from kvkit.results.errors import ResultsError
from kvkit.results.reader import problems, read_text
from kvkit.results.stats import Mode, Provenance, RoundSummary


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ScenarioState(_Part):
    """One scenario of a run."""

    scenario: str
    fingerprint: str
    """Of its workload."""
    state: Literal["waiting", "begun", "done"] = "waiting"
    started: AwareDatetime | None = None
    records: str | None = None
    """Name of the requests file beside this file."""
    rounds: tuple[RoundSummary, ...] = ()
    """Those that have ended, with what the servers counted in them."""
    round: int | None = None
    """The round whose requests are being sent; `null` between rounds."""
    valid: bool | None = None
    """Of a scenario that is done."""


class RunState(_Part):
    """A run that has not ended."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run_id: str
    mode: Mode
    isolation: Isolation
    provenance: Provenance
    config: dict[str, Any]
    """The test configuration, secrets removed."""
    scenarios: tuple[ScenarioState, ...]

    def of(self, scenario: str) -> ScenarioState:
        return next(one for one in self.scenarios if one.scenario == scenario)


class Journal:
    """Keeps the state of a run in its file, which is locked as long as this process lives."""

    def __init__(self, path: Path, state: RunState, locked: TextIO) -> None:
        self.path = path
        self.state = state
        self._locked = locked

    @classmethod
    def create(cls, results_dir: Path, state: RunState) -> Self:
        """Begin a file named `<with_cache|baseline>_unfinished_<time>.json`; a name that is taken gets a number.

        Raises:
            ResultsError: it cannot be written.
        """
        name = f"{state.mode.replace('-', '_')}_unfinished_{state.provenance.started.astimezone(UTC):%Y%m%d_%H%M%S}"
        try:
            results_dir.mkdir(parents=True, exist_ok=True)
            for number in count(1):
                path = results_dir / f"{name if number == 1 else f'{name}_{number}'}.json"
                try:
                    locked = path.open("x", encoding="utf-8")
                except FileExistsError:
                    continue
                break
        except OSError as error:
            raise ResultsError(f"{results_dir}: cannot keep results here: {error.strerror}") from error
        journal = cls(path, state, locked)
        journal._write()
        return journal

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Take over the file of a run that was cut off.

        Raises:
            ResultsError: it is not whole, or the run still goes on.
        """
        state = read_state(path)
        locked = path.open(encoding="utf-8")
        if not _lock(locked):
            locked.close()
            raise ResultsError(f"{path}: this run still goes on: wait for its end, or end it, before it is resumed")
        return cls(path, state, locked)

    def resumed(self, at: datetime) -> None:
        provenance = self.state.provenance
        self._update({"provenance": provenance.model_copy(update={"resumed": (*provenance.resumed, at)})})

    def scenario_begun(self, scenario: str, records: str, started: datetime) -> None:
        self._update_scenario(scenario, {"state": "begun", "records": records, "started": started})

    def round_begun(self, scenario: str, number: int) -> None:
        self._update_scenario(scenario, {"round": number})

    def round_ended(self, scenario: str, summary: RoundSummary) -> None:
        """To be called when the round's records are on the disk."""
        rounds = (*self.state.of(scenario).rounds, summary)
        self._update_scenario(scenario, {"rounds": rounds, "round": None})

    def scenario_done(self, scenario: str, valid: bool | None) -> None:
        """To be called when its stats file is written."""
        self._update_scenario(scenario, {"state": "done", "rounds": (), "valid": valid})

    def close(self, *, finished: bool) -> None:
        """Let go of the file; a run that has finished needs it no longer."""
        if finished:
            self.path.unlink(missing_ok=True)
        self._locked.close()

    def _update_scenario(self, scenario: str, changes: dict[str, Any]) -> None:
        self._update(
            {
                "scenarios": tuple(
                    one.model_copy(update=changes) if one.scenario == scenario else one for one in self.state.scenarios
                )
            }
        )

    def _update(self, changes: dict[str, Any]) -> None:
        self.state = self.state.model_copy(update=changes)
        self._write()

    def _write(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            stream = temporary.open("w", encoding="utf-8", errors="replace")
            try:
                _lock(stream)  # before it has the name under which others look for it
                data = self.state.model_dump(mode="json", by_alias=True)
                json.dump(data, stream, indent=2, ensure_ascii=False, allow_nan=False)
                stream.flush()
                os.fsync(stream.fileno())
                temporary.replace(self.path)
            except BaseException:
                stream.close()
                raise
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ResultsError(f"{self.path}: cannot note how far the run has come: {error.strerror}") from error
        self._locked.close()
        self._locked = stream


def read_state(path: Path) -> RunState:
    """Read the file of a run that has not ended.

    Raises:
        ResultsError: it is not one, or not whole.
    """
    try:
        return RunState.model_validate_json(read_text(path))
    except ValidationError as error:
        raise ResultsError(f"{path}: {problems(error)}") from error


def unfinished_runs(folder: Path, mode: Mode) -> list[Path]:
    """The files of runs of a mode that were cut off in a folder, or that still go on; the oldest first."""
    found = folder.glob(f"{mode.replace('-', '_')}_unfinished_*.json")
    return sorted(path for path in found if path.stat().st_size)  # an empty one was cut off before anything was sent


def cut_off_scenarios(folders: Iterable[Path], mode: Mode) -> list[tuple[Path, str]]:
    """What was cut off and has no stats file: the file that has the requests or tells of the run, and how far it came.

    Raises:
        ResultsError: a file that tells of a run is not whole.
    """
    return [
        (path.with_name(one.records) if one.records else path, _how_far(path, state, one))
        for folder in folders
        for path in unfinished_runs(folder, mode)
        for state in [read_state(path)]
        for one in state.scenarios
        if one.state != "done" and not _has_stats(path.parent, state, one.scenario)
    ]


def _has_stats(folder: Path, state: RunState, scenario: str) -> bool:
    """Whether the scenario was finished later: a copy of the file may have been left behind, as on a control node."""
    kept = folder.glob(f"{state.mode.replace('-', '_')}_{scenario}_stats_*.json")
    return any(f'"run_id": "{state.run_id}"' in read_text(path) for path in kept)


def _how_far(path: Path, state: RunState, one: ScenarioState) -> str:
    begun = state.provenance.started.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = "before its first request"
    if one.round is not None:
        where = f"in round {one.round}"
    elif one.rounds:
        where = f"after round {one.rounds[-1].round}"
    return (
        f"{one.scenario}: the run of {begun} was cut off {where}, or goes on; `kvkit run --resume` with the same "
        f"configuration and --results-dir {path.parent} finishes it"
    )


def _lock(stream: TextIO) -> bool:
    """Lock a file until it is closed; False where another process has locked it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
