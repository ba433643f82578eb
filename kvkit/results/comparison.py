"""Two modes side by side, paired by request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kvkit.results.differences import Difference, check_same_workload, differences, unfair
from kvkit.results.distribution import Distribution
from kvkit.results.errors import ResultsError
from kvkit.results.evidence import Evidence, gather
from kvkit.results.imported import check_same_lengths, read_runs
from kvkit.results.reader import expand, read_records
from kvkit.results.record import Record
from kvkit.results.stats import Mode, RoundName, RoundSummary, RunStats
from kvkit.results.verdict import (
    Target,
    Verdict,
    change_percent,
    invalid_reasons,
    judge,
    reduction_percent,
    throughput_target,
    tpot_target,
    ttft_target,
    worst,
)


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario in one mode, read back from its files."""

    path: Path
    """The stats file."""
    stats: RunStats
    records: tuple[Record, ...]

    def words_of_failures(self) -> dict[str, str]:
        """For each kind of failure that said something, what the first one said."""
        words: dict[str, str] = {}
        for record in self.records:
            if record.failure is not None and record.error:
                words.setdefault(record.failure, record.error)
        return words


@dataclass(frozen=True, slots=True)
class Pair:
    """The same request in the same round of both modes; it succeeded in both."""

    with_cache: Record
    baseline: Record


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """One mode's side of a round. Latencies are of the paired requests, so that both sides tell of the same ones."""

    summary: RoundSummary
    ttft_ms: Distribution
    tpot_ms: Distribution

    @classmethod
    def of(cls, summary: RoundSummary, paired: Sequence[Record]) -> ModeFigures:
        return cls(
            summary=summary,
            ttft_ms=Distribution.in_ms(record.ttft_s for record in paired),
            tpot_ms=Distribution.in_ms(record.tpot_s for record in paired),
        )

    @classmethod
    def of_all(cls, summary: RoundSummary) -> ModeFigures:
        """Of all requests: where a foreign file kept no records, there are no pairs."""
        return cls(summary=summary, ttft_ms=summary.ttft_ms, tpot_ms=summary.tpot_ms)


@dataclass(frozen=True, slots=True)
class Changes:
    """With-cache against baseline in one round, in percent of the baseline. `None`: unknown."""

    ttft_mean_reduction: float | None
    """Above 0 the cache helped."""
    ttft_median_reduction: float | None
    throughput_gain: float | None
    """Of successful requests per second; above 0 the cache helped."""
    tpot_rise: float | None
    """Of the mean; above 0 decoding was slower with the cache."""


@dataclass(frozen=True, slots=True)
class RoundComparison:
    number: int
    with_cache: ModeFigures
    baseline: ModeFigures
    pairs: tuple[Pair, ...]
    unpaired: int
    """Requests that did not succeed in both modes, or that only one mode sent."""
    changes: Changes | None
    """`None` when one of the two runs is invalid: then a difference is no gain."""
    evidence: tuple[Evidence, ...]

    @property
    def name(self) -> RoundName:
        return self.with_cache.summary.name


@dataclass(frozen=True, slots=True)
class ScenarioComparison:
    scenario: str
    with_cache: Run
    baseline: Run
    rounds: tuple[RoundComparison, ...]
    rounds_in_one_mode: tuple[int, ...]
    """Rounds that only one of the two runs had, so that they are not compared."""
    targets: tuple[Target, ...]
    verdict: Verdict
    differences: tuple[Difference, ...]
    """What differs between the two runs besides the mode: configuration, versions, engine flags."""

    @property
    def flags_told(self) -> bool:
        """Whether both engines told their flags, so that `differences` covers them."""
        return all(run.stats.provenance.engine.flags is not None for run in (self.with_cache, self.baseline))


@dataclass(frozen=True, slots=True)
class Comparison:
    scenarios: tuple[ScenarioComparison, ...]
    verdict: Verdict
    one_mode_only: tuple[tuple[str, Mode], ...]
    """Scenarios that were found in one mode only, and in which."""
    not_used: tuple[Path, ...]
    """Stats files that a newer one of the same mode and scenario replaced."""


def compare(with_cache_globs: Sequence[str], baseline_globs: Sequence[str]) -> Comparison:
    """Compare the newest run of each scenario in both modes.

    Raises:
        ResultsError: a glob matches nothing, a file cannot be read or has the other mode, no scenario was
            run in both modes, or the two runs of a scenario did not send the same workload.
    """
    with_cache, older_with_cache = _newest_by_scenario(with_cache_globs, "with-cache")
    baseline, older_baseline = _newest_by_scenario(baseline_globs, "baseline")
    shared = [scenario for scenario in with_cache if scenario in baseline]
    if not shared:
        raise ResultsError(
            "no scenario was run in both modes: "
            f"with-cache has {', '.join(with_cache)}; baseline has {', '.join(baseline)}"
        )
    scenarios = tuple(_compare_runs(with_cache[scenario], baseline[scenario]) for scenario in shared)
    return Comparison(
        scenarios=scenarios,
        verdict=_overall(scenarios),
        one_mode_only=tuple(
            [(scenario, "with-cache") for scenario in with_cache if scenario not in baseline]
            + [(scenario, "baseline") for scenario in baseline if scenario not in with_cache]
        ),
        not_used=older_with_cache + older_baseline,
    )


