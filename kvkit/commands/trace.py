"""`kvkit trace`: what a recorded trace holds."""

from __future__ import annotations

from pathlib import Path

from kvkit.ending import Ending, refuse


def trace(*, file: Path | None = None) -> Ending:
    """Say what a trace in Mooncake's format holds, and how much of it an infinite cache would serve.

    Exit codes: 0 done, 1 wrong input.

    Parameters
    ----------
    file
        The trace. Without it: the sample that comes with kvkit.
    """
    from kvkit.report.trace import trace_lines
    from kvkit.workload.errors import WorkloadError
    from kvkit.workload.trace_file import SAMPLE, describe, read_trace

    try:
        facts = describe(read_trace(file or SAMPLE))
    except WorkloadError as error:
        return refuse(str(error))
    print("\n".join(trace_lines(facts)))
    return Ending.DONE
