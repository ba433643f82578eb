"""What a person sees in a terminal: a run while it goes on, and a comparison at its end.

Nothing is read as rich's markup, and text from servers is stripped of control characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvkit.config import Isolation
from kvkit.report import wording
from kvkit.report.escape import for_terminal
from kvkit.report.progress import RunReporter
from kvkit.report.round_progress import MovingProgress, ProgressLines, RoundProgress
from kvkit.results.comparison import Comparison, RoundComparison
from kvkit.results.effect import cache_effect
from kvkit.results.record import Record
from kvkit.results.stats import Engine, Mode, RoundSummary, RunStats
from kvkit.results.summary import round_name
from kvkit.results.verdict import Effect

_PLAIN_WIDTH = 160

_STYLES: dict[Effect, str] = {
    "better": "bold green",
    "worse": "bold yellow",
    "no_difference": "bold",
    "unknown": "bold",
    "invalid": "bold red",
}

_ISOLATION = {
    "none": "nothing is cleared between rounds",
    "device": "the device cache is cleared before each round",
    "restart": "the engine is restarted before each round after the first",
}


def reporter() -> RunReporter:
    """Shows a run on standard output: with a moving bar in a terminal, as plain lines elsewhere."""
    return TerminalReporter(Console(highlight=False), Console(stderr=True, highlight=False))


class TerminalReporter:
    """Tells a run in the order of the guide's section 4."""

    def __init__(self, console: Console, errors: Console) -> None:
        self._console = console
        self._errors = errors
        self._progress: RoundProgress = MovingProgress(console) if console.is_terminal else ProgressLines(console)

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
        self._progress.add(record)

    def round_ended(self, summary: RoundSummary) -> None:
        self._progress.stop()
        requests, sources = summary.requests, summary.tokens.by_source
        self._say(f"  Total requests: {requests.total}")
        self._say(f"  Successful requests: {requests.succeeded}")
        if requests.failed:
            self._say(f"  Failed requests: {wording.kinds(requests.failed_by_kind)}", "red")
        self._say(f"  Mean TTFT: {wording.number(summary.ttft_ms.mean)} ms")
        if (from_scheduled := summary.ttft_from_scheduled_ms) is not None:
            self._say(f"  Mean TTFT from scheduled: {wording.number(from_scheduled.mean)} ms")
        self._say(f"  Throughput: {wording.number(summary.throughput.requests_per_s, 2)} req/s")
        if (goodput := summary.goodput) is not None:
            good = f"{wording.count(goodput.requests)} of {wording.count(requests.total)} requests"
            self._say(
                f"  Goodput: {wording.number(goodput.requests_per_s, 2)} req/s ({good} within "
                f"{wording.objectives(goodput)})"
            )
        told = (f"{wording.count(value)} {name}" for name, value in sources.model_dump().items())
        self._say(f"  Prompt tokens: {', '.join(told)}")
        achieved, ideal = wording.share(summary.tokens.hit_ratio), wording.share(summary.tokens.ideal_hit_ratio)
        self._say(f"  Hit ratio: {achieved}, at best {ideal}")
        if summary.limit is not None:
            self._say(f"  Limit: {wording.limit(summary.limit)}")
        for reason in summary.invalid_reasons:
            self._say(f"  {wording.validity(summary.valid)}: {reason}", "red" if summary.valid is False else "yellow")

    def scenario_ended(self, stats: RunStats, stats_path: Path) -> None:
        effect = cache_effect(stats)
        self._say("")
        self._say("Cache effect: cache-hit rounds against the cold start", "bold")
        for target in effect.targets:
            self._say(f"  Round {target.round} {target.name}: {wording.percent(target.value_percent)}")
        self._say(f"  Verdict: {wording.run_verdict(stats.mode, effect)}")
        self._say(f"  Kept in {stats_path}")

    def notice(self, text: str) -> None:
        self._say(f"Note: {text}", "yellow")

    def run_failed(self, message: str) -> None:
        self._progress.stop()
        _print(self._errors, message, "red")

    def _say(self, line: str, style: str = "") -> None:
        _print(self._console, line, style)


def print_comparison(comparison: Comparison, reports: Sequence[Path], pictures: int) -> None:
    """The comparison in short, and which reports tell more; `pictures` lie beside the first of them."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(_table(comparison))
    _print(console, wording.verdict_sentence(comparison), _STYLES[comparison.verdict.effect])
    for line in [*wording.verdict_lines(comparison), *wording.target_lines(comparison)]:
        _print(console, line)
    for path, reason in comparison.not_used:
        _print(console, f"Not used: {path}: {reason}")
    for report in reports:
        _print(console, f"Report: {report}")
    if pictures:
        _print(console, f"Charts: {pictures} files beside {reports[0]}")


def _table(comparison: Comparison) -> Table:
    table = Table(title="with cache / baseline", title_justify="left")
    for heading in ("Scenario", "Round", "Pairs", "TTFT p50, ms", "Speed-up (95 %)", "Requests/s", "Gain", "TPOT, ms"):
        table.add_column(heading, justify="left" if heading in {"Scenario", "Round"} else "right")
    for scenario in comparison.scenarios:
        for compared in scenario.rounds:
            table.add_row(*(Text(for_terminal(cell)) for cell in (scenario.scenario, *_cells(compared))))
    return table


def _cells(compared: RoundComparison) -> tuple[str, ...]:
    ours, theirs = compared.with_cache, compared.baseline
    changes, speedups = compared.changes, compared.speedups
    invalid = wording.EFFECTS["invalid"]
    return (
        f"{compared.number} {wording.ROUND_NAMES[compared.name]}",
        str(len(compared.pairs)),
        wording.both(ours.ttft_ms.p50, theirs.ttft_ms.p50),
        wording.speedup(speedups.ttft_median) if speedups else invalid,
        wording.both(ours.requests_per_s, theirs.requests_per_s, 2),
        wording.percent(changes.throughput_gain) if changes else invalid,
        wording.both(ours.tpot_ms.mean, theirs.tpot_ms.mean, 2),
    )


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(for_terminal(line), style), soft_wrap=True)
