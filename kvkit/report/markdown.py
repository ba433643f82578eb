"""The Markdown report of a comparison. It computes nothing; the template says what stands where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kvkit.report import wording
from kvkit.report.chart_files import ChartFile
from kvkit.report.errors import ReportError
from kvkit.report.escape import code, escape
from kvkit.results.comparison import Comparison, RoundPair, RunPair
from kvkit.results.stats import Mode, PhysicalLimit, RoundSummary, RunStats

_CLEARED = {
    "none": "nothing",
    "device": "device cache",
    "restart": "all but the store, by a restart",
    None: wording.UNKNOWN,
}


def write_report(comparison: Comparison, output: Path, *, charts: bool) -> list[Path]:
    """Write the report, and with `charts` its pictures beside it; return all files written.

    An older report of the same name is replaced, and so are its charts: a report can be made anew from the
    results at any time. Results themselves are never replaced.

    Raises:
        ReportError: `output` is one of the result files, a file cannot be written, or the charts' libraries
            are not installed.
    """
    _check_is_no_result(comparison, output)
    drawn: dict[str, list[ChartFile]] = {this.scenario: [] for this in comparison.scenarios}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if charts:
            from kvkit.report.charts import draw  # noqa: PLC0415 - an optional extra

            drawn = draw(comparison, output)
        output.write_text(render(comparison, drawn), encoding="utf-8", errors="replace")
    except OSError as error:
        raise ReportError(f"{error.filename or output}: cannot be written: {error.strerror}") from error
    pictures = [output.with_name(name) for files in drawn.values() for file in files for name in (file.png, file.svg)]
    return [output, *pictures]


def render(comparison: Comparison, charts: Mapping[str, list[ChartFile]]) -> str:
    """The report's text. `charts` has a list for each scenario."""
    template = _environment().get_template("comparison.md.j2")
    return template.render(comparison=comparison, charts=charts, sentence=wording.verdict_sentence(comparison))


def _check_is_no_result(comparison: Comparison, output: Path) -> None:
    results = [path for path, _ in comparison.not_used]
    for run in (run for scenario in comparison.scenarios for pair in scenario.run_pairs for run in pair.runs):
        results += [run.path, run.path.with_name(run.stats.records)]
    if output.resolve() in {path.resolve() for path in results}:
        raise ReportError(f"{output}: is one of the results and is not replaced: choose another --output")


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
    environment.filters |= {
        "cleared": _CLEARED.__getitem__,
        "code": code,
        "count": wording.count,
        "failures": _failures,
        "kinds": wording.kinds,
        "limits": _limits,
        "number": wording.number,
        "noise_floor": wording.noise_floor,
        "effect": wording.EFFECTS.__getitem__,
        "outcome": wording.OUTCOMES.__getitem__,
        "percent": wording.percent,
        "present": lambda value: "absent" if value is None else code(value),
        "provenance": _provenance,
        "round_name": wording.ROUND_NAMES.__getitem__,
        "settings": _settings,
        "share": wording.share,
        "sides": _sides,
        "speedup": wording.speedup,
        "told": lambda value: wording.UNKNOWN if value is None else code(value),
        "validity": wording.validity,
    }
    return environment


def _sides(pair: RoundPair) -> tuple[tuple[Mode, RoundSummary], tuple[Mode, RoundSummary]]:
    return ("with-cache", pair.with_cache), ("baseline", pair.baseline)


def _limits(pair: RunPair) -> Iterator[tuple[RoundPair, PhysicalLimit]]:
    for this in pair.rounds:
        if this.with_cache.limit is not None:
            yield this, this.with_cache.limit


def _failures(pair: RunPair) -> Iterator[tuple[Mode, str, str]]:
    for run in pair.runs:
        for kind, words in run.words_of_failures().items():
            yield run.stats.mode, kind, words


def _settings(parameters: Mapping[str, Any]) -> Markup:
    return Markup(", ").join(code(f"{name}={value}") for name, value in sorted(parameters.items()))


def _provenance(pair: RunPair) -> Iterator[tuple[str, Any, Any]]:
    ours, theirs = _told(pair.with_cache.stats), _told(pair.baseline.stats)
    yield "stats file", pair.with_cache.path.name, pair.baseline.path.name
    yield from ((name, ours[name], theirs[name]) for name in ours)


def _told(stats: RunStats) -> dict[str, Any]:
    provenance = stats.provenance
    return {
        "requests file": stats.records,
        "run": stats.run_id,
        "started": f"{provenance.started.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "model": provenance.engine.model,
        "engine version": provenance.engine.version,
        "connector": provenance.engine.connector,
        "system fingerprint": provenance.engine.system_fingerprint,
        "kvkit": f"{provenance.kvkit_version}, Python {provenance.python}, on {provenance.host}",
        "seed": provenance.seed,
        "workload": stats.workload.fingerprint,
    }
