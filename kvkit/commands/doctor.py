"""`kvkit doctor`: known failures in logs and counters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kvkit.commands.parameters import Flag, Many
from kvkit.ending import Ending, refuse


def doctor(
    *,
    log: Annotated[list[Path] | None, Many] = None,
    metrics: Annotated[list[str] | None, Many] = None,
    json: Annotated[bool, Flag] = False,
) -> Ending:
    """Read logs and live counters, and say which known failure they tell.

    Exit codes: 0 no fail, 1 wrong input, 2 at least one fail.

    Parameters
    ----------
    log
        Logs of vLLM, LMCache or Mooncake, of any size; .gz is unpacked, - is standard input.
    metrics
        Addresses of /metrics of vLLM, an LMCache server or a Mooncake master.
    json
        Print the findings as JSON.
    """
    from rich.console import Console

    from kvkit.checks.finding import FAIL
    from kvkit.doctor.counters import CountersError, look
    from kvkit.doctor.logs import Diagnosis, LogError, read
    from kvkit.report.doctor import diagnoses_as_json, print_diagnoses

    if not log and not metrics:
        return refuse("Nothing to read: give --log FILE, --metrics URL, or both")
    try:
        diagnoses = [one for path in log or [] for one in read(path)]
        diagnoses += [Diagnosis(finding) for url in metrics or [] for finding in look(url)]
    except (LogError, CountersError) as error:
        return refuse(str(error))
    if json:
        print(diagnoses_as_json(diagnoses))
    else:
        print_diagnoses(diagnoses, Console(highlight=False))
    return Ending.INVALID if any(one.finding.status == FAIL for one in diagnoses) else Ending.DONE
