"""What a person sees in a terminal: a run while it goes on, and a comparison at its end.

Nothing is read as rich's markup, and text from servers is stripped of control characters.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from kvkit.config import Isolation
from kvkit.report import wording
from kvkit.report.escape import one_line
from kvkit.report.progress import RunReporter
from kvkit.results.comparison import Comparison, RoundComparison
from kvkit.results.effect import cache_effect
from kvkit.results.record import Record
from kvkit.results.stats import Engine, Mode, RoundSummary, RunStats
from kvkit.results.verdict import Outcome

_REDRAW_S = 0.2
"""At least so long between two drawings of the bar: drawing keeps the event loop from stamping tokens."""

_PLAIN_STEPS = 10
"""Lines of progress a round where there is no terminal."""

_PLAIN_WIDTH = 160

_STYLES: dict[Outcome, str] = {"met": "bold green", "not_met": "bold yellow", "unknown": "bold", "invalid": "bold red"}

_ISOLATION = {"none": "nothing is cleared between rounds", "device": "the device cache is cleared before each round"}


def reporter() -> RunReporter:
    """Shows a run on standard output: with a moving bar in a terminal, as plain lines elsewhere."""
    return TerminalReporter(Console(highlight=False), Console(stderr=True, highlight=False))


class TerminalReporter:
    """Tells a run in the order of the guide's section 4."""

    def __init__(self, console: Console, errors: Console) -> None:
        self._console = console
        self._errors = errors
        self._progress = _Bar(console) if console.is_terminal else _Lines(console)

    def run_started(self, mode: Mode, engine: Engine, isolation: Isolation) -> None:
        self._say(f"Mode: {mode}", "bold")
        told = (("version", engine.version), ("model", engine.model), ("connector", engine.connector))
        self._say("Engine: " + ", ".join(f"{name} {value or wording.UNKNOWN}" for name, value in told))
        self._say(f"Isolation: {_ISOLATION[isolation]}")

    def scenario_started(self, scenario: str, requests: int, rounds: int) -> None:
        self._say("")
        self._say(f"Scenario: {scenario}", "bold")
        self._say(f"Requests: {requests}, rounds: {rounds}")

    def round_started(self, number: int, rounds: int, requests: int) -> None:
        self._say("")
        name = wording.ROUND_NAMES[round_name(number)]
        self._say(f"Round {number}/{rounds} - {name}", "bold")
        self._progress.start(requests)

    def request_ended(self, record: Record) -> None:
        self._progress.advance()

    def round_ended(self, summary: RoundSummary) -> None:
        self._progress.stop()
        requests, sources = summary.requests, summary.tokens.by_source
        self._say(f"  Total requests: {requests.total}")
        self._say(f"  Successful requests: {requests.succeeded}")
        if requests.failed:
            self._say(f"  Failed requests: {wording.kinds(requests.failed_by_kind)}", "red")
        self._say(f"  Mean TTFT: {wording.number(summary.ttft_ms.mean)} ms")
        self._say(f"  Throughput: {wording.number(summary.throughput.requests_per_s, 2)} req/s")
        told = ", ".join(f"{name} {wording.count(value)}" for name, value in sources.model_dump().items())
        self._say(f"  Prompt tokens by source: {told}")
        for reason in summary.invalid_reasons:
            self._say(f"  {wording.validity(summary.valid).capitalize()}: {reason}", "red" if summary.valid is False else "")

    def scenario_ended(self, stats: RunStats, stats_path: Path) -> None:
        effect = cache_effect(stats)
        self._say("")
        self._say("Cache effect (cache-hit rounds against round 1)", "bold")
        for target in effect.targets:
            self._say(f"  Round {target.round}: {wording.target(target)}")
        self._say(f"  Verdict: {wording.run_verdict(stats.mode, effect.verdict)}", _STYLES[effect.verdict.outcome])
        self._say(f"  Kept in {stats_path}")

    def notice(self, text: str) -> None:
        self._say(f"Note: {text}", "yellow")

    def run_failed(self, message: str) -> None:
        self._progress.stop()
        self._errors.print(Text(message, "red"), soft_wrap=True)

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(Text(_safe(line), style), soft_wrap=True)
