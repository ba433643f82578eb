"""Numbers, outcomes and verdicts in words, the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvkit.results.comparison import Comparison, ScenarioComparison
from kvkit.results.stats import Mode, PhysicalLimit, RoundName
from kvkit.results.verdict import THROUGHPUT_GAIN, TTFT_REDUCTION, Outcome, Target, Verdict

UNKNOWN = "unknown"

OUTCOMES: dict[Outcome, str] = {"met": "met", "not_met": "not met", "unknown": UNKNOWN, "invalid": "INVALID"}

ROUND_NAMES: dict[RoundName, str] = {"cold_start": "Cold Start", "cache_hit": "Cache Hit", "unknown": "Unknown"}


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


def target(measured: Target) -> str:
    words = f"{measured.name} {percent(measured.value_percent)}"
    return words if measured.outcome == "met" else f"{words} (wanted: {measured.wanted})"


def run_verdict(mode: Mode, verdict: Verdict) -> str:
    """What a single run comes to."""
    if verdict.outcome == "invalid":
        return f"INVALID, so no difference between its rounds is a gain: {_reasons(verdict.reasons)}"
    if mode == "baseline":
        return "none for a baseline by itself; hold it against a with-cache run: kvkit compare"
    if verdict.outcome == "unknown":
        return f"unknown: {_reasons(verdict.reasons)}"
    return "the guide's targets are met" if verdict.outcome == "met" else "the guide's targets are missed"


def verdict_sentence(comparison: Comparison) -> str:
    """What the comparison comes to, in one sentence."""
    outcome, reasons = comparison.verdict.outcome, comparison.verdict.reasons
    if outcome == "invalid":
        return f"INVALID, so no difference below is a gain: {_reasons(reasons)}."
    if outcome == "unknown":
        return f"What the cache did is unknown: {_reasons(reasons)}."
    concerned = [this for this in comparison.scenarios if this.verdict.outcome == outcome]
    does = "meets" if outcome == "met" else "misses"
    clauses = "; ".join(_clause(this) for this in concerned)
    return f"The cache {does} the guide's targets in {_how_many(concerned, comparison)}: {clauses}."


def _how_many(concerned: Sequence[ScenarioComparison], comparison: Comparison) -> str:
    total = len(comparison.scenarios)
    if total == 1:
        return "the only scenario compared"
    return f"all {total} scenarios" if len(concerned) == total else f"{len(concerned)} of {total} scenarios"


def _clause(this: ScenarioComparison) -> str:
    """What was gained where all targets are met (that TPOT stayed close needs no number), else what was missed."""
    if this.verdict.outcome == "met":
        told = [each for each in this.targets if each.name in {TTFT_REDUCTION, THROUGHPUT_GAIN}]
    else:
        told = [each for each in this.targets if each.outcome == "not_met"]
    rounds = sorted({each.round for each in told})
    by_round = (", ".join(target(each) for each in told if each.round == number) for number in rounds)
    return f"{this.scenario}, " + ", ".join(
        f"round {number} {words}" for number, words in zip(rounds, by_round, strict=True)
    )


def _reasons(reasons: Sequence[str]) -> str:
    more = len(reasons) - 1
    return reasons[0] + (f" (and {more} more)" if more else "")
