"""Trends as a chart: medians with their intervals over time, drawn by Altair without a browser or a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kvkit.history.trend import Trend
from kvkit.report.errors import ReportError
from kvkit.report.trend import title, verdict

try:
    import altair as alt
    import vl_convert as _  # noqa: F401 - Altair finds it by itself, but only when a file is written
except ImportError as error:
    raise ReportError(
        f"charts need the libraries of an extra ({error.name} is missing): pip install 'kvkit[charts]', "
        "or leave out --chart"
    ) from error

_BLUE, _ORANGE = "#0072B2", "#E69F00"
"""Okabe & Ito's palette: told apart with every kind of colour blindness."""


def draw_trends(trends: Sequence[Trend], file: Path) -> None:
    """One panel a trend, in a PNG or SVG file; an existing one is replaced.

    Raises:
        ReportError: there is nothing to draw, the file is of another kind, or it cannot be written.
    """
    if file.suffix not in {".png", ".svg"}:
        raise ReportError(f"--chart: found {str(file)!r}, allowed are names that end with .png or .svg")
    panels = [_panel(trend) for trend in trends if any(point.counts for point in trend.points)]
    if not panels:
        raise ReportError("--chart: no run that was asked for has a time to first token to draw")
    chart = alt.vconcat(*panels).configure(font="sans-serif", padding=12, background="white")
    try:
        chart.save(file, scale_factor=2)
    except OSError as error:
        raise ReportError(f"{file}: cannot be written: {error.strerror}") from error


def _panel(trend: Trend) -> alt.LayerChart | alt.FacetChart:
    base = alt.Chart(alt.InlineData(values=list(_rows(trend)))).encode(
        x=alt.X(
            "started:T",
            title=None,
            scale=alt.Scale(type="utc", padding=12),
            axis=alt.Axis(format="%Y-%m-%d %H:%M", labelAngle=-30, tickCount=6),
        ),
        color=alt.Color("side:N", scale=alt.Scale(domain=["before", "after"], range=[_BLUE, _ORANGE]), legend=None),
    )
    scale = alt.Scale(zero=False)
    layers = (
        base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(filled=True, size=60).encode(
            y=alt.Y("median:Q", title="median TTFT, ms", scale=scale),
            shape=alt.Shape(
                "side:N", scale=alt.Scale(domain=["before", "after"], range=["circle", "diamond"]), legend=None
            ),
        ),
    )
    words = alt.TitleParams(title(trend), subtitle=verdict(trend), anchor="start", fontSize=14)
    return alt.layer(*layers, width=620, height=180, title=words)


def _rows(trend: Trend) -> Iterator[dict[str, Any]]:
    for point in trend.points:
        if point.counts:
            interval = point.round.ttft_interval
            shifted = trend.shift is not None and point.run.started >= trend.shift.first.started
            yield {
                "started": point.run.started.isoformat(),
                "median": point.round.ttft_ms,
                "low": interval.low if interval else point.round.ttft_ms,
                "high": interval.high if interval else point.round.ttft_ms,
                "side": "after" if shifted else "before",
            }
