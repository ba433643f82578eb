"""Numbers, outcomes and verdicts in words, the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Sequence

from kvkit.results.comparison import Comparison, ScenarioComparison
from kvkit.results.stats import RoundName
from kvkit.results.verdict import Outcome, Target

UNKNOWN = "unknown"

OUTCOMES: dict[Outcome, str] = {"met": "met", "not_met": "not met", "unknown": UNKNOWN, "invalid": "INVALID"}

ROUND_NAMES: dict[RoundName, str] = {"cold_start": "Cold Start", "cache_hit": "Cache Hit"}


def number(value: float | None, digits: int = 1) -> str:
    """With thousands set apart; what nobody told is unknown, never 0."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def count(value: float | None) -> str:
    return number(value, 0)


def percent(value: float | None) -> str:
    """A reduction below 0 is a rise, a gain below 0 a loss."""
    return UNKNOWN if value is None else f"{round(value, 1) + 0.0:,.1f} %"


def validity(valid: bool | None) -> str:
    return {True: "valid", False: "INVALID", None: UNKNOWN}[valid]


def target(measured: Target) -> str:
    words = f"{measured.name} {percent(measured.value_percent)}"
    return words if measured.outcome == "met" else f"{words} (wanted: {measured.wanted})"


def verdict_sentence(comparison: Comparison) -> str:
    """What the comparison comes to, in one sentence."""
    outcome = comparison.verdict.outcome
    scenarios = comparison.scenarios
    if outcome == "met":
        clauses = "; ".join(_gains(this) for this in scenarios)
        return f"The cache meets the guide's targets in {_how_many(scenarios, len(scenarios))}: {clauses}."
    if outcome == "not_met":
        missed = [this for this in scenarios if this.verdict.outcome == "not_met"]
        clauses = "; ".join(_missed(this) for this in missed)
        return f"The cache misses the guide's targets in {_how_many(missed, len(scenarios))}: {clauses}."
    if outcome == "unknown":
        return f"What the cache did is unknown: {_reasons(comparison.verdict.reasons)}."
    return f"INVALID, so no difference below is a gain: {_reasons(comparison.verdict.reasons)}."


def _how_many(some: Sequence[ScenarioComparison], total: int) -> str:
    if total == 1:
        return f"the scenario {some[0].scenario}"
    return f"all {total} scenarios" if len(some) == total else f"{len(some)} of {total} scenarios"


def _gains(this: ScenarioComparison) -> str:
    """What each hit round gained; that TPOT stayed close needs no number here."""
    gains = ", ".join(target(each) for each in this.targets if not each.name.startswith("TPOT"))
    return f"{this.scenario}: {gains}"


def _missed(this: ScenarioComparison) -> str:
    missed = ", ".join(target(each) for each in this.targets if each.outcome != "met")
    return f"{this.scenario}: {missed}"


def _reasons(reasons: Sequence[str]) -> str:
    more = len(reasons) - 1
    return reasons[0] + (f" (and {more} more)" if more else "")
