"""What a run tells while it runs: the calls that `kvkit.bench` makes, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from kvkit.config import Isolation
from kvkit.results.record import Record
from kvkit.results.stats import Engine, Mode, RoundSummary, RunStats


class RunReporter(Protocol):
    """Shows a run to a person. Every call returns at once: requests are in flight meanwhile."""

    def run_started(self, mode: Mode, engine: Engine, isolation: Isolation) -> None:
        """The engine was looked at and nothing was sent yet."""

    def scenario_started(self, scenario: str, requests: int, rounds: int) -> None:
        """The requests of a scenario are made; each round sends `requests` of them."""

    def round_started(self, number: int, rounds: int, requests: int) -> None:
        """The stores are quiet, caches are cleared as asked, and the first request follows."""

    def request_ended(self, record: Record) -> None:
        """The record is on disk. Called once for each request of the round, failed ones included."""

    def round_ended(self, summary: RoundSummary) -> None:
        """All requests of the round have ended and the servers were looked at."""

    def scenario_ended(self, stats: RunStats, stats_path: Path) -> None:
        """The stats file is written."""

    def notice(self, text: str) -> None:
        """Something worth a line, at any time: a server whose counters can't be read, a warm-up that failed."""

    def run_failed(self, message: str) -> None:
        """The run ends here, without figures. The message is complete: what was seen, and what to do."""
