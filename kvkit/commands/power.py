"""`kvkit power`: how many requests a difference takes to be seen."""

from __future__ import annotations

from typing import Annotated

from kvkit.commands.parameters import Many, Percent
from kvkit.ending import Ending, refuse


def power(*, change: Annotated[float, Percent], baseline_stats: Annotated[list[str], Many]) -> Ending:
    """Say how many requests it takes to see a change of the TTFT, at the noise of the newest baseline.

    Exit codes: 0 told, 1 wrong input, 3 cannot tell of any scenario, and what would.

    Parameters
    ----------
    change
        Of the median TTFT between the modes, such as 5%.
    baseline_stats
        Stats files of the baseline, or globs of them. The newest of each scenario counts.
    """
    from rich.console import Console

    from kvkit.report.power import print_powers
    from kvkit.results.errors import ResultsError
    from kvkit.results.power import powers

    try:
        found = powers(baseline_stats, change / 100)
    except ResultsError as error:
        return refuse(str(error))
    print_powers(found, change, Console(highlight=False))
    return Ending.DONE if any(each.smallest_change is not None for each in found) else Ending.NOT_FINISHED
