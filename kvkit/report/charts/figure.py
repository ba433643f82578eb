"""One figure of a report: its charts, what they show in words, and the same figures as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from kvkit.report.charts.theme import CONFIG, DASHES, MODES, SHAPES, colour

Chart = alt.Chart | alt.LayerChart

LEFT_AXIS = 56
"""Width of the labels left of charts that stand one above the other, so that their plots begin at one line."""

_WIDE_RANGE = 30
"""A largest value of more than so many times the smallest is drawn on a logarithmic axis: a linear one would press
what is below against the edge."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int
    """Columns that hold words; those after them hold numbers."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Charts that share their horizontal axis, one above the other."""

    title: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    subject: str
    """Names its files."""
    title: str
    told: str
    """What it shows, for who does not see it."""
    panels: tuple[Panel, ...]
    table: Table
    reading: str
    """How to read it; the same for every scenario."""
    notes: tuple[str, ...] = ()
    """What is special about this one, and what was left out."""


def specification(chart: Chart, *, width: int | None) -> dict[str, Any]:
    """A chart in Vega-Lite's terms, of this width or as wide as the place that it stands in."""
    spec: dict[str, Any] = chart.to_dict()
    del spec["$schema"]  # an address, which nothing is to be fetched from
    spec["config"] = CONFIG
    spec["width"] = width if width is not None else "container"
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def words(base: alt.Chart, text: Any, **mark: Any) -> list[alt.Chart]:
    """Text that can be read on whatever lies below it: it stands on a strip of the page's own colour."""
    strip: dict[str, Any] = {"stroke": colour("surface"), "strokeWidth": 3, "strokeJoin": "round"}
    return [base.mark_text(**mark, **outline).encode(text=text) for outline in (strip, {})]


def layered(*layers: alt.Chart, height: float) -> alt.LayerChart:
    return alt.LayerChart(layer=list(layers), height=height)


def rows_of(values: Iterable[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=list(values))


def mode_colour(legend: alt.Legend | None = None) -> alt.Color:
    return alt.Color(
        "mode:N", scale=alt.Scale(domain=list(MODES), range=[colour(mode) for mode in MODES]), legend=legend
    )


def mode_dash(legend: alt.Legend | None = None) -> alt.StrokeDash:
    dashes = [DASHES[mode] for mode in MODES]
    return alt.StrokeDash("mode:N", scale=alt.Scale(domain=list(MODES), range=dashes), legend=legend)


def mode_shape(legend: alt.Legend | None = None) -> alt.Shape:
    shapes = [SHAPES[mode] for mode in MODES]
    return alt.Shape("mode:N", scale=alt.Scale(domain=list(MODES), range=shapes), legend=legend)


def time_scale(values: Sequence[float]) -> alt.Scale:
    """From 0, or logarithmic where the values span too much; the same for every chart that is to be compared."""
    told = [value for value in values if value > 0]
    if told and max(told) > _WIDE_RANGE * min(told):
        return alt.Scale(type="log", domain=[min(told) * 0.85, max(told) * 1.15], nice=False)
    return alt.Scale(domain=[0, max(told, default=1)], nice=True)
