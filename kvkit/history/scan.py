"""Which files of a results folder may hold a run, and by what it is told that one of them changed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from kvkit.results.errors import ResultsError
from kvkit.results.pairing import NotUsed

_OTHER_RESULTS = ("preflight_", "prove_")
"""What the files begin with that kvkit writes beside runs."""

_CUT_OFF = "*_unfinished_*.json"
"""How far a run came that did not reach its end."""

_CANDIDATE = "candidate.json"
"""Lies beside the runs of a sweep over settings. Each was made with other settings, so they are no history."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a results folder holds. Files are given with their signature: another one means another content."""

    stats: dict[Path, str] = field(default_factory=dict)
    """JSON files, each of which may be a stats file."""
    requests: dict[Path, str] = field(default_factory=dict)
    candidates: list[Path] = field(default_factory=list)
    """Folders of a sweep over settings; nothing in them is looked at."""
    not_read: list[NotUsed] = field(default_factory=list)


def scan(results_dir: Path) -> Found:
    """Look through a results folder and all folders in it, and open nothing.

    Raises:
        ResultsError: there is no such folder.
    """
    if not results_dir.is_dir():
        raise ResultsError(f"{results_dir}: no such folder: give the one with the results as --results-dir")
    found = Found()

    def note(error: OSError) -> None:
        found.not_read.append(NotUsed(Path(error.filename), f"cannot be read: {error.strerror}"))

    for folder, folders, names in os.walk(results_dir, onerror=note):
        folders.sort()
        if _CANDIDATE in names:
            found.candidates.append(Path(folder))
            folders.clear()
            continue
        for name in sorted(names):
            if name.endswith((".json", ".jsonl")) and not name.startswith(_OTHER_RESULTS):
                _look(Path(folder, name), found)
    return found


def _look(path: Path, found: Found) -> None:
    if path.match(_CUT_OFF):
        found.not_read.append(NotUsed(path, "a run that was cut off: kvkit run --resume finishes it"))
        return
    try:
        seen = path.stat()
    except OSError as error:
        found.not_read.append(NotUsed(path, f"cannot be read: {error.strerror}"))
        return
    if not stat.S_ISREG(seen.st_mode):
        found.not_read.append(NotUsed(path, "no regular file"))
        return
    # The time of the last change of its attributes tells of a file that was put back with an old date.
    signature = f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"
    (found.requests if path.suffix == ".jsonl" else found.stats)[path] = signature
