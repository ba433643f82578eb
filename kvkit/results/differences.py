"""What differs between two runs besides their mode: what must not differ, and what a reader should know of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvkit.results.errors import ResultsError
from kvkit.results.stats import RunStats

_ABSENT = object()

_MUST_BE_EQUAL = ("config.model.name", "config.test.concurrency", "engine.model")
"""Not part of what is sent, so not in the fingerprint, but each alone explains a difference in latency."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting by its dotted name, as each side has it; `None` where a side does not have it."""

    name: str
    with_cache: str | None
    baseline: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.with_cache or 'absent'} with cache, {self.baseline or 'absent'} in the baseline"


def check_same_workload(with_cache: RunStats, baseline: RunStats) -> None:
    """Refuse to compare runs that did not send the same bytes.

    Raises:
        ResultsError: naming the workload parameters that differ.
    """
    if with_cache.workload.fingerprint == baseline.workload.fingerprint:
        return
    found = _between(with_cache.workload.parameters, baseline.workload.parameters)
    reason = "; ".join(str(difference) for difference in found) or (
        "all parameters are equal, so the prompts were built differently "
        f"(kvkit {with_cache.provenance.kvkit_version} and {baseline.provenance.kvkit_version})"
    )
    raise ResultsError(
        f"scenario {with_cache.scenario}: the two runs did not send the same workload: {reason}. "
        "Run both modes with the same configuration and seed."
    )


def differences(with_cache: RunStats, baseline: RunStats) -> tuple[Difference, ...]:
    """Every setting, version and engine flag that is not the same on both sides.

    What an engine tells of itself counts only where both told it: what is unknown is no difference.
    """
    ours, theirs = (_told_by_engine(stats) for stats in (with_cache, baseline))
    told_by_both = ours.keys() & theirs.keys()
    return _between(
        _settings(with_cache) | {name: ours[name] for name in told_by_both},
        _settings(baseline) | {name: theirs[name] for name in told_by_both},
    )


def all_settings(with_cache: RunStats, baseline: RunStats) -> tuple[Difference, ...]:
    """Every setting and engine flag of both sides, the equal ones too."""
    left, right = (
        dict(_flatten({"config": stats.config, "flags": stats.provenance.engine.flags or {}}))
        for stats in (with_cache, baseline)
    )
    return tuple(
        Difference(name, _text(left.get(name, _ABSENT)), _text(right.get(name, _ABSENT)))
        for name in sorted(left | right)
    )


def other_conditions(one: RunStats, other: RunStats) -> tuple[str, ...]:
    """Names of what differs between two runs of one mode so that their figures tell of different things.

    Only the seed of a workload may differ: it makes other prompts of the same shape.
    """
    found = _between(_conditions(one), _conditions(other))
    return tuple(difference.name for difference in found)


def measured_otherwise(ours: Sequence[RunStats], theirs: Sequence[RunStats]) -> tuple[str, ...]:
    """Names of what differs between two sets of runs, a scenario each, besides the settings that are compared.

    The seed may differ, as in `other_conditions`, and so may the connector, which is one of the settings.
    """
    found = _between(*({run.scenario: _conditions_of_a_setting(run) for run in runs} for runs in (ours, theirs)))
    return tuple(difference.name for difference in found)


def since(now: Mapping[str, Any], before: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between settings as they are now and as they were, each by its dotted name as one line."""
    return tuple(_before_and_now(one) for one in _between(now, before))


def changed_settings(now: RunStats, before: RunStats) -> tuple[str, ...]:
    """The same of all settings of two runs of one mode. The seed is none."""
    return tuple(_before_and_now(one) for one in differences(now, before) if one.name != "config.test.seed")


def unfair(found: tuple[Difference, ...], with_cache: RunStats, baseline: RunStats) -> tuple[str, ...]:
    """Reasons why the two runs cannot be held against each other although they sent the same workload."""
    reasons = [str(difference) for difference in found if difference.name in _MUST_BE_EQUAL]
    baseline_rounds = {summary.round: summary for summary in baseline.rounds}
    for summary in with_cache.rounds:
        other = baseline_rounds.get(summary.round)
        if other is not None and other.isolation != summary.isolation:
            reasons.append(
                f"round {summary.round}: isolation {summary.isolation} with cache, {other.isolation} in the baseline"
            )
    return tuple(reasons)


def _before_and_now(found: Difference) -> str:
    """Of a difference between two runs of one mode, of which the first is the newer one."""
    return f"{found.name} {found.baseline or 'absent'} before, {found.with_cache or 'absent'} now"


def _conditions(stats: RunStats) -> dict[str, Any]:
    engine = stats.provenance.engine
    return {
        "workload": {name: value for name, value in stats.workload.parameters.items() if name != "seed"},
        "engine": {"version": engine.version, "model": engine.model, "connector": engine.connector},
        "isolation": [summary.isolation for summary in stats.rounds],
    }


def _conditions_of_a_setting(stats: RunStats) -> dict[str, Any]:
    conditions = _conditions(stats)
    del conditions["engine"]["connector"]
    return conditions | {"concurrency": stats.config.get("test", {}).get("concurrency")}


def _settings(stats: RunStats) -> dict[str, Any]:
    return {
        "config": stats.config,
        "kvkit": stats.provenance.kvkit_version,
        "load generator": stats.provenance.host,
    }


def _told_by_engine(stats: RunStats) -> dict[str, Any]:
    engine = stats.provenance.engine
    facts = {
        "engine.version": engine.version,
        "engine.model": engine.model,
        "engine.connector": engine.connector,
        "flags": engine.flags,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _between(with_cache: Mapping[str, Any], baseline: Mapping[str, Any]) -> tuple[Difference, ...]:
    left, right = dict(_flatten(with_cache)), dict(_flatten(baseline))
    return tuple(
        Difference(name, _text(left.get(name, _ABSENT)), _text(right.get(name, _ABSENT)))
        for name in sorted(left | right)
        if left.get(name, _ABSENT) != right.get(name, _ABSENT)
    )


def _flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str | None:
    return None if value is _ABSENT else str(value)
