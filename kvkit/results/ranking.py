"""Settings of one service, ranked by what a cache hit takes: which is best, and which are no different from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from kvkit.results.candidates import Attempt, NotRanked, Sweep, read_sweep
from kvkit.results.differences import measured_otherwise
from kvkit.results.noise import NoiseFloor
from kvkit.results.record import Record
from kvkit.results.run import Run
from kvkit.results.speedup import MIN_PAIRS, Speedup
from kvkit.results.stats import RoundName
from kvkit.results.verdict import Verdict, judge

AgainstBest = Literal["best", "no_different", "slower", "unknown"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate's place. Times in milliseconds, over the successful requests."""

    settings: dict[str, Any]
    ttft_ms: float
    """Of cache hits: the geometric mean over the scenarios of each one's median, so that all weigh the same."""
    cold_ttft_ms: float | None
    """The same of the cold round, which stores what the hits load."""
    tpot_ms: float | None
    """Mean of the hit rounds' requests."""
    speedup: Speedup | None
    """The TTFT without the cache, of all baselines together, over the candidate's, as in `ttft_ms`, with its own 95 %
    interval. `None`: there is no baseline."""
    behind: Speedup | None
    """The candidate's TTFT over the best one's. The intervals of all candidates hold together in 95 of 100 sweeps."""
    verdict: AgainstBest


@dataclass(frozen=True, slots=True)
class Choice:
    """What to set. `settings` is empty where the inventory can stay as it is, `None` where nothing can be said."""

    settings: dict[str, Any] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ranking:
    folder: Path
    standings: tuple[Standing, ...]
    """The best first."""
    not_ranked: tuple[NotRanked, ...]
    baselines: int
    drift: Speedup | None
    """The first baseline's TTFT over that of the one furthest from it: what changed while the candidates were measured,
    or between two days of it. `None`: there are no two."""
    noise_floor: NoiseFloor
    """Differences inside it are none. It is the drift: two measurements of the same round, each of a service that was
    started for it, as those of two candidates are. Without one, it is the A/A comparison within the only baseline."""
    choice: Choice


def rank(folder: Path) -> Ranking:
    """Rank the candidates of a sweep.

    Each candidate is held against the one with the lowest TTFT by a paired bootstrap of the hit rounds. With k
    candidates, the k - 1 intervals are taken at 1 - 0.05 / (k - 1) (Bonferroni): with 95 % confidence the candidate
    that is truly best is then the best one found, or among those called no different. Comparisons with the best need
    no correction for all pairs: a truly best candidate is missed only if its own comparison fails. Source: Hsu,
    "Simultaneous Confidence Intervals for all Distances from the Best" (1981); Gupta 1965 on selecting such a subset.

    Raises:
        ResultsError: the folder is no sweep's, or SciPy is not installed.
    """
    sweep = _of_one_kind(read_sweep(folder))
    drift = _drift(sweep.baselines)
    floor = NoiseFloor(drift) if drift else NoiseFloor.of([run for each in sweep.baselines for run in each.runs])
    standings = _standings(sweep, floor)
    return Ranking(
        folder=folder,
        standings=standings,
        not_ranked=sweep.not_ranked,
        baselines=len(sweep.baselines),
        drift=drift,
        noise_floor=floor,
        choice=_choose(standings, floor),
    )


def _of_one_kind(sweep: Sweep) -> Sweep:
    """Without what was measured under other conditions than the newest attempt, which says so in its place."""
    attempts = [*sweep.candidates, *sweep.baselines]
    if not attempts:
        return sweep
    newest = max(attempts, key=lambda attempt: attempt.candidate.started)
    strange = {id(attempt): reason for attempt in attempts if (reason := _strange(attempt, newest))}
    return Sweep(
        candidates=tuple(attempt for attempt in sweep.candidates if id(attempt) not in strange),
        baselines=tuple(attempt for attempt in sweep.baselines if id(attempt) not in strange),
        not_ranked=sweep.not_ranked
        + tuple(
            NotRanked(attempt.candidate.settings, attempt.candidate.mode, "invalid", strange[id(attempt)])
            for attempt in attempts
            if id(attempt) in strange
        ),
    )


def _strange(attempt: Attempt, newest: Attempt) -> str | None:
    """Why an attempt cannot be ranked with the others."""
    others = measured_otherwise([run.stats for run in attempt.runs], [run.stats for run in newest.runs])
    if others:
        return f"measured with another {others[0]} than what was measured last"
    silent = [run.stats.scenario for run in attempt.runs if not _hits([run])]
    return f"{silent[0]}: no cache-hit round has a time to first token" if silent else None


