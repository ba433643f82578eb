"""Where the charts of a report lie: beside it, and named after it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ChartFile:
    """One chart, as two files beside the report."""

    title: str
    png: str
    svg: str

    @property
    def names(self) -> tuple[str, str]:
        return self.png, self.svg

    @classmethod
    def beside(cls, report: Path, scenario: str, subject: str, title: str) -> ChartFile:
        # A link in Markdown ends at a space or a bracket.
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{report.stem}_{scenario}_{subject}")
        return cls(title, f"{stem}.png", f"{stem}.svg")
