"""Which runs are held against each other: those of the two modes that sent the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kvkit.results.differences import check_same_workload, other_conditions
from kvkit.results.errors import ResultsError
from kvkit.results.imported import read_runs
from kvkit.results.reader import expand
from kvkit.results.record import Record
from kvkit.results.stats import Mode, RunStats
from kvkit.results.unfinished import cut_off_scenarios


class StatsFile(NamedTuple):
    path: Path
    stats: RunStats
    imported: tuple[Record, ...] | None
    """Its records, where they are not in a requests file."""


class StatsPair(NamedTuple):
    """Two runs of one scenario with equal workload fingerprints."""

    with_cache: StatsFile
    baseline: StatsFile


class NotUsed(NamedTuple):
    """A stats file that was given and is in no figure."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a set of stats files gives to compare."""

    pairs: dict[str, tuple[StatsPair, ...]]
    """By scenario, in the order in which they were measured; at least one each."""
    one_mode_only: tuple[tuple[str, Mode], ...]
    """Scenarios that were found in one mode only, and in which."""
    not_used: tuple[NotUsed, ...]


def find_pairs(with_cache_globs: Sequence[str], baseline_globs: Sequence[str]) -> Found:
    """Pair the runs of the two modes by scenario and workload fingerprint.

    Of runs with the same fingerprint and mode the newest counts. All pairs of a scenario that were measured under the
    conditions of the newest one are found: interleaved halves of a cycle, or cycles of several days.

    Raises:
        ResultsError: a glob matches nothing, a file cannot be read or has the other mode, no scenario was
            run in both modes, or no two runs of a scenario sent the same workload.
    """
    cut_off = [
        *(NotUsed(*each) for each in cut_off_scenarios(_folders(with_cache_globs), "with-cache")),
        *(NotUsed(*each) for each in cut_off_scenarios(_folders(baseline_globs), "baseline")),
    ]
    try:
        with_cache, baseline = (
            runs_by_scenario(with_cache_globs, "with-cache"),
            runs_by_scenario(baseline_globs, "baseline"),
        )
    except ResultsError as error:
        raise ResultsError("; ".join([str(error), *(f"{path}: {reason}" for path, reason in cut_off)])) from None
    shared = [scenario for scenario in with_cache if scenario in baseline]
    if not shared:
        raise ResultsError(
            "no scenario was run in both modes: "
            f"with-cache has {', '.join(with_cache)}; baseline has {', '.join(baseline)}"
        )
    not_used = cut_off
    pairs = {scenario: _pair(with_cache[scenario], baseline[scenario], not_used) for scenario in shared}
    return Found(
        pairs=pairs,
        one_mode_only=tuple(
            [(scenario, "with-cache") for scenario in with_cache if scenario not in baseline]
            + [(scenario, "baseline") for scenario in baseline if scenario not in with_cache]
        ),
        not_used=tuple(not_used),
    )


def runs_by_scenario(globs: Sequence[str], mode: Mode) -> dict[str, list[StatsFile]]:
    """The runs of each scenario, oldest first.

    Raises:
        ResultsError: a glob matches nothing, or a file cannot be read or has the other mode.
    """
    found = [StatsFile(path, *run) for path in expand(globs) for run in read_runs(path, mode)]
    for path, stats, _ in found:
        if stats.mode != mode:
            raise ResultsError(f"{path}: key mode: found {stats.mode}, expected {mode}: give it to the other option")
    by_scenario: dict[str, list[StatsFile]] = {}
    for file in sorted(found, key=lambda file: (file.stats.provenance.started, file.path.name)):
        by_scenario.setdefault(file.stats.scenario, []).append(file)
    return by_scenario


def _folders(patterns: Sequence[str]) -> list[Path]:
    """Where the files lie that the patterns can match, as far as a folder has no wildcard of its own."""
    return [folder for folder in dict.fromkeys(Path(pattern).parent for pattern in patterns) if folder.is_dir()]


def _pair(
    with_cache: Sequence[StatsFile], baseline: Sequence[StatsFile], not_used: list[NotUsed]
) -> tuple[StatsPair, ...]:
    ours, theirs = (_newest_by_fingerprint(files, not_used) for files in (with_cache, baseline))
    pairs = [StatsPair(ours[fingerprint], theirs[fingerprint]) for fingerprint in ours if fingerprint in theirs]
    if not pairs:
        check_same_workload(with_cache[-1].stats, baseline[-1].stats)
    not_used += [
        NotUsed(file.path, "no run of the other mode sent the same workload")
        for fingerprint, file in [*ours.items(), *theirs.items()]
        if not (fingerprint in ours and fingerprint in theirs)
    ]
    pairs.sort(key=lambda pair: max(file.stats.provenance.started for file in pair))
    return tuple(_like_the_newest(pairs, not_used))


def _newest_by_fingerprint(files: Sequence[StatsFile], not_used: list[NotUsed]) -> dict[str, StatsFile]:
    newest = {file.stats.workload.fingerprint: file for file in files}
    not_used += [
        NotUsed(file.path, "a newer run of this mode and workload was given")
        for file in files
        if newest[file.stats.workload.fingerprint] is not file
    ]
    return newest


def _like_the_newest(pairs: Sequence[StatsPair], not_used: list[NotUsed]) -> Iterator[StatsPair]:
    """Runs under other conditions measured something else: together with the newest they would tell nothing."""
    newest = pairs[-1]
    for pair in pairs:
        other = [
            *other_conditions(pair.with_cache.stats, newest.with_cache.stats),
            *other_conditions(pair.baseline.stats, newest.baseline.stats),
        ]
        if other:
            not_used += [NotUsed(file.path, f"a newer pair was measured with another {other[0]}") for file in pair]
        else:
            yield pair
