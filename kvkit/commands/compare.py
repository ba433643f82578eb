"""`kvkit compare`: the two modes side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kvkit.commands.parameters import Flag, Many
from kvkit.ending import Ending, refuse


def compare(
    *,
    with_cache_stats: Annotated[list[Path], Many],
    baseline_stats: Annotated[list[Path], Many],
    output: Path = Path("comparison_report.md"),
    generate_charts: Annotated[bool, Flag] = False,
) -> Ending:
    """Compare the two modes, paired by request, and write the report.

    Exit codes: 0 compared, 1 wrong input or nothing to compare, 2 compared, but a run was INVALID.

    Parameters
    ----------
    with_cache_stats
        Stats files of the with-cache runs, or globs of them; result files of `vllm bench serve` and exports too.
    baseline_stats
        Stats files of the baseline runs, or globs of them, likewise.
    output
        The Markdown report; charts go beside it.
    generate_charts
        Also draw charts (PNG and SVG); needs `pip install 'kvkit[charts]'`.
    """
    from kvkit.report.errors import ReportError
    from kvkit.report.markdown import write_report
    from kvkit.report.terminal import print_comparison
    from kvkit.results.comparison import compare as compare_runs
    from kvkit.results.errors import ResultsError

    try:
        comparison = compare_runs([*map(str, with_cache_stats)], [*map(str, baseline_stats)])
        written = write_report(comparison, output, charts=generate_charts)
    except (ResultsError, ReportError) as error:
        return refuse(str(error))
    print_comparison(comparison, written)
    return Ending.INVALID if comparison.verdict.effect == "invalid" else Ending.DONE
