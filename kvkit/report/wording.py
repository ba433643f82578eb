"""Numbers, outcomes and verdicts in words, the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvkit.results.comparison import Comparison, HitVerdict, RoundComparison, RoundPair, ScenarioComparison
from kvkit.results.effect import CacheEffect
from kvkit.results.noise import NoiseFloor
from kvkit.results.speedup import Interval, Speedup
from kvkit.results.stats import Goodput, Mode, PhysicalLimit, RoundName
from kvkit.results.targets import Outcome, Target
from kvkit.results.verdict import Effect

UNKNOWN = "unknown"

OUTCOMES: dict[Outcome, str] = {"met": "met", "not_met": "not met", "unknown": UNKNOWN, "invalid": "INVALID"}

EFFECTS: dict[Effect, str] = {
    "better": "better",
    "worse": "worse",
    "no_difference": "no difference",
    "unknown": UNKNOWN,
    "invalid": "INVALID",
}

ROUND_NAMES: dict[RoundName, str] = {"cold_start": "Cold Start", "cache_hit": "Cache Hit", "unknown": "Unknown"}


def round_title(this: RoundComparison | RoundPair) -> str:
    return f"Round {this.number} - {ROUND_NAMES[this.name]}"


def number(value: float | None, digits: int = 1) -> str:
    """With thousands set apart; what nobody told is unknown, never 0."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def count(value: float | None) -> str:
    return number(value, 0)


def both(with_cache: float | None, baseline: float | None, digits: int = 1) -> str:
    return f"{number(with_cache, digits)} / {number(baseline, digits)}"


def percent(value: float | None) -> str:
    """A reduction below 0 is a rise, a gain below 0 a loss."""
    return UNKNOWN if value is None else f"{round(value, 1) + 0.0:,.1f} %"


def validity(valid: bool | None) -> str:
    return {True: "valid", False: "INVALID", None: UNKNOWN}[valid]


def kinds(failed_by_kind: Mapping[str, int]) -> str:
    return ", ".join(f"{kind}: {failed}" for kind, failed in failed_by_kind.items()) or "none"


def limit(of_round: PhysicalLimit) -> str:
    """A hit round against its physical limit, on one line."""
    bound, break_even = of_round.ttft_bound_ms, of_round.break_even_tokens
    if bound.value is None:
        return f"{UNKNOWN}: {bound.source}"
    pays = (
        f"pays from {count(break_even.value)} cached tokens on" if break_even.value is not None else break_even.source
    )
    parts = f"loading {number(of_round.load_ms)}, computing the rest {number(of_round.compute_ms)}"
    return f"TTFT at least {number(bound.value)} ms ({parts}), {share(of_round.share_reached)} of it reached; {pays}"


def share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(value * 100)


def ratio(value: float) -> str:
    return number(value, 2 if value < 10 else 1)


def speedup(found: Speedup | None) -> str:
    """The ratio with its interval."""
    if found is None:
        return UNKNOWN
    if found.interval is None:
        return f"{ratio(found.ratio)} (no interval)"
    return f"{ratio(found.ratio)} ({interval(found.interval)})"


def interval(found: Interval) -> str:
    return f"{ratio(found.low)} to {ratio(found.high)}"


def objectives(held: Goodput) -> str:
    return ", ".join(f"{name.removesuffix('_ms').upper()} {value:g} ms" for name, value in held.objectives.items())


def noise_floor(floor: NoiseFloor) -> str:
    return UNKNOWN if floor.factor is None else percent((floor.factor - 1) * 100)


def target(measured: Target) -> str:
    words = f"{measured.name} {percent(measured.value_percent)}"
    return words if measured.outcome == "met" else f"{words} (wanted: {measured.wanted})"


def run_verdict(mode: Mode, effect: CacheEffect) -> str:
    """What a single run comes to."""
    if effect.outcome == "invalid":
        return f"INVALID, so no difference between its rounds is a gain: {_first(effect.reasons)}"
    if mode == "baseline":
        return "none for a baseline by itself; hold it against a with-cache run: kvkit compare"
    if effect.outcome == "unknown":
        return f"unknown: {_first(effect.reasons)}"
    return "the guide's targets are met" if effect.outcome == "met" else "the guide's targets are missed"


