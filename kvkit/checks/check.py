"""A check: a stable name, what it is for, and the function that judges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .finding import Verdict
from .target import Target

Facts = Mapping[str, Any]
"""What was gathered on one host, JSON values only: section -> its facts, or {"error": why it could not look}."""

Judge = Callable[[Any, Target], Iterable[Verdict]]
"""From the facts of the check's section (a tuple of them, where it needs several) and what the host is meant to be."""


@dataclass(frozen=True)
class Check:
    """One registered check; `judge` is tested on recorded facts."""

    id: str
    """Stable: people grep for it. `area.thing.property`, lower case."""
    looks_at: str
    why: str
    mend: str
    needs: tuple[str, ...]
    """Sections of the facts that `judge` is given, in this order."""
    judge: Judge
    """Yields one verdict a subject. No verdict at all stands for: does not apply here."""

    @property
    def doc(self) -> str:
        """The page of the documentation that is generated from this entry."""
        return f"docs/checks/{self.id}.md"


def check(id: str, *, looks_at: str, why: str, mend: str, needs: tuple[str, ...]) -> Callable[[Judge], Check]:
    """Make a judging function a check. The mend is the general one; a verdict may give a more exact one."""

    def make(judge: Judge) -> Check:
        return Check(id, looks_at, why, mend, needs, judge)

    return make
