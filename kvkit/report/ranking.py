"""A sweep over settings, ranked: the table in the terminal, and the Markdown report. They compute nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvkit.report import wording
from kvkit.report.errors import ReportError
from kvkit.report.escape import code, escape, for_terminal
from kvkit.results.candidates import NotRanked
from kvkit.results.ranking import AgainstBest, Ranking, Standing

AS_IT_IS = "as the inventory has it"

_AGAINST_BEST: dict[AgainstBest, str] = {
    "best": "best",
    "no_different": "no different from the best",
    "slower": "slower than the best",
    "unknown": wording.UNKNOWN,
}

_HEADINGS = ("Candidate", "Hit TTFT, ms", "Speed-up", "Over the best", "Verdict", "Cold TTFT, ms", "TPOT, ms")
_NUMBERS = {"Hit TTFT, ms", "Cold TTFT, ms", "TPOT, ms"}

_PLAIN_WIDTH = 200


def print_ranking(ranking: Ranking, written: Path, console: Console) -> None:
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    if ranking.standings:
        table = Table(title="Candidates, the best first", title_justify="left")
        for heading in _HEADINGS:
            table.add_column(heading, justify="right" if heading in _NUMBERS else "left")
        for standing in ranking.standings:
            table.add_row(*(Text(for_terminal(cell)) for cell in (label(standing.settings), *_cells(standing))))
        console.print(table)
    lines = [f"{_name(each)}: {each.outcome}: {each.reason}" for each in ranking.not_ranked]
    lines += [_drift(ranking), _choice(ranking), *_snippet(ranking).splitlines(), f"Report: {written}"]
    for line in lines:
        console.print(Text(for_terminal(line)), soft_wrap=True)


def write_ranking(ranking: Ranking, output: Path) -> None:
    """Write the Markdown report; an older one of the same name is replaced.

    Raises:
        ReportError: `output` is one of the results, or cannot be written.
    """
    if output.suffix in {".json", ".jsonl"}:
        raise ReportError(f"{output}: results end so, and are not replaced: choose another --output")
    try:
        output.write_text(render(ranking), encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{output}: cannot be written: {error.strerror}") from error


def render(ranking: Ranking) -> str:
    return "\n".join(_report(ranking))


def label(settings: Mapping[str, Any]) -> str:
    """A candidate on one line: each variable, and each key of a variable that is a mapping, with its value."""
    return ", ".join(_flat(settings)) or AS_IT_IS


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}={told}"


def _report(ranking: Ranking) -> Iterator[str]:
    yield from ("# Settings, ranked", "", f"**{escape(_choice(ranking))}**", "")
    if snippet := _snippet(ranking):
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", snippet)), default=0))
        yield from (f"{fence}yaml", *snippet.splitlines(), fence, "")
    yield from ("## Candidates, the best first", "")
    yield from _table(ranking)
    if ranking.not_ranked:
        yield from ("", "## Not ranked", "", "| Candidate | Outcome | Reason |", "| --- | --- | --- |")
        for each in ranking.not_ranked:
            yield f"| {code(_name(each))} | {each.outcome} | {escape(each.reason)} |"
    yield from ("", "## How to read it", "", *_explanation(ranking), "")


def _table(ranking: Ranking) -> Iterator[str]:
    if not ranking.standings:
        yield "None has a valid result."
        return
    yield f"| {' | '.join(_HEADINGS)} |"
    yield f"| {' | '.join('---:' if heading in _NUMBERS else '---' for heading in _HEADINGS)} |"
    for standing in ranking.standings:
        cells: list[Markup] = [code(label(standing.settings)), *(escape(cell) for cell in _cells(standing))]
        yield f"| {' | '.join(cells)} |"


def _explanation(ranking: Ranking) -> Iterator[str]:
    others = max(len(ranking.standings) - 1, 1)
    yield "- TTFT: the geometric mean over the scenarios of the median of each one's requests. Hits are the rounds"
    yield "  after the first, cold is the first."
    yield "- Speed-up: the hits' TTFT without the cache over that with the candidate, paired by request, with its 95 %"
    yield f"  interval. Measurements of the service without the cache: {ranking.baselines}."
    yield "- Over the best: the candidate's TTFT over the best one's. The intervals hold together in 95 of 100 sweeps:"
    yield f"  each is taken at 1 - 0.05 / {others}. With 95 % confidence the candidate that is truly best is the best"
    yield "  one here, or among those that are no different."
    yield f"- {escape(_drift(ranking))}"


def _cells(standing: Standing) -> tuple[str, ...]:
    return (
        wording.number(standing.ttft_ms),
        wording.speedup(standing.speedup),
        "1" if standing.verdict == "best" else wording.speedup(standing.behind),
        _AGAINST_BEST[standing.verdict],
        wording.number(standing.cold_ttft_ms),
        wording.number(standing.tpot_ms, 2),
    )


def _name(each: NotRanked) -> str:
    return "the baseline" if each.mode == "baseline" else label(each.settings)


def _drift(ranking: Ranking) -> str:
    known = ranking.noise_floor.factor is not None
    floor = (
        f"Differences inside the noise floor of {wording.noise_floor(ranking.noise_floor)} are none." if known else ""
    )
    if ranking.drift is None:
        return f"Drift is unknown: it takes a valid baseline before the candidates and one after them. {floor}".strip()
    return (
        f"Drift: the first baseline over the one furthest from it is {wording.speedup(ranking.drift)}. {floor}".strip()
    )


def _choice(ranking: Ranking) -> str:
    chosen = ranking.choice.settings
    if chosen is None:
        return f"Nothing to set: {ranking.choice.reason}."
    return (
        f"Keep the inventory as it is: {ranking.choice.reason}."
        if not chosen
        else f"Set this: {ranking.choice.reason}."
    )


def _snippet(ranking: Ranking) -> str:
    """What to paste into the inventory; empty where it can stay as it is."""
    chosen = ranking.choice.settings
    return yaml.safe_dump(chosen, sort_keys=True, allow_unicode=True, width=1000) if chosen else ""
