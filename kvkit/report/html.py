"""The HTML report of a comparison: one file that needs nothing else, neither files beside it nor a network.

It computes nothing; the template says what stands where. Everything that comes from servers and files is escaped, and
a content security policy lets no script run but the two that are named in it by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from itertools import count
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from kvkit.checks.finding import ERROR, FAIL, PASS, SKIP, WARN
from kvkit.report import wording
from kvkit.report.charts import figures_of
from kvkit.report.charts.figure import Chart, Figure, specification
from kvkit.report.charts.speedup import speedup
from kvkit.report.charts.theme import CONFIG, DARK, LIGHT
from kvkit.report.escape import for_page
from kvkit.report.facts import wordings
from kvkit.results.beside import Beside, CheckFinding, Preflight, read_beside
from kvkit.results.comparison import Comparison, RunPair, ScenarioComparison
from kvkit.results.differences import Difference, all_settings
from kvkit.results.verdict import Effect

HEADLINES: dict[Effect, str] = {
    "better": "The shared cache helped",
    "worse": "The shared cache made it worse",
    "no_difference": "The shared cache made no difference",
    "unknown": "What the shared cache did is unknown",
    "invalid": "INVALID: this test shows nothing of the cache",
}

_GRAVEST_FIRST = (FAIL, ERROR, WARN, PASS, SKIP)


def render(comparison: Comparison) -> str:
    """The whole page."""
    plots = _Plots()
    figures: dict[str, list[tuple[ScenarioComparison, Figure]]] = defaultdict(list)
    for this in comparison.scenarios:
        for figure in figures_of(this):
            figures[figure.subject].append((this, figure))
    # Ours, and the only markup on the page that is not a template's.
    style, script, vega = map(Markup, (_style(), _own("comparison.js"), library()))
    return (
        _environment(plots)
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            headline=HEADLINES[comparison.verdict.effect],
            sentence=wording.verdict_in_short(comparison),
            overview=speedup(comparison),
            figures=figures,
            plots=plots,
            beside=_beside(comparison),
            style=style,
            script=script,
            library=vega,
            policy=_policy(style, [vega, script]),
        )
    )


@dataclass(frozen=True, slots=True)
class _Plots:
    """The charts that the page draws, by the name of their place; filled while the template is rendered."""

    specifications: dict[str, dict[str, Any]] = field(default_factory=dict)

    def place(self, chart: Chart) -> str:
        """A name for the place at which a chart is drawn."""
        name = f"plot-{len(self.specifications) + 1}"
        specification_of = specification(chart, width=None)
        del specification_of["config"]
        self.specifications[name] = specification_of
        return name

    def as_json(self) -> Markup:
        # `<` and `>` are written as escapes of JSON, so that no text in it can end the script element.
        return htmlsafe_json_dumps(
            {"config": CONFIG, "plots": self.specifications}, dumps=json.dumps, separators=(",", ":")
        )


def _environment(plots: _Plots) -> Environment:
    environment = Environment(
        loader=PackageLoader("kvkit.report"),
        autoescape=True,
        # Before it is escaped, text loses what would turn its writing round or hide it.
        finalize=for_page,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "both": wording.both,
        "verdict_lines": wording.verdict_lines,
        "count_up": partial(next, count(1)),
        "place": plots.place,
    }
    environment.filters |= wordings() | {
        "by_gravity": _by_gravity,
        "counts": _counts,
        "present": lambda value: "absent" if value is None else value,
        "settings": _settings,
        "told": lambda value: wording.UNKNOWN if value is None else value,
    }
    return environment


def _beside(comparison: Comparison) -> Beside:
    runs = (run for this in comparison.scenarios for pair in this.run_pairs for run in pair.runs)
    return read_beside(run.path.parent for run in runs)


def _settings(pair: RunPair) -> tuple[Difference, ...]:
    return all_settings(pair.with_cache.stats, pair.baseline.stats)


def _by_gravity(preflight: Preflight) -> Iterator[tuple[str, list[tuple[str, CheckFinding]]]]:
    """Each status that is there, the gravest first, with its findings and the host of each."""
    found = [(host, finding) for host, those in preflight.hosts.items() for finding in those]
    found += [("between hosts", finding) for finding in preflight.fleet]
    for status in _GRAVEST_FIRST:
        if of_status := [(host, finding) for host, finding in found if finding.status == status]:
            yield status, of_status


def _counts(preflight: Preflight) -> str:
    return ", ".join(f"{len(found)} {status}" for status, found in _by_gravity(preflight)) or "nothing was checked"


def _own(name: str) -> str:
    return files("kvkit.report").joinpath("templates", name).read_text(encoding="utf-8")


def _style() -> str:
    """The style sheet, with the colours of the charts as its variables."""
    light, dark = (";".join(f"--{name}:{value}" for name, value in theme.items()) for theme in (LIGHT, DARK))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n" + _own(
        "comparison.css"
    )


def library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one piece, which vl-convert carries."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in bundle.lower()
    assert "<!--" not in bundle
    return bundle


def _policy(style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
