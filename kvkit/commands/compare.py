"""`kvkit compare`: the two modes against each other, or runs against earlier ones of the same mode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from kvkit.commands.parameters import Flag, Many
from kvkit.ending import Ending, refuse

_TWO_FORMS = (
    "give either --with-cache-stats and --baseline-stats, for the two modes, "
    "or --stats and --against, for runs and earlier ones of the same mode"
)


def compare(
    *,
    with_cache_stats: Annotated[list[Path] | None, Many] = None,
    baseline_stats: Annotated[list[Path] | None, Many] = None,
    output: Annotated[list[Path], Many] = [Path("comparison_report.md")],  # noqa: B006 - cyclopts shows it
    generate_charts: Annotated[bool, Flag] = False,
    stats: Annotated[list[Path] | None, Many] = None,
    against: str | None = None,
    results_dir: Path = Path("test_results"),
) -> Ending:
    """Compare the two modes, paired by request, and write the report; or runs with earlier runs of the same mode.

    Exit codes: 0 compared, 1 wrong input or nothing to compare, 2 compared, but a run was INVALID.

    Parameters
    ----------
    with_cache_stats
        Stats files of the with-cache runs, or globs of them; result files of `vllm bench serve` and exports too.
    baseline_stats
        Stats files of the baseline runs, or globs of them, likewise.
    output
        Reports of the two modes: .md is Markdown, .html one file with interactive charts, which needs
        `pip install 'kvkit[charts]'`.
    generate_charts
        Also draw charts (PNG and SVG) beside the first report; needs the same extra.
    stats
        With --against: stats files of the runs that are held against earlier ones, or globs of them.
    against
        last, last:N (the last N comparable runs) or a run id; `kvkit history` lists them.
    results_dir
        With --against: the folder with the results, which holds the earlier runs.
    """
    if with_cache_stats and baseline_stats and not (stats or against):
        return _two_modes([*map(str, with_cache_stats)], [*map(str, baseline_stats)], output, charts=generate_charts)
    if stats and against and not (with_cache_stats or baseline_stats):
        return _with_earlier([*map(str, stats)], against, results_dir)
    return refuse(_TWO_FORMS)


def _two_modes(with_cache: Sequence[str], baseline: Sequence[str], output: list[Path], *, charts: bool) -> Ending:
    from kvkit.report.errors import ReportError
    from kvkit.report.files import write_reports
    from kvkit.report.terminal import print_comparison
    from kvkit.results.comparison import compare as compare_runs
    from kvkit.results.errors import ResultsError

    try:
        comparison = compare_runs(with_cache, baseline)
        written = write_reports(comparison, output, charts=charts)
    except (ResultsError, ReportError) as error:
        return refuse(str(error))
    print_comparison(comparison, output, len(written) - len(output))
    return Ending.INVALID if comparison.verdict.effect == "invalid" else Ending.DONE


def _with_earlier(stats: Sequence[str], against: str, results_dir: Path) -> Ending:
    from rich.console import Console

    from kvkit.history.against import Against
    from kvkit.history.regression import regressions
    from kvkit.report.regression import print_regressions
    from kvkit.results.errors import ResultsError

    try:
        found = regressions(stats, Against.parse(against), results_dir)
    except ResultsError as error:
        return refuse(str(error))
    print_regressions(found, Console(highlight=False))
    if not any(one.before for one in found):
        return Ending.WRONG_INPUT
    return Ending.INVALID if any(one.invalid for one in found) else Ending.DONE
