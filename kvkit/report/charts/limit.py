"""TTFT against the length of the prompt, with what loading and computing allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from kvkit.report import wording
from kvkit.report.charts.figure import Figure, Panel, Table, layered, mode_colour, mode_shape, rows_of, words
from kvkit.report.charts.theme import MODES, colour
from kvkit.results.comparison import Pair, RoundComparison, ScenarioComparison
from kvkit.results.curves import LimitLines, limit_lines, thinned

_PAIRS = 150
_HEIGHT = 260

_BOUND = "physical limit with cache"
_COMPUTE = "all of it computed"
_LINES = {_BOUND: ("with-cache", [1, 0]), _COMPUTE: ("muted", [8, 3, 2, 3])}


def limit(this: ScenarioComparison) -> Figure | None:
    """`None`: no request of a hit round told its tokens."""
    rounds = [
        (compared, shown, _lines(this, compared))
        for compared in this.rounds
        if compared.name == "cache_hit" and (shown := _shown(compared.pairs))
    ]
    if not rounds:
        return None
    return Figure(
        subject="limit",
        title="TTFT against prompt length, and the physical limit",
        told="; ".join(_told(this, compared, lines) for compared, _, lines in rounds) + ".",
        panels=tuple(
            Panel(wording.round_title(compared), (_chart(shown, lines),)) for compared, shown, lines in rounds
        ),
        table=Table(
            ("Round", "Request", "Prompt tokens", "TTFT with cache, ms", "TTFT in the baseline, ms"),
            tuple(row for compared, shown, _ in rounds for row in _table_rows(compared, shown)),
            text_columns=2,
        ),
        reading="Physical limit: loading the round's share of tokens from the store and computing the rest, and "
        "nothing else. Break-even: prompts of more cached tokens come sooner from the store than by computing.",
        notes=tuple(_notes(this, rounds)),
    )


def _shown(pairs: Sequence[Pair]) -> list[Pair]:
    """Evenly by rank of prompt length, so that the shortest and the longest are among them."""
    told = [pair for pair in pairs if pair.with_cache.prompt_tokens and pair.with_cache.ttft_s and pair.baseline.ttft_s]
    return thinned(sorted(told, key=lambda pair: pair.with_cache.prompt_tokens or 0), _PAIRS)


def _lines(this: ScenarioComparison, compared: RoundComparison) -> LimitLines | None:
    """Of the newest pair of runs: a limit is of one run's counters."""
    newest = this.run_pairs[-1]
    return next((limit_lines(each.with_cache) for each in newest.rounds if each.number == compared.number), None)


def _why_unknown(this: ScenarioComparison, compared: RoundComparison) -> str:
    limits = [each.with_cache.limit for each in this.run_pairs[-1].rounds if each.number == compared.number]
    return limits[0].ttft_bound_ms.source if limits and limits[0] else "the run kept none"


def _told(this: ScenarioComparison, compared: RoundComparison, lines: LimitLines | None) -> str:
    name = wording.round_title(compared)
    if lines is None:
        return f"{name}: the physical limit is unknown: {_why_unknown(this, compared)}"
    pays = (
        f"the cache pays from {wording.count(lines.break_even_tokens)} cached tokens on"
        if lines.break_even_tokens is not None
        else "there is no length from which the cache pays"
    )
    return (
        f"{name}: a prompt token takes {lines.compute_ms_per_token:.3g} ms to compute, and at the physical limit "
        f"{lines.bound_ms_per_token:.3g} ms with the cache; {pays}"
    )


def _notes(
    this: ScenarioComparison, rounds: Sequence[tuple[RoundComparison, list[Pair], LimitLines | None]]
) -> Iterator[str]:
    for compared, _, lines in rounds:
        if lines is None:
            yield f"{wording.round_title(compared)}: the physical limit is unknown: {_why_unknown(this, compared)}."
    if len(this.run_pairs) > 1:
        yield "The lines are those of the newest pair of runs."
    most = max(len(compared.pairs) for compared, *_ in rounds)
    if most > _PAIRS:
        yield f"Of {most:,} pairs {_PAIRS} are drawn, evenly by rank of prompt length."


