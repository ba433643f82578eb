"""The charts of a report, drawn by Altair and Vega-Lite: on a page, or by vl-convert as files, without a network."""

from __future__ import annotations

from kvkit.report.errors import ReportError
from kvkit.results.comparison import ScenarioComparison

try:
    import altair as _altair  # noqa: F401 - are they there?
    import vl_convert as _vl_convert  # noqa: F401 - are they there?
except ImportError as error:
    raise ReportError(
        f"charts need the libraries of an extra ({error.name} is missing): "
        "pip install 'kvkit[charts]', or write Markdown alone and leave out --generate-charts"
    ) from error

from kvkit.report.charts.figure import Figure
from kvkit.report.charts.limit import limit
from kvkit.report.charts.rates import rates
from kvkit.report.charts.timeline import timeline
from kvkit.report.charts.tokens import tokens
from kvkit.report.charts.ttft import ttft

FIGURES = (tokens, ttft, limit, rates, timeline)
"""In the order in which a reader asks: a new figure is one file and its function here."""


def figures_of(this: ScenarioComparison) -> list[Figure]:
    """Those of a scenario for which there is something to draw."""
    return [figure for make in FIGURES if (figure := make(this)) is not None]
