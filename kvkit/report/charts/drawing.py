"""Figures as files beside a report: PNG and SVG, made by vl-convert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import vl_convert

from kvkit.report.chart_files import ChartFile
from kvkit.report.charts import figures_of
from kvkit.report.charts.figure import Figure, Panel, specification
from kvkit.report.charts.speedup import speedup
from kvkit.report.charts.theme import CONFIG, printed
from kvkit.results.comparison import Comparison

_WIDTH = 400
_SCALE = 2.0


def draw(comparison: Comparison, report: Path) -> dict[str, list[ChartFile]]:
    """Draw every figure beside the report; older files of the same name are replaced. By scenario; "" is of all.

    Raises:
        OSError: a file cannot be written.
    """
    overview = speedup(comparison)
    return {"": [_save(overview, "", "all", report)] if overview else []} | {
        this.scenario: [
            _save(figure, _title(this.scenario, figure, this.verdict.effect == "invalid"), this.scenario, report)
            for figure in figures_of(this)
        ]
        for this in comparison.scenarios
    }


def _title(scenario: str, figure: Figure, invalid: bool) -> str:
    return f"{scenario}: {figure.title}" + (" (INVALID)" if invalid else "")


def _save(figure: Figure, title: str, scenario: str, report: Path) -> ChartFile:
    file = ChartFile.beside(report, scenario, figure.subject, figure.title)
    svg = vl_convert.vegalite_to_svg(printed(json.dumps(_whole(figure, title or figure.title))))
    report.with_name(file.png).write_bytes(vl_convert.svg_to_png(svg, scale=_SCALE))
    report.with_name(file.svg).write_text(svg, encoding="utf-8")
    return file


def _whole(figure: Figure, title: str) -> dict[str, Any]:
    columns = min(2, len(figure.panels))
    width = _WIDTH if columns == 2 else _WIDTH * 3 // 2
    data: dict[str, Any] = {}
    return {
        "concat": [_panel(panel, width, data) for panel in figure.panels],
        "columns": columns,
        "spacing": 24,
        "title": {"text": title, "fontSize": 15, "offset": 14},
        "config": CONFIG | {"background": "white", "padding": 14},
        "resolve": {"scale": dict.fromkeys(("color", "fill", "shape", "strokeDash"), "independent")},
        "datasets": data,
    }


def _panel(panel: Panel, width: int, data: dict[str, Any]) -> dict[str, Any]:
    parts = []
    for chart in panel.charts:
        spec = specification(chart, width=width)
        # What the whole says once is not said by its parts.
        data |= spec.pop("datasets")
        del spec["config"], spec["autosize"]
        parts.append(spec)
    return {"vconcat": parts, "spacing": 4} | ({"title": panel.title} if panel.title else {})
