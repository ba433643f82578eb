"""The runs of a results folder. What can be read is read, the rest is named with the reason, nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kvkit.history.cache import Cache, CacheError, Entry
from kvkit.history.past import PastRun, printable, read_past_run
from kvkit.history.scan import Found, scan
from kvkit.results.errors import ResultsError
from kvkit.results.pairing import NotUsed

_MOST_BYTES = 64 * 2**20
"""A stats file is some hundred kB. What is larger is other data, which would be gigabytes once it is read."""

NO_STATS = "no stats file names it: its run was cut off or still goes on, or another tool wrote it"


@dataclass(frozen=True, slots=True)
class History:
    """All runs of one results folder."""

    results_dir: Path
    runs: tuple[PastRun, ...]
    """Oldest first; each once, however many copies of it there are."""
    not_read: tuple[NotUsed, ...]
    """Files that hold no run, or whose records cannot be read, each with the reason."""
    notices: tuple[str, ...]
    """What changed in the folder since it was last read, and what is the matter with the cache."""


def read_history(results_dir: Path) -> History:
    """Read all runs of a folder and of the folders in it; what did not change comes from the cache.

    Raises:
        ResultsError: there is no such folder.
    """
    found = scan(results_dir)
    notices = _left_out(found)
    try:
        cache = Cache.open(results_dir)
    except CacheError as error:
        notices.append(f"every file is read anew: {error}")
        entries = _read(found, {}, results_dir)
    else:
        try:
            entries = _read(found, cache.entries, results_dir)
            notices += [cache.notice] if cache.notice else []
            notices += _changes(entries, cache.entries)
            fresh = {file: entry for file, entry in entries.items() if entry is not cache.entries.get(file)}
            cache.keep(fresh, cache.entries.keys() - entries.keys())
        except CacheError as error:
            notices.append(str(error))
        finally:
            cache.close()
    return _history(results_dir, found, entries, notices)


def _read(found: Found, known: Mapping[str, Entry], results_dir: Path) -> dict[str, Entry]:
    """An entry for each JSON file: the known one itself where neither the file nor its records changed."""
    entries: dict[str, Entry] = {}
    for path, signature in found.stats.items():
        file = _file(path, results_dir)
        entry = known.get(file)
        if entry is None or (entry.signature, entry.records_signature) != (signature, _records_of(path, entry, found)):
            entry = _read_file(path, signature)
            entry = entry._replace(records_signature=_records_of(path, entry, found))
        entries[file] = entry
    return entries


def _read_file(path: Path, signature: str) -> Entry:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ResultsError(f"{path}: larger than {_MOST_BYTES // 2**20} MiB: not a stats file")
        return Entry(signature, None, read_past_run(path), None)
    except OSError as error:
        return Entry(signature, None, None, f"cannot be read: {error.strerror}")
    except ResultsError as error:
        return Entry(signature, None, None, printable(_without_name(error, path)))


def _records_of(path: Path, entry: Entry, found: Found) -> str | None:
    """The signature of the requests file that belongs to a run."""
    return None if entry.run is None else found.requests.get(path.parent / entry.run.records)


def _history(results_dir: Path, found: Found, entries: Mapping[str, Entry], notices: Iterable[str]) -> History:
    not_read = list(found.not_read)
    runs: dict[tuple[object, ...], PastRun] = {}
    named: set[Path] = set()
    for path in found.stats:
        entry = entries[_file(path, results_dir)]
        if entry.run is None:
            not_read.append(NotUsed(path, entry.reason or ""))
            continue
        run = replace(entry.run, path=path)
        named.add(path.parent / run.records)
        first = runs.setdefault(run.identity, run)
        if first is not run:
            not_read.append(NotUsed(path, f"a copy of {first.path}, which counts"))
        elif run.records_problem is not None:
            not_read.append(NotUsed(path, f"its figures are read, but not its requests: {run.records_problem}"))
    not_read += [NotUsed(path, NO_STATS) for path in found.requests if path not in named]
    return History(
        results_dir=results_dir,
        runs=tuple(sorted(runs.values(), key=lambda run: (run.started, run.path))),
        not_read=tuple(sorted(not_read)),
        notices=tuple(notices),
    )


def _left_out(found: Found) -> list[str]:
    if not found.candidates:
        return []
    return [f"left out are candidates of sweeps over settings, each with settings of its own: {len(found.candidates)}"]


def _changes(now: Mapping[str, Entry], before: Mapping[str, Entry]) -> list[str]:
    """What is not as it was when the folder was last read. A new file is nothing to tell of."""
    gone = [file for file in before if file not in now]
    changed = [file for file, entry in now.items() if file in before and entry is not before[file]]
    return [f"gone since the last look: {file}" for file in gone] + [
        f"changed since the last look, and read anew: {file}" for file in changed
    ]


def _file(path: Path, results_dir: Path) -> str:
    return printable(path.relative_to(results_dir).as_posix())


def _without_name(error: ResultsError, path: Path) -> str:
    """The name stands beside the reason already."""
    reason = str(error).removeprefix(f"{path}:")
    return reason.strip() if reason.startswith(" ") else f"line {reason}"
