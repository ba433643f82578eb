"""`kvkit gate`: a pass or a fail for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kvkit.commands.parameters import Many, Percent
from kvkit.ending import Ending, refuse

_ENDINGS = {
    "pass": Ending.DONE,
    "regression": Ending.INVALID,
    "invalid": Ending.INVALID,
    "cannot_tell": Ending.NOT_FINISHED,
}


def gate(
    *,
    max_ttft_regression: Annotated[float, Percent],
    stats: Annotated[list[str] | None, Many] = None,
    against: str = "last:10",
    results_dir: Path = Path("test_results"),
    junit: Path | None = None,
) -> Ending:
    """Fail where the median TTFT rose by more than a limit since earlier runs of the same mode; for CI.

    Exit codes: 0 pass, 1 wrong input, 2 a regression or an INVALID run, 3 cannot tell, and what would.

    Parameters
    ----------
    max_ttft_regression
        The limit, such as 5%: no change passes, a rise of twice the limit is caught.
    stats
        Stats files that are judged, or globs of them. Without it: the newest run in the results folder, or all runs of
        the newest cycle.
    against
        last, last:N (the last N comparable runs) or a run id; `kvkit history` lists them.
    results_dir
        The folder with the results, which holds the earlier runs.
    junit
        Write the outcome as JUnit XML, a test case a round; an existing file is replaced.
    """
    from rich.console import Console

    from kvkit.history.against import Against
    from kvkit.history.gate import judge
    from kvkit.history.regression import regressions
    from kvkit.report.errors import ReportError
    from kvkit.report.regression import print_gate
    from kvkit.results.errors import ResultsError

    try:
        judged = judge(regressions(stats, Against.parse(against), results_dir), max_ttft_regression)
        if junit is not None:
            from kvkit.report.junit import write_junit

            write_junit(judged, junit)
    except (ResultsError, ReportError) as error:
        return refuse(str(error))
    print_gate(judged, Console(highlight=False))
    return _ENDINGS[judged.outcome]
