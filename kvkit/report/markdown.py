"""The Markdown report of a comparison. It computes nothing; the template says what stands where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kvkit.report import wording
from kvkit.report.chart_files import ChartFile
from kvkit.report.escape import code, escape
from kvkit.report.facts import wordings
from kvkit.results.comparison import Comparison


def render(comparison: Comparison, charts: Mapping[str, list[ChartFile]]) -> str:
    """The report's text. `charts` has a list for each scenario, and one for all together under ""."""
    template = _environment().get_template("comparison.md.j2")
    return template.render(comparison=comparison, charts=charts, sentence=wording.verdict_sentence(comparison))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kvkit.report"),
        # `finalize` escapes for Markdown; what it returns is marked as safe, so autoescape adds nothing to it.
        autoescape=True,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "both": wording.both,
        "verdict_lines": wording.verdict_lines,
    }
    environment.filters |= wordings() | {
        "code": code,
        "present": lambda value: "absent" if value is None else code(value),
        "settings": _settings,
        "told": lambda value: wording.UNKNOWN if value is None else code(value),
    }
    return environment


def _settings(parameters: Mapping[str, Any]) -> Markup:
    return Markup(", ").join(code(f"{name}={value}") for name, value in sorted(parameters.items()))
