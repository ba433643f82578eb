"""Runs against earlier ones in a terminal: what changed, and what a gate says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvkit.history.gate import Case, Gate, Outcome
from kvkit.history.past import PastRun
from kvkit.history.regression import Basis, Change, Regression, RoundRegression
from kvkit.report import wording
from kvkit.report.history import line, say
from kvkit.report.trend import signed

_PLAIN_WIDTH = 160

OUTCOMES: dict[Outcome, str] = {
    "regression": "REGRESSION",
    "invalid": "INVALID",
    "cannot_tell": "cannot tell",
    "pass": "pass",
}

_STYLES: dict[Outcome, str] = {
    "regression": "bold red",
    "invalid": "bold red",
    "cannot_tell": "bold yellow",
    "pass": "bold green",
}

_BASIS: dict[Basis, str] = {
    "runs": "each run counts as one, so how far runs of the same thing lie apart is in them",
    "pairs": "the same prompts both times, paired; how far two runs of the same thing lie apart is not in them",
    "requests": "other prompts of the same shape, not paired; how far runs of the same thing lie apart is not in them",
}


def print_regressions(found: Sequence[Regression], console: Console) -> None:
    """What is not as it was, with intervals, and against which runs."""
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    table = Table(title="now / before", title_justify="left", box=box.HEAVY_HEAD if console.is_terminal else box.ASCII)
    for heading in ("Scenario", "Mode", "Round", "TTFT p50, ms", "Rise (95 %)", "Of", "TPOT, ms", "Requests/s"):
        table.add_column(heading)
    for regression in found:
        for one in regression.rounds:
            table.add_row(
                *(Text(line(cell)) for cell in (regression.scenario, regression.mode, *_cells(regression, one)))
            )
    console.print(table)
    for text in _remarks(found):
        say(console, text)


def print_gate(gate: Gate, console: Console) -> None:
    """A line a case, what the figures rest on, and the outcome."""
    for case in gate.cases:
        say(console, f"{OUTCOMES[case.judged.outcome]}: {case_words(case)}", _STYLES[case.judged.outcome])
    for text in _remarks(list(dict.fromkeys(case.regression for case in gate.cases))):
        say(console, text)
    say(
        console,
        f"Gate: {OUTCOMES[gate.outcome]} (TTFT may rise by {gate.limit_percent:g} %)",
        _STYLES[gate.outcome],
    )


def case_words(case: Case) -> str:
    """The case with its figure, its interval and the reason."""
    change = case.round.change if case.round else None
    parts = (case.name, change and figure(change), case.judged.reason)
    return ": ".join(part for part in parts if part)


def figure(change: Change) -> str:
    """How far the median TTFT rose, how sure that is, and of what it is made."""
    return f"median TTFT {_rise(change)}, {_support(change)}"


def _rise(change: Change) -> str:
    if change.interval is None:
        return f"{signed(change.rise_percent)} (no interval)"
    low, high = ((bound - 1) * 100 for bound in (change.interval.low, change.interval.high))
    return f"{signed(change.rise_percent)} ({signed(low)} to {signed(high)})"


def _support(change: Change) -> str:
    if change.basis == "pairs":
        return f"{change.now} pairs"
    return f"{change.now} against {change.before} {change.basis}"


def _cells(regression: Regression, one: RoundRegression) -> tuple[str, ...]:
    change = one.change
    rise = wording.EFFECTS["invalid"] if regression.invalid else (_rise(change) if change else wording.UNKNOWN)
    return (
        f"{one.number} {wording.ROUND_NAMES[one.name]}",
        wording.both(*one.ttft_ms),
        rise,
        _support(change) if change else "",
        wording.both(*one.tpot_ms, 2),
        wording.both(*one.requests_per_s, 2),
    )


def _remarks(found: Sequence[Regression]) -> Iterator[str]:
    """What the figures are of, what cannot be told, and what is not as it was."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in found:
        alike.setdefault((_ids(one.now), _ids(one.before)), []).append(_scope(one))
    for (now, before), scopes in alike.items():
        yield f"Run {now} against {before or 'none'}: {'; '.join(scopes)}"
    for basis in dict.fromkeys(each.change.basis for one in found for each in one.rounds if each.change):
        yield f"Intervals of {basis}: {_BASIS[basis]}"
    for one in found:
        if one.nothing_before is not None:
            yield f"{_scope(one)}: {one.nothing_before}"
        for reason in one.invalid:
            yield f"{_scope(one)}: {wording.EFFECTS['invalid']}: run {reason}"
    for setting in dict.fromkeys(setting for one in found for setting in one.settings):
        yield f"Not as it was: {setting}"


def _scope(one: Regression) -> str:
    return f"{one.scenario}, {one.mode}"


def _ids(runs: Sequence[PastRun]) -> str:
    return ", ".join(dict.fromkeys(run.run_id for run in runs))
