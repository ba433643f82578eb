"""Where the prompt tokens of each round and mode came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from kvkit.report import wording
from kvkit.report.charts.figure import Figure, Panel, Table, layered, rows_of, words
from kvkit.report.charts.theme import MODES, SOURCES, colour, pattern
from kvkit.results.comparison import ModeFigures, RoundComparison, ScenarioComparison

_ROW_HEIGHT = 34
_LABEL_WIDTH = 88
"""Pixels. A part that is narrower has no room for its label."""


def tokens(this: ScenarioComparison) -> Figure:
    sides = [(compared, mode, side) for compared in this.rounds for mode, side in _sides(compared)]
    return Figure(
        subject="tokens",
        title="Where the prompt tokens came from",
        told="; ".join(_told(compared, mode, side) for compared, mode, side in sides) + ".",
        panels=(Panel("", (_chart([row for each in sides for row in _rows(*each)]),)),),
        table=Table(
            columns=("Round", "Mode", "Computed", "Device", "External", "Prompt tokens"),
            rows=tuple(
                (
                    wording.round_title(compared),
                    mode,
                    *(wording.count(value) for value in side.by_source.model_dump().values()),
                    wording.count(side.prompt_tokens),
                )
                for compared, mode, side in sides
            ),
            text_columns=2,
        ),
        reading="By the engine's counters: computed, found in the engine's own prefix cache (device), or loaded by the "
        "connector (external).",
    )


def _sides(compared: RoundComparison) -> tuple[tuple[str, ModeFigures], ...]:
    return tuple(zip(MODES, (compared.with_cache, compared.baseline), strict=True))


def _known(side: ModeFigures) -> dict[str, int]:
    known = {name: value for name, value in side.by_source.model_dump().items() if value is not None}
    return known or {"unknown": side.prompt_tokens}


def _told(compared: RoundComparison, mode: str, side: ModeFigures) -> str:
    parts = ", ".join(f"{value:,} {name}" for name, value in _known(side).items())
    return f"{wording.round_title(compared)}, {mode}: {parts}"


def _rows(compared: RoundComparison, mode: str, side: ModeFigures) -> Iterator[dict[str, Any]]:
    known = _known(side)
    total = sum(known.values())
    for name, value in known.items():
        share = value / total if total else 0.0
        yield {
            "row": f"{compared.number} {mode}",
            "source": name,
            "tokens": value,
            "position": SOURCES.index(name),
            "share": round(share, 3),
            "label": f"{name} {share:.0%}",
        }


def _chart(rows: list[dict[str, Any]]) -> alt.LayerChart:
    shown = [source for source in SOURCES if any(row["source"] == source for row in rows)]
    fills = alt.Scale(domain=shown, range=[pattern(source) for source in shown])
    base = alt.Chart(rows_of(rows)).encode(
        y=alt.Y("row:N", title=None, sort=None, axis=alt.Axis(ticks=False, domain=False, labelColor=colour("ink"))),
        order=alt.Order("position:Q"),
        tooltip=[alt.Tooltip("row:N", title="Round, mode"), "source:N", alt.Tooltip("tokens:Q", format=",")],
    )
    x = alt.X(
        "tokens:Q",
        title="prompt tokens of the round",
        axis=alt.Axis(format=",~r", tickCount=5),
        scale=alt.Scale(nice=False),
        stack="zero",
    )
    bars = base.mark_bar(height=_ROW_HEIGHT * 0.62, stroke=colour("ink"), strokeWidth=0.8).encode(
        x=x, fill=alt.Fill("source:N", scale=fills, legend=alt.Legend(title=None, orient="top", symbolType="square"))
    )
    labels = words(
        base.encode(x=alt.X("tokens:Q", stack="zero", bandPosition=0.5)),
        alt.when(f"datum.share * width > {_LABEL_WIDTH}").then("label:N").otherwise(alt.value("")),
        fontSize=11,
        fontWeight="bold",
        color=colour("ink"),
    )
    return layered(bars, *labels, height=_ROW_HEIGHT * len({row["row"] for row in rows}))
