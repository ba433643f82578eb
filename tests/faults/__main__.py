"""Run cells of the fault matrix, print it, and keep it in the documentation.

    python -m tests.faults [--stage S ...] [--fault F ...] [--way W] [--jobs 2] [--within S] [--left] [--write]

What was found is kept in build/faults.json, so the matrix can be run in pieces: --within begins no cell after so many
seconds, and --left takes those that have not yet ended as specified. Exit code 1: a cell failed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults import machine, measuring, playing
from tests.faults.cells import FAULTS, STAGES, Cannot, Cell
from tests.playbooks import PROJECT

KEPT = PROJECT / "build/faults.json"
PAGE = PROJECT / "docs/fault-matrix.md"
SHOWN = 300


def run(cell: Cell) -> dict[str, Any]:
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="kv", ignore_cleanup_errors=True) as folder:
            outcome, said = "as specified", cell.run(Path(folder))
    except Cannot as reason:
        outcome, said = "not run", str(reason)
    except Exception as error:
        outcome, said = "FAILED", f"{type(error).__name__}: {error}"
    print(f"{outcome:12}  {cell.way:8}  {cell.name}  ({time.monotonic() - began:.0f} s)", flush=True)
    if outcome == "FAILED":
        print(said, flush=True)
    return {
        "stage": cell.stage,
        "fault": cell.fault,
        "way": cell.way,
        "outcome": outcome,
        "said": said[-SHOWN:] if outcome == "as specified" else said[:SHOWN],
        "seconds": round(time.monotonic() - began, 1),
    }


class Kept:
    """What was found of each cell, on disk after each."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self.found: list[dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else []

    def add(self, outcome: dict[str, Any]) -> None:
        with self._writing:
            self.found = [one for one in self.found if _place(one) != _place(outcome)] + [outcome]
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(json.dumps(self.found, indent=1))

    def is_done(self, cell: Cell) -> bool:
        place = (cell.stage, cell.fault, cell.way)
        return any(_place(one) == place and one["outcome"] == "as specified" for one in self.found)


def _place(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["stage"], one["fault"], one["way"]


def table(found: Sequence[dict[str, Any]]) -> str:
    marks = {"as specified": "ok", "not run": "not run", "FAILED": "**FAILED**"}
    by_place: dict[tuple[str, str], list[str]] = {}
    for one in found:
        by_place.setdefault((one["fault"], one["stage"]), []).append(f"{marks[one['outcome']]} ({one['way']})")
    lines = ["| | " + " | ".join(STAGES) + " |", "| --- |" + " --- |" * len(STAGES)]
    lines += [
        f"| {fault} | " + " | ".join(", ".join(by_place.get((fault, stage), ["-"])) for stage in STAGES) + " |"
        for fault in FAULTS
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="append", choices=STAGES)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--way", choices=["kvkit", "playbook"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--within", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--left", action="store_true", help="only cells that have not yet ended as specified")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    kept = Kept()
    chosen = [
        cell
        for cell in [*measuring.cells(), *playing.cells()]
        if (not arguments.stage or cell.stage in arguments.stage)
        and (not arguments.fault or cell.fault in arguments.fault)
        and arguments.way in (None, cell.way)
        and not (arguments.left and kept.is_done(cell))
    ]
    last = time.monotonic() + arguments.within
    failed = []

    def one(cell: Cell) -> None:
        if time.monotonic() < last:
            kept.add(outcome := run(cell))
            failed.append(outcome["outcome"] == "FAILED")

    try:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(one, chosen))
    finally:
        machine.end_machines()
    found = kept.found
    print(f"\n{table(found)}\n")
    for outcome in ("as specified", "FAILED", "not run"):
        print(f"{outcome}: {sum(one['outcome'] == outcome for one in found)}")
    if arguments.write:
        PAGE.write_text(page(found))
    return 1 if any(failed) else 0


def page(found: Sequence[dict[str, Any]]) -> str:
    order = {stage: number for number, stage in enumerate(STAGES)}
    rows = [
        f"| {one['stage']} | {one['fault']} | {one['way']} | {one['outcome']} | {one['seconds']:.0f} "
        f"| {escaped(one['said'])} |"
        for one in sorted(found, key=lambda one: (order[one["stage"]], FAULTS.index(one["fault"])))
    ]
    done = sum(one["outcome"] == "as specified" for one in found)
    return HEAD.format(cells=len(found), done=done, table=table(found), rows="\n".join(rows))


def escaped(said: str) -> str:
    """Fit for a cell of a table: from the first task that is named whole, without this machine's paths."""
    said = said[max(0, said.find("TASK [")) :].replace(str(PROJECT), ".")
    said = " ".join(re.sub(r"\*{3,}", "", re.sub(r"/tmp/kv\w*", "DIR", said)).split())
    return said.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


HEAD = """# The fault matrix

What happens when something is killed at a stage of a cycle. `make faults` runs it and writes this page; {done} of
{cells} cells ended as specified when it was written.

{table}

`ok`: nothing that had finished was lost, the service was put back (by the playbook, by the host itself, or by
`restore.yml`), and the operator was told host or address, stage and cause. `kvkit`: the command alone, against an
emulated engine and store in processes of their own. `playbook`: `ansible-playbook` with the emulated inventory.
`-`: not a cell. Where `nothing` was said, the stage reached its end in spite of the fault.

Not here, because they take the real stack or real hosts: an LMCache server, a memory owner apart from its master (the
emulated store is both), a reboot, and a link that is cut.

| stage | fault | driven by | outcome | s | what was said, its end |
| --- | --- | --- | --- | --- | --- |
{rows}
"""


if __name__ == "__main__":
    sys.exit(main())
