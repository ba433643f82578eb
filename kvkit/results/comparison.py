"""Two modes side by side, paired by request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvkit.results.differences import Difference, differences, unfair
from kvkit.results.distribution import Distribution
from kvkit.results.evidence import Evidence, gather
from kvkit.results.imported import check_same_lengths
from kvkit.results.noise import NoiseFloor
from kvkit.results.pairing import NotUsed, StatsFile, StatsPair, find_pairs
from kvkit.results.record import Record
from kvkit.results.run import Run
from kvkit.results.speedup import Speedups
from kvkit.results.stats import Goodput, Mode, RoundName, RoundSummary, TokensBySource
from kvkit.results.targets import (
    Target,
    change_percent,
    judge_targets,
    reduction_percent,
    throughput_target,
    tpot_target,
    ttft_target,
)
from kvkit.results.verdict import Verdict, invalid_reasons, judge, unknown_reasons, worst


@dataclass(frozen=True, slots=True)
class Pair:
    """The same request in the same round of both modes; it succeeded in both."""

    with_cache: Record
    baseline: Record


@dataclass(frozen=True, slots=True)
class RoundPair:
    """The same round of two runs."""

    with_cache: RoundSummary
    baseline: RoundSummary
    pairs: tuple[Pair, ...]
    unpaired: int
    """Requests that did not succeed in both modes, or that only one mode sent."""
    recorded: bool
    """Whether both runs kept records, so that there can be pairs."""
    evidence: tuple[Evidence, ...]

    @property
    def number(self) -> int:
        return self.with_cache.round

    @property
    def name(self) -> RoundName:
        return self.with_cache.name


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """One mode's side of a round. Latencies are of the paired requests, so that both sides tell of the same ones."""

    ttft_ms: Distribution
    tpot_ms: Distribution
    requests_per_s: float | None
    """Successful requests over duration; over the sum of durations, where several runs are pooled."""
    goodput: Goodput | None
    """Over all pooled runs. `None`: they did not all state the same objectives."""
    open_loop: bool
    prompt_tokens: int
    by_source: TokensBySource

    @property
    def external_share(self) -> float | None:
        """Prompt tokens that the connector brought, over all. `None`: the engine does not tell."""
        told = [value for value in self.by_source.model_dump().values() if value is not None]
        if self.by_source.external is None or len(told) < len(TokensBySource.model_fields) or not sum(told):
            return None
        return float(self.by_source.external / sum(told))

    @classmethod
    def of(cls, summaries: Sequence[RoundSummary], paired: Sequence[Record]) -> ModeFigures:
        return cls(
            ttft_ms=Distribution.in_ms(record.ttft_s for record in paired),
            tpot_ms=Distribution.in_ms(record.tpot_s for record in paired),
            requests_per_s=_requests_per_s(summaries),
            goodput=_goodput(summaries),
            open_loop=any(summary.open_loop for summary in summaries),
            prompt_tokens=sum(summary.tokens.prompt for summary in summaries),
            by_source=_by_source(summaries),
        )

    @classmethod
    def of_all(cls, summary: RoundSummary) -> ModeFigures:
        """Of all requests of one run: where a foreign file kept no records, there are no pairs."""
        return replace(cls.of([summary], ()), ttft_ms=summary.ttft_ms, tpot_ms=summary.tpot_ms)


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
    """One round of both modes, over all pairs of requests of one pair of runs or of several."""

    number: int
    name: RoundName
    with_cache: ModeFigures
    baseline: ModeFigures
    pairs: tuple[Pair, ...]
    changes: Changes | None
    """`None`, as below, when a run is invalid: then a difference is no gain."""
    speedups: Speedups | None

    @property
    def goodputs(self) -> tuple[Goodput, Goodput] | None:
        """With cache and baseline. `None`: not both were held against the same objectives."""
        ours, theirs = self.with_cache.goodput, self.baseline.goodput
        return (ours, theirs) if ours and theirs and ours.objectives == theirs.objectives else None


@dataclass(frozen=True, slots=True)
class RunPair:
    """Two runs that sent the same bytes, one a mode."""

    with_cache: Run
    baseline: Run
    rounds: tuple[RoundPair, ...]
    rounds_in_one_mode: tuple[int, ...]
    """Rounds that only one of the two runs had, so that they are not compared."""
    differences: tuple[Difference, ...]
    """What differs between the two runs besides the mode: configuration, versions, engine flags."""

    @property
    def runs(self) -> tuple[Run, Run]:
        return self.with_cache, self.baseline

    @property
    def flags_told(self) -> bool:
        """Whether both engines told their flags, so that `differences` covers them."""
        return all(run.stats.provenance.engine.flags is not None for run in self.runs)

    def invalid(self) -> tuple[str, ...]:
        """Why nothing that differs between the two runs is a gain; empty when they can be compared."""
        ours, theirs = self.with_cache.stats, self.baseline.stats
        return invalid_reasons(ours) + invalid_reasons(theirs) + unfair(self.differences, ours, theirs)

    def unknown(self) -> tuple[str, ...]:
        return tuple(reason for run in self.runs for reason in unknown_reasons(run.stats))


