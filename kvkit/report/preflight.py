"""What a person sees of the preflight checks of one host. Text from the host is stripped of control characters."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kvkit.checks.check import Check
from kvkit.checks.finding import ERROR, FAIL, PASS, SKIP, WARN, Finding
from kvkit.report.escape import for_terminal

_STYLES = {FAIL: "bold red", ERROR: "bold magenta", WARN: "bold yellow"}


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """What needs a mend in full, the gravest first; what does not by name."""
    listed = list(findings)
    for status, style in _STYLES.items():
        for finding in (found for found in listed if found.status == status):
            _print_bad(finding, style, console)
    _print_names("pass", [found for found in listed if found.status == PASS], console)
    _print_names("skip", [found for found in listed if found.status == SKIP], console)
    counts = {status: sum(found.status == status for found in listed) for status in (FAIL, ERROR, WARN, PASS, SKIP)}
    console.print(Text(", ".join(f"{count} {status}" for status, count in counts.items()), style="bold"))


def findings_as_json(findings: Iterable[Finding], host: str) -> str:
    """The document that the role writes as `preflight_<time>.json`, with one host."""
    return json.dumps({"schema": 1, "hosts": {host: [found.as_dict() for found in findings]}}, indent=2)


def print_checks(checks: Iterable[Check], console: Console) -> None:
    """Every check: its id, what it looks at and why."""
    for check in checks:
        console.print(Text(check.id, style="bold"))
        console.print(Padding(Text(check.looks_at), (0, 0, 0, 2)))
        console.print(Padding(Text(check.why, style="dim"), (0, 0, 0, 2)))


def _print_bad(finding: Finding, style: str, console: Console) -> None:
    subject = f" {for_terminal(finding.subject)}" if finding.subject else ""
    console.print(Text.assemble((f"{finding.status:5}", style), " ", (finding.id, "bold"), subject))
    for label, text in (("seen", finding.seen), ("expected", finding.expected), ("mend", finding.mend)):
        console.print(Padding(Text.assemble((f"{label}: ", "dim"), for_terminal(text)), (0, 0, 0, 6)))
    console.print(Padding(Text(finding.doc, style="dim"), (0, 0, 1, 6)))


def _print_names(label: str, findings: list[Finding], console: Console) -> None:
    if findings:
        names = ", ".join(dict.fromkeys(finding.id for finding in findings))
        console.print(Text.assemble((f"{label:5}", "dim"), " ", names))
