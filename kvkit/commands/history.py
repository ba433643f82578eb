"""`kvkit history`: what was measured before, and what changed since."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from kvkit.commands.parameters import Flag
from kvkit.ending import Ending, refuse


def history(
    *,
    results_dir: Path = Path("test_results"),
    scenario: str | None = None,
    mode: Literal["with-cache", "baseline"] | None = None,
    model: str | None = None,
    since: datetime | None = None,
    trend: Annotated[bool, Flag] = False,
    chart: Path | None = None,
    json: Annotated[bool, Flag] = False,
) -> Ending:
    """List the runs of a results folder and of the folders in it, or show how they went over time.

    What was read is kept in history.sqlite there, which can be deleted at any time. Nothing else is written.
    Exit codes: 0 done, 1 wrong input.

    Parameters
    ----------
    results_dir
        The folder with the results.
    scenario
        Only this scenario.
    mode
        Only this mode.
    model
        Only runs in which this model answered.
    since
        Only runs from then on: 2026-11-25 or 2026-11-25T08:00:00, in UTC.
    trend
        Draw each round's median TTFT over time, and say whether it shifted; needs `pip install 'kvkit[compare]'`.
    chart
        Also draw the trends into this file, PNG or SVG; needs `pip install 'kvkit[charts,compare]'`.
    json
        Print it as JSON.
    """
    from rich.console import Console

    from kvkit.history.filters import Filters
    from kvkit.history.folder import read_history
    from kvkit.history.trend import trends
    from kvkit.report.errors import ReportError
    from kvkit.report.history import history_as_json, print_history, print_rest
    from kvkit.report.trend import print_trends
    from kvkit.results.errors import ResultsError

    console = Console(highlight=False)
    try:
        found = read_history(results_dir)
        runs = Filters(scenario, mode, model, since).choose(found.runs)
        drawn = trends(runs) if trend or chart else None
        if chart is not None:
            from kvkit.report.trend_chart import draw_trends

            draw_trends(drawn or (), chart)
    except (ResultsError, ReportError) as error:
        return refuse(str(error))
    if json:
        print(history_as_json(found, runs, drawn))
        return Ending.DONE
    if drawn is None:
        print_history(found, runs, console)
    else:
        print_trends(drawn, console)
    print_rest(found, console)
    return Ending.DONE