@dataclass(frozen=True, slots=True)
class HitVerdict:
    """What one hit round shows, with the round's own figures."""

    round: RoundComparison
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ScenarioComparison:
    scenario: str
    run_pairs: tuple[RunPair, ...]
    """In the order in which they were measured; at least one."""
    rounds: tuple[RoundComparison, ...]
    """Over the pairs of requests of all pairs of runs."""
    by_run_pair: tuple[tuple[RoundComparison, ...], ...]
    """The same over each pair of runs alone, so that drift shows; empty where there is one."""
    noise_floor: NoiseFloor
    hits: tuple[HitVerdict, ...]
    """Empty when a run is invalid."""
    verdict: Verdict
    """The worst of the hit rounds."""
    targets: tuple[Target, ...]
    """The guide's, of every hit round; empty when a run is invalid."""

    @property
    def has_goodput(self) -> bool:
        return any(this.goodputs for this in self.rounds)

    @property
    def valid(self) -> bool | None:
        """Whether its runs may be held against each other. `None`: the servers of one tell too little to say."""
        if self.verdict.effect == "invalid":
            return False
        told = all(run.stats.valid for pair in self.run_pairs for run in pair.runs)
        return True if told else None


@dataclass(frozen=True, slots=True)
class Comparison:
    scenarios: tuple[ScenarioComparison, ...]
    verdict: Verdict
    """The worst of the scenarios."""
    one_mode_only: tuple[tuple[str, Mode], ...]
    """Scenarios that were found in one mode only, and in which."""
    not_used: tuple[NotUsed, ...]


def compare(with_cache_globs: Sequence[str], baseline_globs: Sequence[str]) -> Comparison:
    """Compare the two modes of each scenario over all pairs of runs that sent the same workload.

    Raises:
        ResultsError: the files do not give such a pair (see `find_pairs`), a requests file cannot be read, or SciPy is
            not installed.
    """
    found = find_pairs(with_cache_globs, baseline_globs)
    scenarios = tuple(_compare_scenario(scenario, pairs) for scenario, pairs in found.pairs.items())
    return Comparison(
        scenarios=scenarios,
        verdict=Verdict(
            worst(this.verdict.effect for this in scenarios),
            tuple(f"{this.scenario}: {reason}" for this in scenarios for reason in this.verdict.reasons),
        ),
        one_mode_only=found.one_mode_only,
        not_used=found.not_used,
    )


def _compare_scenario(scenario: str, files: Sequence[StatsPair]) -> ScenarioComparison:
    run_pairs = tuple(_pair_runs(*pair) for pair in files)
    invalid = _with_their_pair([pair.invalid() for pair in run_pairs])
    unknown = _with_their_pair([pair.unknown() for pair in run_pairs])
    rounds = _compare_rounds(run_pairs, valid=not invalid)
    floor = NoiseFloor.of([pair.baseline for pair in run_pairs])
    hits = tuple(
        HitVerdict(this, Verdict("unknown", unknown) if unknown else judge(this.speedups.ttft_median, floor))
        for this in rounds
        if this.name == "cache_hit" and this.speedups is not None
    )
    measured = [target for this in rounds for target in _targets(this, rounds[0])]
    return ScenarioComparison(
        scenario=scenario,
        run_pairs=run_pairs,
        rounds=rounds,
        by_run_pair=tuple(_compare_rounds([pair], valid=not invalid) for pair in run_pairs) if len(files) > 1 else (),
        noise_floor=floor,
        hits=hits,
        verdict=_verdict(invalid, unknown, hits),
        targets=judge_targets(measured, known=not unknown),
    )


