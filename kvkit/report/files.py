"""The files of a report: each form by the suffix of its name, and the charts beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kvkit.report import markdown
from kvkit.report.chart_files import ChartFile
from kvkit.report.errors import ReportError
from kvkit.results.comparison import Comparison

Charts = dict[str, list[ChartFile]]


def write_reports(comparison: Comparison, outputs: Sequence[Path], *, charts: bool) -> list[Path]:
    """Write a report to each of `outputs`, and with `charts` pictures beside the first; return all files written.

    Older reports of the same name are replaced, and so are their charts: a report can be made anew from the results at
    any time. Results themselves are never replaced.

    Raises:
        ReportError: an output has another suffix than .md or .html or is one of the result files, a file cannot be
            written, or the charts' libraries are not installed.
    """
    for output in outputs:
        _check_is_no_result(comparison, output)
    forms = [_form(output) for output in outputs]
    writing = outputs[0]
    try:
        for output in outputs:
            output.parent.mkdir(parents=True, exist_ok=True)
        drawn = _draw(comparison, outputs[0]) if charts else {"": []}
        for writing, form in zip(outputs, forms, strict=True):
            writing.write_text(form(comparison, drawn), encoding="utf-8", errors="replace")
    except OSError as error:
        raise ReportError(f"{error.filename or writing}: cannot be written: {error.strerror}") from error
    pictures = [outputs[0].with_name(name) for all_of in drawn.values() for file in all_of for name in file.names]
    return [*outputs, *pictures]


def _form(output: Path) -> Callable[[Comparison, Charts], str]:
    match output.suffix.lower():
        case ".md":
            return markdown.render
        case ".html":
            # Charts are in it, so it needs their libraries, which are an optional extra.
            from kvkit.report.html import render  # noqa: PLC0415 - see above

            return lambda comparison, _: render(comparison)
    raise ReportError(
        f"--output {output}: found {f'suffix {output.suffix}' if output.suffix else 'no suffix'}, "
        "expected .md (Markdown) or .html (one file with charts)"
    )


def _draw(comparison: Comparison, report: Path) -> Charts:
    from kvkit.report.charts.drawing import draw  # noqa: PLC0415 - an optional extra

    return draw(comparison, report)


def _check_is_no_result(comparison: Comparison, output: Path) -> None:
    results = [path for path, _ in comparison.not_used]
    for run in (run for scenario in comparison.scenarios for pair in scenario.run_pairs for run in pair.runs):
        results += [run.path, run.path.with_name(run.stats.records)]
    if output.resolve() in {path.resolve() for path in results}:
        raise ReportError(f"{output}: is one of the results and is not replaced: choose another --output")
