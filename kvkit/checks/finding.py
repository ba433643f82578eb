"""What a check says."""

from __future__ import annotations

from dataclasses import asdict, dataclass

PASS = "pass"  # noqa: S105  no password
WARN = "warn"
FAIL = "fail"
SKIP = "skip"
ERROR = "error"
"""`skip`: does not apply here; `error`: could not look, which is never a pass."""


@dataclass(frozen=True)
class Finding:
    """One statement of one check about one subject (a device, an address, a key; empty: the host)."""

    id: str
    status: str
    seen: str
    expected: str
    mend: str
    doc: str
    subject: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """A finding before its check has put its name on it."""

    status: str
    seen: str
    expected: str = ""
    mend: str = ""
    subject: str = ""


def passed(seen: str, subject: str = "") -> Verdict:
    return Verdict(PASS, seen, subject=subject)


def warned(seen: str, expected: str, mend: str, subject: str = "") -> Verdict:
    return Verdict(WARN, seen, expected, mend, subject)


def failed(seen: str, expected: str, mend: str, subject: str = "") -> Verdict:
    return Verdict(FAIL, seen, expected, mend, subject)


def skipped(why: str, subject: str = "") -> Verdict:
    """It does not apply here."""
    return Verdict(SKIP, why, subject=subject)


def unknown(why: str, mend: str = "", subject: str = "") -> Verdict:
    """It applies, and could not be looked at."""
    return Verdict(ERROR, why, "to be able to look", mend, subject)
