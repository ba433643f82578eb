"""`kvkit rank`: which of the measured settings to choose."""

from __future__ import annotations

from pathlib import Path

from kvkit.ending import Ending, refuse


def rank(*, sweep: Path, output: Path | None = None) -> Ending:
    """Rank the candidates that playbooks/tune.yml measured, and say what to set.

    Exit codes: 0 ranked, 1 wrong input, 2 no candidate has a valid result.

    Parameters
    ----------
    sweep
        The sweep's folder in the results: tune_NAME.
    output
        The Markdown report. Without it: ranking.md in that folder.
    """
    from rich.console import Console

    from kvkit.report.errors import ReportError
    from kvkit.report.ranking import print_ranking, write_ranking
    from kvkit.results.errors import ResultsError
    from kvkit.results.ranking import rank as rank_sweep

    written = output or sweep / "ranking.md"
    try:
        ranking = rank_sweep(sweep)
        write_ranking(ranking, written)
    except (ResultsError, ReportError) as error:
        return refuse(str(error))
    print_ranking(ranking, written, Console(highlight=False))
    return Ending.DONE if ranking.standings else Ending.INVALID
