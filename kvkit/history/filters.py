"""Which runs of a history are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kvkit.history.past import PastRun
from kvkit.results.stats import Mode


@dataclass(frozen=True, slots=True)
class Filters:
    """What a run must have; `None`: anything."""

    scenario: str | None = None
    mode: Mode | None = None
    model: str | None = None
    since: datetime | None = None
    """In UTC where it has no zone."""

    def choose(self, runs: Sequence[PastRun]) -> list[PastRun]:
        since = self.since and (self.since if self.since.tzinfo else self.since.replace(tzinfo=UTC))
        return [
            run
            for run in runs
            if self.scenario in (None, run.scenario)
            and self.mode in (None, run.mode)
            and self.model in (None, run.model)
            and (since is None or run.started >= since)
        ]
