"""What a sweep over settings left: a folder for each attempt at a candidate, with `candidate.json` in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from kvkit.results.errors import ResultsError
from kvkit.results.reader import problems, read_stats, read_text
from kvkit.results.run import Run
from kvkit.results.stats import Mode

Outcome = Literal["measured", "invalid", "failed", "refused", "unfinished"]
"""`refused`: before anything was started. `failed`: broken off later. `unfinished`: nobody wrote how it ended."""


class Candidate(BaseModel):
    """`candidate.json`: one attempt at measuring one candidate."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    key: str
    """Of the settings and of what they make of the service; attempts with one key measured the same thing."""
    mode: Mode
    """`baseline`: the service as the inventory has it, without the cache."""
    settings: dict[str, Any]
    """Inventory variables with their values; empty for the inventory as it is."""
    outcome: Outcome
    reason: str
    """Why it was not measured; empty when it was."""
    started: AwareDatetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """A candidate with the runs of its scenarios, where it was measured."""

    folder: Path
    candidate: Candidate
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class NotRanked:
    """A candidate without a result that counts."""

    settings: dict[str, Any]
    mode: Mode
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the attempts of one folder come to."""

    candidates: tuple[Attempt, ...]
    """The newest valid attempt of each."""
    baselines: tuple[Attempt, ...]
    """All valid ones, oldest first."""
    not_ranked: tuple[NotRanked, ...]
    """Candidates with no valid attempt, as the newest one ended; and baselines without one."""


def read_sweep(folder: Path) -> Sweep:
    """Read all attempts. One that cannot be read is listed with the reason, and keeps nothing else from counting.

    Raises:
        ResultsError: the folder holds no attempt, or a `candidate.json` is not one.
    """
    found = sorted((_read_attempt(path) for path in folder.glob("*/candidate.json")), key=lambda a: a[0].started)
    if not found:
        raise ResultsError(
            f"{folder}: holds no */candidate.json: give the folder tune_NAME that playbooks/tune.yml wrote"
        )
    newest: dict[str, Attempt | NotRanked] = {}
    baselines: list[Attempt] = []
    for candidate, attempt in found:
        if isinstance(attempt, Attempt) and candidate.mode == "baseline":
            baselines.append(attempt)
        # A valid result stands, however a later attempt at the same ended.
        if isinstance(attempt, Attempt) or not isinstance(newest.get(candidate.key), Attempt):
            newest[candidate.key] = attempt
    return Sweep(
        candidates=tuple(a for a in newest.values() if isinstance(a, Attempt) and a.candidate.mode == "with-cache"),
        baselines=tuple(baselines),
        not_ranked=tuple(a for a in newest.values() if isinstance(a, NotRanked)),
    )


def _read_attempt(path: Path) -> tuple[Candidate, Attempt | NotRanked]:
    try:
        candidate = Candidate.model_validate_json(read_text(path))
    except ValidationError as error:
        raise ResultsError(f"{path}: {problems(error)}") from error
    if candidate.outcome not in {"measured", "invalid"}:
        return candidate, _not_ranked(candidate, candidate.outcome, candidate.reason)
    try:
        runs = _read_runs(path.parent, candidate.mode)
    except ResultsError as error:
        return candidate, _not_ranked(candidate, "failed", str(error))
    reasons = [reason for run in runs if run.stats.valid is not True for reason in _reasons(run)]
    if reasons or candidate.outcome == "invalid":
        return candidate, _not_ranked(candidate, "invalid", "; ".join(reasons) or candidate.reason)
    return candidate, Attempt(path.parent, candidate, runs)


def _read_runs(folder: Path, mode: Mode) -> tuple[Run, ...]:
    paths = sorted(folder.glob(f"{mode.replace('-', '_')}_*_stats_*.json"))
    if not paths:
        raise ResultsError(f"{folder}: holds no stats file of the mode {mode}")
    runs = tuple(Run.read(path, read_stats(path), None) for path in paths)
    return tuple(sorted(runs, key=lambda run: run.stats.scenario))


def _reasons(run: Run) -> Sequence[str]:
    return [f"{run.stats.scenario}: {reason}" for reason in run.stats.invalid_reasons or ("no reason was given",)]


def _not_ranked(candidate: Candidate, outcome: Outcome, reason: str) -> NotRanked:
    return NotRanked(candidate.settings, candidate.mode, outcome, reason)
