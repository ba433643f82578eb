"""Throughput, and the time per output token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from kvkit.report import wording
from kvkit.report.charts.figure import Figure, Panel, Table, layered, mode_colour, mode_shape, rows_of
from kvkit.report.charts.theme import MODES, colour
from kvkit.results.comparison import ModeFigures, RoundComparison, ScenarioComparison

_ROW_HEIGHT = 34
Side = tuple[RoundComparison, str, ModeFigures]


def rates(this: ScenarioComparison) -> Figure:
    sides: list[Side] = [
        (compared, mode, side)
        for compared in this.rounds
        for mode, side in zip(MODES, (compared.with_cache, compared.baseline), strict=True)
    ]
    rows = list(_rows(sides))
    return Figure(
        subject="rates",
        title="Throughput and time per output token",
        told="; ".join(_told(compared) for compared in this.rounds) + ".",
        panels=(
            Panel("Requests per second", (_throughput(rows),)),
            Panel("Time per output token (TPOT), ms", (_tpot(rows),)),
        ),
        table=Table(
            ("Round", "Mode", "Requests/s", "TPOT mean, ms", "TPOT p50, ms", "TPOT p99, ms"),
            tuple(
                (
                    wording.round_title(compared),
                    mode,
                    wording.number(side.requests_per_s, 2),
                    *(wording.number(value, 2) for value in (side.tpot_ms.mean, side.tpot_ms.p50, side.tpot_ms.p99)),
                )
                for compared, mode, side in sides
            ),
            text_columns=2,
        ),
        reading="TPOT: the mark is the mean, the line goes from the median to the 99th percentile. Decoding does not "
        "depend on where the prompt's KV came from, so both modes should be close.",
    )


def _told(compared: RoundComparison) -> str:
    ours, theirs = compared.with_cache, compared.baseline
    return (
        f"{wording.round_title(compared)}: {wording.number(ours.requests_per_s, 2)} requests per second with cache and "
        f"{wording.number(theirs.requests_per_s, 2)} in the baseline, mean TPOT {wording.number(ours.tpot_ms.mean, 2)} "
        f"and {wording.number(theirs.tpot_ms.mean, 2)} ms"
    )


def _rows(sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    for compared, mode, side in sides:
        yield {
            "row": f"{compared.number} {mode}",
            "mode": mode,
            "rps": side.requests_per_s,
            "rps_text": wording.number(side.requests_per_s, 2),
            "mean": side.tpot_ms.mean,
            "p50": side.tpot_ms.p50,
            "p99": side.tpot_ms.p99,
        }


def _y() -> alt.Y:
    axis = alt.Axis(ticks=False, domain=False, labelColor=colour("ink"))
    return alt.Y("row:N", title=None, sort=None, axis=axis)


def _throughput(rows: list[dict[str, Any]]) -> alt.LayerChart:
    base = alt.Chart(rows_of(rows)).encode(y=_y())
    most = max((row["rps"] for row in rows if row["rps"] is not None), default=1)
    x = alt.X(
        "rps:Q",
        title="requests per second",
        # Room for the figure beside the longest bar.
        scale=alt.Scale(domain=[0, most * 1.15], nice=False),
        axis=alt.Axis(tickCount=5, format=",~r"),
    )
    bars = base.mark_bar(height=_ROW_HEIGHT * 0.55, stroke=colour("ink"), strokeWidth=0.8).encode(
        x=x, color=mode_colour(None)
    )
    figures = base.mark_text(align="left", dx=5).encode(x="rps:Q", text="rps_text:N")
    return layered(bars, figures, height=_ROW_HEIGHT * len(rows))


def _tpot(rows: list[dict[str, Any]]) -> alt.LayerChart:
    base = alt.Chart(rows_of(rows)).encode(y=_y())
    tooltip = [alt.Tooltip(f"{name}:Q", title=f"TPOT {name}, ms", format=",.2f") for name in ("mean", "p50", "p99")]
    lines = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("p50:Q", title="TPOT, ms", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5, format=",~r")),
        x2="p99:Q",
        color=mode_colour(None),
        tooltip=tooltip,
    )
    marks = base.mark_point(filled=True, size=90, opacity=1, stroke=colour("surface"), strokeWidth=1).encode(
        x="mean:Q", color=mode_colour(None), shape=mode_shape(None), tooltip=tooltip
    )
    return layered(lines, marks, height=_ROW_HEIGHT * len(rows))
