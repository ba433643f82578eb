"""Look at one host, then judge what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .check import Check, Facts
from .finding import SKIP, Finding, Verdict, unknown
from .host import Host
from .registry import CHECKS, GATHERERS, Gatherer
from .target import Target


def gather(host: Host, target: Target, gatherers: Mapping[str, Gatherer] = GATHERERS) -> dict[str, Any]:
    """The facts of one host: JSON values, by section. A gatherer that breaks costs its own section alone."""
    return {section: _looked(gatherer, host, target) for section, gatherer in gatherers.items()}


def judge(facts: Facts, target: Target, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """The findings of every check, in the order of the registry."""
    return [finding for check in checks for finding in _judged(check, facts, target)]


def _looked(gatherer: Gatherer, host: Host, target: Target) -> dict[str, Any]:
    try:
        return gatherer(host, target)
    except Exception as error:  # whatever a strange host does to one gatherer, the others still look
        return {"error": f"{type(error).__name__}: {error}"}


def _judged(check: Check, facts: Facts, target: Target) -> list[Finding]:
    sections = [facts.get(section, {"error": "not gathered"}) for section in check.needs]
    broken = [f"{name}: {section['error']}" for name, section in zip(check.needs, sections) if "error" in section]
    if broken:
        return [_named(check, unknown("; ".join(broken)))]
    try:
        verdicts = list(check.judge(sections[0] if len(sections) == 1 else tuple(sections), target))
    except Exception as error:  # a fault of this check must not hide what the others found
        verdicts = [unknown(f"the check broke: {type(error).__name__}: {error}", "report it, with this host's facts")]
    return [_named(check, verdict) for verdict in verdicts or [Verdict(SKIP, "does not apply here")]]


def _named(check: Check, verdict: Verdict) -> Finding:
    return Finding(
        id=check.id,
        status=verdict.status,
        seen=verdict.seen,
        expected=verdict.expected or check.looks_at,
        mend=verdict.mend or check.mend,
        doc=check.doc,
        subject=verdict.subject,
    )
