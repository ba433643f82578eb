"""One log, read line by line: gigabytes in constant memory."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from kvkit.checks.finding import PASS, Finding
from kvkit.doctor.symptoms import EVIDENCE, NEVER_HIT, ONLY_DEVICE_HITS, SYMPTOMS, TCP_FALLBACK, Symptom

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
ASKED_FOR_RDMA = re.compile(r"""protocol['"]?\s*[:=]\s*['"]?rdma""")
KEPT = 3
WIDTH = 300
LONGEST = 16_384
"""Characters of a line that are looked at: a dump without an end of line must cost neither memory nor hours."""
ENOUGH_REQUESTS = 5
"""Fewer requests without a hit prove nothing: the first of each prompt always misses."""


class LogError(Exception):
    """A log cannot be read. The message is complete: print it as it is."""


@dataclass
class Seen:
    """The lines of one symptom."""

    symptom: Symptom
    count: int = 0
    last: int = 0
    lines: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, line: str) -> None:
        self.count += 1
        self.last = number
        if len(self.lines) < KEPT:
            self.lines.append((number, line[:WIDTH]))


@dataclass(frozen=True)
class Diagnosis:
    """A finding with the lines that tell it: (line number, text)."""

    finding: Finding
    lines: tuple[tuple[int, str], ...] = ()


def read(path: Path) -> list[Diagnosis]:
    """What one log tells; `-` is standard input, `.gz` is unpacked on the way.

    Raises:
        LogError: it cannot be read.
    """
    try:
        with _opened(path) as lines:
            return list(diagnose(lines, "standard input" if str(path) == "-" else str(path)))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LogError(f"{path}: cannot be read ({reason}); give the path of a log, or - for standard input") from error


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[str]]:
    if str(path) == "-":
        with open(0, encoding="utf-8", errors="replace", closefd=False) as file:
            yield _lines(file)
    elif path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            yield _lines(file)
    else:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield _lines(file)


def _lines(file: TextIO) -> Iterator[str]:
    """Line after line; of one that is longer than `LONGEST`, its beginning."""
    begins = True
    while piece := file.readline(LONGEST):
        if begins:
            yield piece
        begins = piece.endswith("\n")


def diagnose(lines: Iterable[str], source: str) -> Iterator[Diagnosis]:
    """The findings of a log's lines, those of many lines together last."""
    seen = {symptom.id: Seen(symptom) for symptom in (*SYMPTOMS, TCP_FALLBACK)}
    evidence: dict[str, tuple[int, str]] = {}
    hits = Hits()
    asked_for_rdma = False
    for number, raw in enumerate(lines, start=1):
        line = COLOURS.sub("", raw).rstrip()
        asked_for_rdma = asked_for_rdma or ASKED_FOR_RDMA.search(line) is not None
        for one in seen.values():
            if one.symptom.pattern.search(line):
                one.add(number, line)
        for name, pattern in EVIDENCE:
            if name not in evidence and pattern.search(line):
                evidence[name] = (number, line[:WIDTH])
        hits.add(number, line)
    if not asked_for_rdma:
        del seen[TCP_FALLBACK.id]
    for one in seen.values():
        if one.count >= one.symptom.least:
            yield _diagnosis(one, source)
    yield from hits.diagnoses(source)
    for name, place in evidence.items():
        yield Diagnosis(Finding("log.evidence", PASS, name, name, "", "", source), (place,))


def _diagnosis(seen: Seen, source: str) -> Diagnosis:
    symptom, first = seen.symptom, seen.lines[0][0]
    told = f"{seen.count} lines, {first} to {seen.last}" if seen.count > 1 else f"line {first}"
    finding = Finding(
        symptom.id, symptom.status, f"{told}: {symptom.why}", "no such line", symptom.mend, doc(symptom), source
    )
    return Diagnosis(finding, tuple(seen.lines))


def doc(symptom: Symptom) -> str:
    return f"docs/checks/{symptom.id}.md"


class Hits:
    """LMCache's line of each request: how many tokens hit, and how many of them vLLM did not have itself."""

    def __init__(self) -> None:
        self._requests = 0
        self._hits = 0
        self._loads = 0
        self._last: tuple[int, str] = (0, "")

    def add(self, number: int, line: str) -> None:
        if told := NEVER_HIT.pattern.search(line):
            self._requests += 1
            self._hits += _above_zero(told[1])
            self._loads += _above_zero(told[2])
            self._last = (number, line[:WIDTH])

    def diagnoses(self, source: str) -> Iterator[Diagnosis]:
        if self._requests < ENOUGH_REQUESTS or self._loads:
            return
        symptom = ONLY_DEVICE_HITS if self._hits else NEVER_HIT
        seen = f"{self._requests} requests, {self._hits} with hits, 0 that loaded: {symptom.why}"
        finding = Finding(symptom.id, symptom.status, seen, "requests that load", symptom.mend, doc(symptom), source)
        yield Diagnosis(finding, (self._last,))


def _above_zero(number: str) -> bool:
    """Of digits, of which a broken line may hold more than Python converts."""
    return not number.startswith("-") and number.strip("0") != ""