def _chart(shown: Sequence[Pair], lines: LimitLines | None) -> alt.LayerChart:
    points = list(_points(shown))
    longest = max(point["tokens"] for point in points)
    highest = max(point["ttft"] for point in points)
    legend = alt.Legend(title=None, orient="top")
    marks = (
        alt.Chart(rows_of(points))
        .mark_point(filled=True, size=46, opacity=0.7)
        .encode(
            x=alt.X(
                "tokens:Q",
                title="prompt tokens",
                scale=alt.Scale(domain=[0, longest], nice=True),
                axis=alt.Axis(format=",~r", tickCount=5),
            ),
            y=alt.Y(
                "ttft:Q",
                title="TTFT, ms",
                scale=alt.Scale(domain=[0, highest], nice=True),
                axis=alt.Axis(format=",~r", tickCount=5),
            ),
            color=mode_colour(legend),
            shape=mode_shape(legend),
            tooltip=[
                alt.Tooltip("id:N", title="request"),
                "mode:N",
                alt.Tooltip("tokens:Q", title="prompt tokens", format=","),
                alt.Tooltip("ttft:Q", title="TTFT, ms", format=",.1f"),
            ],
        )
    )
    below, above = _limit_layers(lines, longest, highest) if lines else ([], [])
    return layered(*below, marks, *above, height=_HEIGHT)


def _points(shown: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    for pair in shown:
        for mode, record in zip(MODES, (pair.with_cache, pair.baseline), strict=True):
            assert record.ttft_s is not None
            yield {
                "id": record.request_id,
                "mode": mode,
                "tokens": pair.with_cache.prompt_tokens,
                "ttft": round(record.ttft_s * 1000, 2),
            }


def _limit_layers(lines: LimitLines, longest: int, highest: float) -> tuple[list[alt.Chart], list[alt.Chart]]:
    """The lines, and their names, which stand above the marks."""
    below: list[alt.Chart] = []
    above: list[alt.Chart] = []
    slopes = {_BOUND: lines.bound_ms_per_token, _COMPUTE: lines.compute_ms_per_token}
    for name, slope in slopes.items():
        ink, dash = _LINES[name]
        # To the end of the plot, at whichever side the line leaves it.
        end = min(longest, highest / slope)
        rows = [{"tokens": round(tokens, 1), "ttft": round(tokens * slope, 3)} for tokens in (0.0, end)]
        line = alt.Chart(rows_of(rows)).encode(x="tokens:Q", y="ttft:Q")
        below.append(line.mark_line(color=colour(ink), strokeDash=dash, strokeWidth=1.8, clip=True))
        place = alt.Chart(rows_of([{**rows[-1], "text": name}])).encode(x="tokens:Q", y="ttft:Q")
        above += words(place, "text:N", align="right", baseline="bottom", dx=-6, dy=-4, color=colour("ink"))
    if lines.break_even_tokens is not None and lines.break_even_tokens <= longest:
        at = {"tokens": lines.break_even_tokens, "text": f"break-even: {lines.break_even_tokens:,.0f} tokens"}
        rule = alt.Chart(rows_of([at])).encode(x="tokens:Q")
        below.append(rule.mark_rule(color=colour("ink"), strokeDash=[2, 3]))
        above += words(rule, "text:N", align="left", baseline="top", dx=5, y=4, color=colour("ink"))
    return below, above


def _table_rows(compared: RoundComparison, shown: Sequence[Pair]) -> Iterator[tuple[str, ...]]:
    for pair in shown:
        ours, theirs = pair.with_cache, pair.baseline
        assert ours.ttft_s is not None
        assert theirs.ttft_s is not None
        yield (
            wording.round_title(compared),
            ours.request_id,
            wording.count(ours.prompt_tokens),
            wording.number(ours.ttft_s * 1000),
            wording.number(theirs.ttft_s * 1000),
        )
