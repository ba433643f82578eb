"""`kvkit export`: results for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from kvkit.commands.parameters import Many
from kvkit.ending import Ending, refuse


def export(*, stats: Annotated[list[Path], Many], format: Literal["vllm-bench", "csv"], output: Path) -> Ending:
    """Write results in a form that other tools read.

    Exit codes: 0 written, 1 wrong input.

    Parameters
    ----------
    stats
        Stats files, or globs of them.
    format
        vllm-bench: one line for each stats file and round, with the keys of `vllm bench serve`. csv: a row a request.
    output
        The new file; an existing one is left alone.
    """
    from kvkit.results.errors import ResultsError
    from kvkit.results.export import export as export_runs

    try:
        rounds = export_runs([*map(str, stats)], format, output)
    except ResultsError as error:
        return refuse(str(error))
    print(f"{output}: {rounds} rounds")
    return Ending.DONE