def _drift(baselines: Sequence[Attempt]) -> Speedup | None:
    found = [_ratio(baselines[:1], [later]) for later in baselines[1:]]
    return max(found, key=lambda ratio: NoiseFloor(ratio).factor or 0, default=None)


def _standings(sweep: Sweep, floor: NoiseFloor) -> tuple[Standing, ...]:
    ordered = sorted(((_ttft_ms(attempt), attempt) for attempt in sweep.candidates), key=lambda each: each[0])
    if not ordered:
        return ()
    best = ordered[0][1]
    standings = []
    for ttft_ms, attempt in ordered:
        behind = None if attempt is best else _ratio([attempt], [best], comparisons=len(ordered) - 1)
        standings.append(
            Standing(
                settings=attempt.candidate.settings,
                ttft_ms=ttft_ms,
                cold_ttft_ms=_cold_ttft_ms(attempt),
                tpot_ms=_tpot_ms(attempt),
                speedup=_ratio(sweep.baselines, [attempt]) if sweep.baselines else None,
                behind=behind,
                verdict="best" if attempt is best else _against_best(behind, floor),
            )
        )
    return tuple(standings)


def _against_best(behind: Speedup | None, floor: NoiseFloor) -> AgainstBest:
    effect = judge(behind, floor).effect
    return "slower" if effect == "better" else "unknown" if effect == "unknown" else "no_different"


def _choose(standings: Sequence[Standing], floor: NoiseFloor) -> Choice:
    if not standings:
        return Choice(None, "no candidate has a valid result")
    best, *others = standings
    if any(other.verdict == "unknown" for other in others):
        return Choice(None, f"too few requests to tell the candidates apart: each scenario needs {MIN_PAIRS}")
    gain = Verdict("unknown") if best.speedup is None else judge(best.speedup, floor)
    if gain.effect != "better":
        told = "is not known to be" if gain.effect == "unknown" else "is not"
        return Choice(None, f"the best candidate {told} better than the service without the cache")
    equals = [standing for standing in standings if standing.verdict in {"best", "no_different"}]
    if any(not standing.settings for standing in equals):
        return Choice({}, "no candidate is better than the settings that the inventory has")
    if len(equals) == 1:
        return Choice(best.settings, "better than every other candidate")
    return Choice(best.settings, f"the lowest TTFT; {len(equals) - 1} other candidates are no different")


def _ttft_ms(attempt: Attempt) -> float:
    return _over_scenarios([median(_hits([run]).values()) for run in attempt.runs]) * 1000


def _cold_ttft_ms(attempt: Attempt) -> float | None:
    cold = [[r.ttft_s for r in _of_rounds(run, "cold_start") if r.ttft_s is not None] for run in attempt.runs]
    return _over_scenarios([median(times) for times in cold]) * 1000 if all(cold) else None


def _tpot_ms(attempt: Attempt) -> float | None:
    told = [r.tpot_s for run in attempt.runs for r in _of_rounds(run, "cache_hit") if r.tpot_s is not None]
    return fmean(told) * 1000 if told else None


def _over_scenarios(times: Sequence[float]) -> float:
    return exp(fmean(log(time) for time in times))


def _ratio(slow: Sequence[Attempt], fast: Sequence[Attempt], *, comparisons: int = 1) -> Speedup | None:
    """Hits of one side over those of the other, paired by scenario and request."""
    from kvkit.results.bootstrap import stratified_speedup  # noqa: PLC0415 - SciPy is slow to import and in an extra

    pairs = []
    for ours, theirs in zip(_by_scenario(slow), _by_scenario(fast), strict=True):
        mine, other = _hits(ours), _hits(theirs)
        shared = sorted(mine.keys() & other.keys())
        pairs.append(([mine[name] for name in shared], [other[name] for name in shared]))
    return stratified_speedup(pairs, comparisons=comparisons)


def _by_scenario(attempts: Sequence[Attempt]) -> Iterator[tuple[Run, ...]]:
    """The runs of one scenario of all attempts; attempts of one kind have the same scenarios, in order."""
    return zip(*(attempt.runs for attempt in attempts), strict=True)


def _hits(runs: Sequence[Run]) -> Mapping[str, float]:
    """TTFT of each request, the mean over all hit rounds: several looks at one request are one value, not several."""
    times: dict[str, list[float]] = {}
    for record in (record for run in runs for record in _of_rounds(run, "cache_hit")):
        if record.ttft_s is not None:
            times.setdefault(record.request_id, []).append(record.ttft_s)
    return {request_id: fmean(values) for request_id, values in times.items()}


def _of_rounds(run: Run, name: RoundName) -> Iterator[Record]:
    numbers = {summary.round for summary in run.stats.rounds if summary.name == name}
    return (record for record in run.records if record.ok and record.round in numbers)
