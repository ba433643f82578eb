"""What a person sees of logs and counters: each symptom with the lines that tell it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kvkit.checks.finding import ERROR, FAIL, PASS, WARN
from kvkit.doctor.logs import Diagnosis
from kvkit.report.escape import for_terminal

_STYLES = {FAIL: "bold red", ERROR: "bold magenta", WARN: "bold yellow", PASS: "bold green"}


def print_diagnoses(diagnoses: Sequence[Diagnosis], console: Console) -> None:
    """The gravest first, then what shows that the store is in use."""
    for status, style in _STYLES.items():
        for one in diagnoses:
            if one.finding.status == status:
                _print(one, style, console)
    bad = sum(one.finding.status != PASS for one in diagnoses)
    console.print(Text(f"{bad} known failures" if bad else "No known failure.", style="bold"))


def diagnoses_as_json(diagnoses: Sequence[Diagnosis]) -> str:
    return json.dumps(
        {
            "schema": 1,
            "findings": [{**one.finding.as_dict(), "lines": [list(line) for line in one.lines]} for one in diagnoses],
        },
        indent=2,
    )


def _print(one: Diagnosis, style: str, console: Console) -> None:
    finding = one.finding
    console.print(
        Text.assemble((f"{finding.status:5}", style), " ", (finding.id, "bold"), f" {for_terminal(finding.subject)}")
    )
    console.print(Padding(Text(for_terminal(finding.seen)), (0, 0, 0, 6)))
    for number, line in one.lines:
        console.print(Padding(Text.assemble((f"{number}: ", "dim"), for_terminal(line)), (0, 0, 0, 6)))
    if finding.mend:
        console.print(Padding(Text.assemble(("mend: ", "dim"), finding.mend), (0, 0, 1, 6)))