def verdict_sentence(comparison: Comparison) -> str:
    """What the comparison comes to, in one sentence."""
    effect, reasons = comparison.verdict.effect, comparison.verdict.reasons
    if effect == "invalid":
        return f"INVALID, so no difference below is a gain: {_first(reasons)}."
    if effect == "unknown":
        return f"What the cache did is unknown: {_first(reasons)}."
    hits = [(this, hit) for this in comparison.scenarios for hit in this.hits if hit.verdict.effect == effect]
    told = "; ".join(f"{this.scenario}, round {hit.round.number}: {_measured(this, hit)}" for this, hit in hits)
    return f"{EFFECTS[effect].capitalize()} in {_how_many(len(hits), comparison)}: {told}."


def verdict_in_short(comparison: Comparison) -> str:
    """The sentence, with the range of all cache-hit rounds instead of each where there are several."""
    ratios = [
        hit.round.speedups.ttft_median.ratio
        for this in comparison.scenarios
        for hit in this.hits
        if hit.verdict.effect == comparison.verdict.effect and hit.round.speedups and hit.round.speedups.ttft_median
    ]
    effect = comparison.verdict.effect
    if effect in ("invalid", "unknown") or len(ratios) < 2:
        return verdict_sentence(comparison)
    low, high = min(ratios), max(ratios)
    found = f"{EFFECTS[effect].capitalize()} in {_how_many(len(ratios), comparison)}: median TTFT"
    if effect == "better":
        return f"{found} of cache hits is {ratio(low)} to {ratio(high)} times lower."
    if effect == "worse":
        return f"{found} of cache hits is {ratio(1 / high)} to {ratio(1 / low)} times higher."
    return f"{found} of the baseline over that of cache hits is {ratio(low)} to {ratio(high)}."


def verdict_lines(comparison: Comparison) -> list[str]:
    """What each hit round comes to; nothing where there is one, which the sentence tells."""
    hits = [(this, hit) for this in comparison.scenarios for hit in this.hits]
    return [] if len(hits) == 1 else [_hit_verdict(this, hit) for this, hit in hits]


def target_lines(comparison: Comparison) -> list[str]:
    """How each scenario stands to the guide's targets."""
    return [f"{this.scenario}: {_targets(this)}" for this in comparison.scenarios if this.targets]


def _hit_verdict(this: ScenarioComparison, hit: HitVerdict) -> str:
    told = (EFFECTS[hit.verdict.effect], _first(hit.verdict.reasons), _measured(this, hit))
    return f"{this.scenario}, round {hit.round.number}: " + ": ".join(part for part in told if part)


def _targets(this: ScenarioComparison) -> str:
    missed = [each for each in this.targets if each.outcome == "not_met"]
    if missed:
        return "the guide's targets are missed: " + ", ".join(f"round {each.round} {target(each)}" for each in missed)
    outcomes = {each.outcome for each in this.targets}
    return "the guide's targets are met" if outcomes == {"met"} else "whether the guide's targets are met is unknown"


def _measured(this: ScenarioComparison, hit: HitVerdict) -> str:
    assert hit.round.speedups is not None
    found = hit.round.speedups.ttft_median
    if found is None or found.interval is None:
        return ""
    support = f"{found.pairs} pairs; noise floor {noise_floor(this.noise_floor)}"
    if hit.verdict.effect == "better":
        said = f"median TTFT of cache hits is {ratio(found.ratio)} times lower"
    elif hit.verdict.effect == "worse":
        found = found.inverse()
        said = f"median TTFT of cache hits is {ratio(found.ratio)} times higher"
    else:
        said = f"median TTFT of the baseline over that of cache hits is {ratio(found.ratio)}"
    assert found.interval is not None
    return f"{said} (95 % interval {interval(found.interval)}, {support})"


def _how_many(hits: int, comparison: Comparison) -> str:
    total = sum(len(this.hits) for this in comparison.scenarios)
    if total == 1:
        return "the only cache-hit round compared"
    return f"all {total} cache-hit rounds" if hits == total else f"{hits} of {total} cache-hit rounds"


def _first(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    more = len(reasons) - 1
    return reasons[0] + (f" (and {more} more)" if more else "")
