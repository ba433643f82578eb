"""The charts of a report, drawn by Altair and written by vl-convert, without a browser or a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from kvkit.report.chart_files import ChartFile
from kvkit.report.errors import ReportError
from kvkit.report.wording import ROUND_NAMES
from kvkit.results.comparison import Comparison, RoundComparison, ScenarioComparison

try:
    import altair as alt
    import vl_convert as _  # noqa: F401 - Altair finds it by itself, but only when a file is written
except ImportError as error:
    raise ReportError(
        f"charts need the libraries of an extra ({error.name} is missing): "
        "pip install 'kvkit[charts]', or leave out --generate-charts"
    ) from error

# Okabe & Ito's palette: told apart with every kind of colour blindness, and in grey by its lightness.
_MODE_COLOURS = {"with-cache": "#0072B2", "baseline": "#E69F00"}
_SOURCE_COLOURS = {"computed": "#D55E00", "device": "#56B4E9", "external": "#009E73", "unknown": "#BBBBBB"}

_WIDTH = 620
_ROW_HEIGHT = 50
_INK = "#222222"


def draw(comparison: Comparison, report: Path) -> dict[str, list[ChartFile]]:
    """Draw every scenario's charts beside the report, as PNG and SVG; older ones of the same name are replaced.

    Raises:
        OSError: a file cannot be written.
    """
    return {
        this.scenario: [
            _save(_ttft(this), ChartFile.beside(report, this.scenario, "ttft", "Time to first token"), report),
            _save(_tokens(this), ChartFile.beside(report, this.scenario, "tokens", "Prompt tokens by source"), report),
        ]
        for this in comparison.scenarios
    }


def _save(chart: alt.FacetChart, file: ChartFile, report: Path) -> ChartFile:
    styled = (
        chart.configure(font="sans-serif", padding=12, background="white")
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridColor="#E5E5E5")
    )
    styled.save(report.with_name(file.png), scale_factor=2)
    styled.save(report.with_name(file.svg))
    return file


def _ttft(this: ScenarioComparison) -> alt.FacetChart:
    """One dot a request, so that spread and outliers show."""
    base = alt.Chart().encode(y=_mode_axis())
    median = alt.X("median(ttft_ms):Q")
    dots = base.mark_circle(size=40, opacity=0.6).encode(
        x=alt.X(
            "ttft_ms:Q",
            title="TTFT of each request, ms (bar: median)",
            axis=alt.Axis(format=",.0f", tickCount=8),
            scale=alt.Scale(zero=True),
        ),
        yOffset=alt.YOffset("spread:Q", scale=alt.Scale(domain=[-0.4, 1.4])),
        color=alt.Color("mode:N", scale=_scale(_MODE_COLOURS), legend=None),
    )
    bar = base.mark_tick(thickness=2.5, size=_ROW_HEIGHT * 0.62, color=_INK).encode(x=median)
    number = base.mark_text(dy=-_ROW_HEIGHT * 0.42, fontSize=11, color=_INK).encode(
        x=median, text=alt.Text("median(ttft_ms):Q", format=",.0f")
    )
    rows = chain.from_iterable(map(_ttft_rows, this.rounds))
    return _by_round((dots, bar, number), rows, _title(this, "time to first token"))


def _ttft_rows(compared: RoundComparison) -> Iterator[dict[str, Any]]:
    records = {
        "with-cache": [pair.with_cache for pair in compared.pairs],
        "baseline": [pair.baseline for pair in compared.pairs],
    }
    for mode, paired in records.items():
        for position, record in enumerate(paired):
            yield {
                "round": _round_title(compared),
                "mode": mode,
                "ttft_ms": record.ttft_s * 1000 if record.ttft_s is not None else None,
                # Steps of the golden ratio keep neighbours apart, and the picture the same each time.
                "spread": position * 0.618034 % 1,
            }


def _tokens(this: ScenarioComparison) -> alt.FacetChart:
    rows = list(chain.from_iterable(map(_token_rows, this.rounds)))
    colours = {name: colour for name, colour in _SOURCE_COLOURS.items() if any(row["source"] == name for row in rows)}
    axis = alt.Axis(format=",.0f", tickCount=6)
    bars = (
        alt.Chart()
        .mark_bar(height=_ROW_HEIGHT * 0.55)
        .encode(
            x=alt.X("tokens:Q", title="prompt tokens of the round", axis=axis, scale=alt.Scale(nice=False)),
            y=_mode_axis(),
            color=alt.Color(
                "source:N", scale=_scale(colours), legend=alt.Legend(title=None, orient="top", labelFontSize=12)
            ),
            order=alt.Order("position:Q"),
        )
    )
    return _by_round((bars,), rows, _title(this, "where prompt tokens came from"))


def _token_rows(compared: RoundComparison) -> Iterator[dict[str, Any]]:
    for mode, side in (("with-cache", compared.with_cache), ("baseline", compared.baseline)):
        known = {name: value for name, value in side.by_source.model_dump().items() if value is not None}
        for name, value in (known or {"unknown": side.prompt_tokens}).items():
            yield {
                "round": _round_title(compared),
                "mode": mode,
                "source": name,
                "tokens": value,
                "position": list(_SOURCE_COLOURS).index(name),
            }


def _by_round(layer: Iterable[alt.Chart], rows: Iterable[dict[str, Any]], title: str) -> alt.FacetChart:
    header = alt.Header(title=None, labelFontSize=13, labelAnchor="start", labelOrient="top")
    return alt.FacetChart(
        data=alt.InlineData(values=list(rows)),
        spec=alt.LayerChart(layer=list(layer), width=_WIDTH, height=alt.Step(_ROW_HEIGHT)),
        facet=alt.Facet("round:N", header=header, sort=None),
        columns=1,
        spacing=10,
        title=alt.TitleParams(title, anchor="start", fontSize=15, offset=10),
    )


def _title(this: ScenarioComparison, subject: str) -> str:
    return f"{this.scenario}: {subject}" + (" (INVALID)" if this.verdict.effect == "invalid" else "")


def _mode_axis() -> alt.Y:
    axis = alt.Axis(ticks=False, domain=False, labelPadding=8)
    return alt.Y("mode:N", title=None, sort=list(_MODE_COLOURS), axis=axis)


def _scale(colours: dict[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def _round_title(compared: RoundComparison) -> str:
    return f"Round {compared.number} - {ROUND_NAMES[compared.name]}"