def _with_their_pair(reasons: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The reasons of all pairs of runs, each with its pair where there are several."""
    if len(reasons) == 1:
        return reasons[0]
    return tuple(f"run pair {number}: {reason}" for number, those in enumerate(reasons, start=1) for reason in those)


def _verdict(invalid: tuple[str, ...], unknown: tuple[str, ...], hits: Sequence[HitVerdict]) -> Verdict:
    if invalid:
        return Verdict("invalid", invalid)
    if unknown or not hits:
        return Verdict("unknown", unknown or ("there is no cache-hit round to judge",))
    told = [f"round {hit.round.number}: {reason}" for hit in hits for reason in hit.verdict.reasons]
    return Verdict(worst(hit.verdict.effect for hit in hits), tuple(told))


def _pair_runs(with_cache: StatsFile, baseline: StatsFile) -> RunPair:
    ours, theirs = Run.read(*with_cache), Run.read(*baseline)
    check_same_lengths((ours.stats, ours.records), (theirs.stats, theirs.records))
    baseline_rounds = {summary.round: summary for summary in theirs.stats.rounds}
    return RunPair(
        with_cache=ours,
        baseline=theirs,
        rounds=tuple(
            _pair_round(summary, baseline_rounds[summary.round], ours, theirs)
            for summary in ours.stats.rounds
            if summary.round in baseline_rounds
        ),
        rounds_in_one_mode=tuple(sorted({summary.round for summary in ours.stats.rounds} ^ baseline_rounds.keys())),
        differences=differences(ours.stats, theirs.stats),
    )


def _pair_round(left: RoundSummary, right: RoundSummary, with_cache: Run, baseline: Run) -> RoundPair:
    ours = {record.request_id: record for record in with_cache.records if record.round == left.round}
    theirs = {record.request_id: record for record in baseline.records if record.round == left.round}
    pairs = tuple(
        Pair(record, theirs[request_id])
        for request_id, record in ours.items()
        if record.ok and request_id in theirs and theirs[request_id].ok
    )
    return RoundPair(
        with_cache=left,
        baseline=right,
        pairs=pairs,
        unpaired=len(ours.keys() | theirs.keys()) - len(pairs),
        recorded=bool(ours and theirs),
        evidence=gather(left.counters, right.counters),
    )


def _compare_rounds(run_pairs: Sequence[RunPair], *, valid: bool) -> tuple[RoundComparison, ...]:
    by_number: dict[int, list[RoundPair]] = {}
    for this in (this for pair in run_pairs for this in pair.rounds):
        by_number.setdefault(this.number, []).append(this)
    return tuple(_compare_round(rounds, valid=valid) for _, rounds in sorted(by_number.items()))


def _compare_round(rounds: Sequence[RoundPair], *, valid: bool) -> RoundComparison:
    from kvkit.results.bootstrap import speedups  # noqa: PLC0415 - SciPy is slow to import and in an extra

    pairs = tuple(pair for this in rounds for pair in this.pairs)
    if len(rounds) == 1 and not rounds[0].recorded:
        ours, theirs = ModeFigures.of_all(rounds[0].with_cache), ModeFigures.of_all(rounds[0].baseline)
    else:
        ours = ModeFigures.of([this.with_cache for this in rounds], [pair.with_cache for pair in pairs])
        theirs = ModeFigures.of([this.baseline for this in rounds], [pair.baseline for pair in pairs])
    return RoundComparison(
        number=rounds[0].number,
        name=rounds[0].name,
        with_cache=ours,
        baseline=theirs,
        pairs=pairs,
        changes=_changes(ours, theirs) if valid else None,
        speedups=speedups([(pair.baseline, pair.with_cache) for pair in pairs]) if valid else None,
    )


def _requests_per_s(summaries: Sequence[RoundSummary]) -> float | None:
    return _per_s(sum(summary.requests.succeeded for summary in summaries), summaries)


def _goodput(summaries: Sequence[RoundSummary]) -> Goodput | None:
    told = [summary.goodput for summary in summaries if summary.goodput is not None]
    if len(told) < len(summaries) or any(one.objectives != told[0].objectives for one in told):
        return None
    good = sum(one.requests for one in told)
    return Goodput(objectives=told[0].objectives, requests=good, requests_per_s=_per_s(good, summaries))


def _per_s(requests: int, summaries: Sequence[RoundSummary]) -> float | None:
    durations = [summary.duration_s for summary in summaries if summary.duration_s]
    return None if len(durations) < len(summaries) else requests / sum(durations)


def _by_source(summaries: Sequence[RoundSummary]) -> TokensBySource:
    """Sums; what one run was not told of is unknown for all."""
    told = [summary.tokens.by_source.model_dump() for summary in summaries]
    return TokensBySource(
        **{
            source: None if any(one[source] is None for one in told) else sum(one[source] for one in told)
            for source in TokensBySource.model_fields
        }
    )


def _changes(with_cache: ModeFigures, baseline: ModeFigures) -> Changes:
    return Changes(
        ttft_mean_reduction=reduction_percent(with_cache.ttft_ms.mean, baseline.ttft_ms.mean),
        ttft_median_reduction=reduction_percent(with_cache.ttft_ms.p50, baseline.ttft_ms.p50),
        throughput_gain=change_percent(with_cache.requests_per_s, baseline.requests_per_s),
        tpot_rise=change_percent(with_cache.tpot_ms.mean, baseline.tpot_ms.mean),
    )


def _targets(this: RoundComparison, first: RoundComparison) -> tuple[Target, ...]:
    """The guide's targets of a hit round. A cold round has none, and neither has an invalid comparison."""
    if this.changes is None or this.name != "cache_hit":
        return ()
    targets = [
        ttft_target(this.number, this.changes.ttft_mean_reduction),
        tpot_target(this.number, "the baseline", this.changes.tpot_rise),
    ]
    if not this.with_cache.open_loop:  # else both modes complete what arrives
        targets.insert(1, throughput_target(this.number, this.changes.throughput_gain))
    if first.name != "cold_start":
        return tuple(targets)
    since_cold = change_percent(this.with_cache.tpot_ms.mean, first.with_cache.tpot_ms.mean)
    return (*targets, tpot_target(this.number, "the cold round", since_cold))