class _StatsFile(NamedTuple):
    path: Path
    stats: RunStats
    imported: tuple[Record, ...] | None
    """Its records, where they are not in a requests file."""

    def run(self) -> Run:
        records = read_records(self.path, self.stats) if self.imported is None else self.imported
        return Run(self.path, self.stats, records)


def _newest_by_scenario(globs: Sequence[str], mode: Mode) -> tuple[dict[str, _StatsFile], tuple[Path, ...]]:
    """The newest run of each scenario, and the files of the others."""
    found = [_StatsFile(path, *run) for path in expand(globs) for run in read_runs(path, mode)]
    for path, stats, _ in found:
        if stats.mode != mode:
            raise ResultsError(f"{path}: key mode: found {stats.mode}, expected {mode}: give it to the other option")
    found.sort(key=lambda file: (file.stats.provenance.started, file.path.name))
    newest = {file.stats.scenario: file for file in found}
    return newest, tuple(file.path for file in found if newest[file.stats.scenario] is not file)


def _compare_runs(with_cache: _StatsFile, baseline: _StatsFile) -> ScenarioComparison:
    check_same_workload(with_cache.stats, baseline.stats)
    left, right = with_cache.run(), baseline.run()
    check_same_lengths((left.stats, left.records), (right.stats, right.records))
    found = differences(left.stats, right.stats)
    reasons = invalid_reasons(left.stats) + invalid_reasons(right.stats) + unfair(found, left.stats, right.stats)
    rounds = _compare_rounds(left, right, valid=not reasons)
    measured = [target for this in rounds for target in _targets(this, rounds[0])]
    targets, verdict = ((), Verdict("invalid", reasons)) if reasons else judge((left.stats, right.stats), measured)
    return ScenarioComparison(
        scenario=left.stats.scenario,
        with_cache=left,
        baseline=right,
        rounds=rounds,
        rounds_in_one_mode=tuple(sorted(_round_numbers(left.stats) ^ _round_numbers(right.stats))),
        targets=targets,
        verdict=verdict,
        differences=found,
    )


def _round_numbers(stats: RunStats) -> set[int]:
    return {summary.round for summary in stats.rounds}


def _compare_rounds(with_cache: Run, baseline: Run, *, valid: bool) -> tuple[RoundComparison, ...]:
    others = {summary.round: summary for summary in baseline.stats.rounds}
    return tuple(
        _compare_round(summary, others[summary.round], with_cache, baseline, valid=valid)
        for summary in with_cache.stats.rounds
        if summary.round in others
    )


def _compare_round(
    left: RoundSummary, right: RoundSummary, with_cache: Run, baseline: Run, *, valid: bool
) -> RoundComparison:
    ours = {record.request_id: record for record in with_cache.records if record.round == left.round}
    theirs = {record.request_id: record for record in baseline.records if record.round == left.round}
    pairs = tuple(
        Pair(record, theirs[request_id])
        for request_id, record in ours.items()
        if record.ok and request_id in theirs and theirs[request_id].ok
    )
    if with_cache.records and baseline.records:
        left_figures = ModeFigures.of(left, [pair.with_cache for pair in pairs])
        right_figures = ModeFigures.of(right, [pair.baseline for pair in pairs])
    else:
        left_figures, right_figures = ModeFigures.of_all(left), ModeFigures.of_all(right)
    return RoundComparison(
        number=left.round,
        with_cache=left_figures,
        baseline=right_figures,
        pairs=pairs,
        unpaired=len(ours.keys() | theirs.keys()) - len(pairs),
        changes=_changes(left_figures, right_figures) if valid else None,
        evidence=gather(left.counters, right.counters),
    )


def _changes(with_cache: ModeFigures, baseline: ModeFigures) -> Changes:
    return Changes(
        ttft_mean_reduction=reduction_percent(with_cache.ttft_ms.mean, baseline.ttft_ms.mean),
        ttft_median_reduction=reduction_percent(with_cache.ttft_ms.p50, baseline.ttft_ms.p50),
        throughput_gain=change_percent(
            with_cache.summary.throughput.requests_per_s, baseline.summary.throughput.requests_per_s
        ),
        tpot_rise=change_percent(with_cache.tpot_ms.mean, baseline.tpot_ms.mean),
    )


def _targets(this: RoundComparison, first: RoundComparison) -> tuple[Target, ...]:
    """The guide's targets of a hit round. A cold round has none, and neither has an invalid comparison."""
    if this.changes is None or this.name != "cache_hit":
        return ()
    targets = (
        ttft_target(this.number, this.changes.ttft_mean_reduction),
        throughput_target(this.number, this.changes.throughput_gain),
        tpot_target(this.number, "the baseline", this.changes.tpot_rise),
    )
    if first.name != "cold_start":
        return targets
    since_cold = change_percent(this.with_cache.tpot_ms.mean, first.with_cache.tpot_ms.mean)
    return (*targets, tpot_target(this.number, "the cold round", since_cold))


def _overall(scenarios: tuple[ScenarioComparison, ...]) -> Verdict:
    return Verdict(
        worst(this.verdict.outcome for this in scenarios),
        tuple(f"{this.scenario}: {reason}" for this in scenarios for reason in this.verdict.reasons),
    )
