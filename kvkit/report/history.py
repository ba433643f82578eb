"""What a person sees of the runs of a results folder: the list, and what could not be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvkit.history.folder import History
from kvkit.history.past import PastRound, PastRun
from kvkit.history.trend import Trend
from kvkit.report import wording
from kvkit.report.escape import for_terminal

_HEADINGS = ("Started (UTC)", "Run", "Scenario", "Mode", "Connector", "TTFT p50 by round, ms", "Hit ratio", "Valid")

_PLAIN_WIDTH = 160


def print_history(history: History, runs: Sequence[PastRun], console: Console) -> None:
    """The runs that were asked for, oldest first."""
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    table = Table(
        title=Text(line(f"{len(runs)} of {len(history.runs)} runs in {history.results_dir}")),
        title_justify="left",
        box=box.HEAVY_HEAD if console.is_terminal else box.ASCII,
    )
    for heading in _HEADINGS:
        table.add_column(heading)
    for run in runs:
        table.add_row(*(Text(line(cell)) for cell in _cells(run)))
    console.print(table)


def print_rest(history: History, console: Console) -> None:
    """What could not be read, each file with the reason, and what else is worth saying."""
    for path, reason in history.not_read:
        say(console, f"Not read: {path}: {reason}", "yellow")
    for notice in history.notices:
        say(console, f"Note: {notice}", "yellow")


def history_as_json(history: History, runs: Sequence[PastRun], trends: Sequence[Trend] | None) -> str:
    """The same for machines. Times in UTC, milliseconds; `null` is unknown."""
    document: dict[str, Any] = {
        "schema": 1,
        "results_dir": str(history.results_dir),
        "runs": [_run_as_dict(run) for run in runs],
        "not_read": [{"path": str(path), "reason": reason} for path, reason in history.not_read],
        "notices": list(history.notices),
    }
    if trends is not None:
        document["trends"] = [_trend_as_dict(trend) for trend in trends]
    return json.dumps(document, indent=2, allow_nan=False)


def line(text: str) -> str:
    """On one line, and safe in a terminal."""
    return for_terminal(" ".join(text.split()))


def say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(line(text), style), soft_wrap=True)


def _cells(run: PastRun) -> tuple[str, ...]:
    last = run.rounds[-1] if run.rounds else None
    return (
        f"{run.started:%Y-%m-%d %H:%M}",
        run.run_id,
        run.scenario,
        run.mode,
        run.connector or wording.UNKNOWN,
        "  ".join(wording.number(one.ttft_ms) for one in run.rounds),
        wording.share(last.hit_ratio if last else None),
        wording.validity(run.valid),
    )


def _run_as_dict(run: PastRun) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "run_id": run.run_id,
        "mode": run.mode,
        "scenario": run.scenario,
        "started": run.started.isoformat(),
        "valid": run.valid,
        "invalid_reasons": list(run.invalid_reasons),
        "model": run.model,
        "engine_version": run.engine_version,
        "connector": run.connector,
        "kvkit_version": run.kvkit_version,
        "host": run.host,
        "fingerprint": run.fingerprint,
        "rounds": [_round_as_dict(one) for one in run.rounds],
    }


def _round_as_dict(one: PastRound) -> dict[str, Any]:
    interval = one.ttft_interval
    return {
        "round": one.number,
        "name": one.name,
        "valid": one.valid,
        "succeeded": one.succeeded,
        "ttft_p50_ms": one.ttft_ms,
        "ttft_p50_interval_ms": interval and [interval.low, interval.high],
        "tpot_mean_ms": one.tpot_ms,
        "requests_per_s": one.requests_per_s,
        "hit_ratio": one.hit_ratio,
    }


def _trend_as_dict(trend: Trend) -> dict[str, Any]:
    shift = trend.shift
    return {
        "scenario": trend.scenario,
        "mode": trend.mode,
        "round": trend.number,
        "told_apart": list(trend.told_apart),
        "run_ids": [point.run.run_id for point in trend.points],
        "judged": trend.judged,
        "shift": shift
        and {
            "run_id": shift.first.run_id,
            "started": shift.first.started.isoformat(),
            "ratio": shift.ratio,
            "interval": [shift.interval.low, shift.interval.high],
            "chance": shift.chance,
        },
    }
