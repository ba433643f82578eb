"""Judge recorded facts with the real registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvkit.checks.finding import ERROR, FAIL, WARN, Finding
from kvkit.checks.registry import CHECKS
from kvkit.checks.run import judge
from kvkit.checks.target import Target


def findings(facts: Mapping[str, Any], target: Target) -> list[Finding]:
    """What all checks say that need nothing beyond these sections."""
    return judge(facts, target, [check for check in CHECKS if set(check.needs) <= set(facts)])


def bad(facts: Mapping[str, Any], target: Target) -> dict[str, str]:
    """Ids that fail, warn or could not look, with their status: a healthy host gives none, a planted fault its own."""
    return {found.id: found.status for found in findings(facts, target) if found.status in (FAIL, WARN, ERROR)}
