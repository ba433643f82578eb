"""From ansible-runner's events to what happened: which stage of the cycle, on which host, with which outcome.

A stage is a play of `playbooks/site.yml`, or within the play that measures what a task of this name begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvkit.ending import Ending
from kvkit.report.cycling import Failed, Happening, HostAt, HostState, Said, StageStarted

PLAYS: Mapping[str, str | None] = {
    "The cycle has a name": "begin",
    "The hosts and endpoints are fit for a measurement": "preflight",
    "The hosts can run the kit's services, and each vLLM host has what its connector reads": "provision",
    "The load generator has kvkit": "install kvkit",
    "Each mode has been measured, and the service is as it was found": None,
    "The report is written": "report",
    "The cycle went through, and its result is valid": "verdict",
}
"""The stage of each play; `None`: its tasks say."""

TASKS: Mapping[str, str] = {
    "Nobody has asked to stop before mode {}": "serve {}",
    "Serve in mode {}": "serve {}",
    "Check what the servers answer": "preflight of servers",
    "Prove that the store is in use": "prove",
    "Measure in mode {}": "measure {}",
    "Restore the mode that was found": "restore",
}
"""The stage that a task begins; `{}` is the mode."""

VALIDITY_TASKS = frozenset({"bench : Every run was valid", "report : The comparison is valid"})
"""All was done, and the result is not valid."""

RESTORED_TASK = "The service is as it was found"

FOLLOWING = "kv_follow"
"""The action that shows what a program on a host prints."""

_STATES: Mapping[str, HostState] = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}

_WORST_LAST: tuple[HostState, ...] = ("running", "skipped", "ok", "changed", "failed", "unreachable")


@dataclass
class Outcome:
    """What the events so far come to."""

    plays: int = 0
    failed: set[str] = field(default_factory=set)
    """Names of tasks that failed on some host and were not told to be ignored."""
    measured: bool = False
    """Some host went through the stage of a mode's measurement."""
    changed_service: bool = False
    """The stage that serves in a mode was reached: from then on the service has to be put back."""
    restored: bool = False
    """Every host that was asked said that its service is as it was found, and none was lost."""
    lost: set[str] = field(default_factory=set)
    """Hosts that could not be reached any more."""
    complaints: list[str] = field(default_factory=list)
    """What Ansible itself printed before the first play, and its errors outside of any task."""


class Events:
    """Takes one event after the other."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._stage = ""
        self._task = ""
        self._hosts: dict[str, HostState] = {}
        """Of this stage: the worst that was seen of each."""

    def take(self, event: Mapping[str, Any]) -> Iterator[Happening]:
        """What an event means."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        if kind == "playbook_on_play_start":
            self.outcome.plays += 1
            yield from self._enter(PLAYS.get(data["name"], data["name"]))
        elif kind == "playbook_on_task_start":
            self._task = data["name"]
            yield from self._enter(_stage_of(data["name"]))
        elif kind == "runner_on_start":
            self._hosts.setdefault(data["host"], "running")
            yield HostAt(self._stage, data["host"], "running", self._task)
        elif kind in _STATES:
            yield from self._task_ended(kind, data)
        elif kind == "playbook_on_stats":
            yield from self._leave()
        elif kind == "error" or (kind == "verbose" and not self.outcome.plays):
            self.outcome.complaints += _lines(event)
        elif kind == "verbose" and data.get("task_action") == FOLLOWING:
            for line in _lines(event):
                host, _, said = line.partition(" | ")
                yield Said(host, said)

    def _enter(self, stage: str | None) -> Iterator[Happening]:
        if stage is None or stage == self._stage:
            return
        yield from self._leave()
        self._stage = stage
        self.outcome.changed_service |= stage.startswith("serve")
        yield StageStarted(stage)

    def _leave(self) -> Iterator[Happening]:
        yield from (HostAt(self._stage, host, state) for host, state in self._hosts.items())
        self._hosts = {}

    def _task_ended(self, kind: str, data: Mapping[str, Any]) -> Iterator[Happening]:
        host, result, state = data["host"], data.get("res") or {}, _STATES[kind]
        if state == "failed" and data.get("ignore_errors"):
            state = "ok"
        if state == "ok" and result.get("changed"):
            state = "changed"
        self._note(host, state)
        if state in ("failed", "unreachable"):
            yield Failed(self._stage, host, self._task, message_of(result))
        elif data.get("task_action") in ("debug", "ansible.builtin.debug") and state == "ok":
            yield from (Said(host, line) for line in str(result.get("msg", "")).splitlines())

    def _note(self, host: str, state: HostState) -> None:
        outcome = self.outcome
        self._hosts[host] = max(self._hosts.get(host, "running"), state, key=_WORST_LAST.index)
        if state == "failed":
            outcome.failed.add(self._task)
        elif state == "unreachable":
            outcome.lost.add(host)
        elif self._stage.startswith("measure") and state in ("ok", "changed"):
            outcome.measured = True
        if self._task == RESTORED_TASK:
            outcome.restored = RESTORED_TASK not in outcome.failed


def _stage_of(task: str) -> str | None:
    for name, stage in TASKS.items():
        if found := re.fullmatch(re.escape(name).replace(r"\{\}", r"(\S+)"), task):
            return stage.format(*found.groups())
    return None


def message_of(result: Mapping[str, Any]) -> str:
    """Why a task failed, in its own words; of a loop, each failed item's."""
    items = [item for item in result.get("results") or () if isinstance(item, Mapping) and item.get("failed")]
    if items:
        return "\n".join(message_of(item) for item in items)
    told = [result.get("censored") or result.get("msg"), result.get("stderr") or result.get("module_stderr")]
    return "\n".join(str(part).strip() for part in told if part) or "no message"


def _lines(event: Mapping[str, Any]) -> list[str]:
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in str(event.get("stdout", "")).splitlines() if line.strip()]


def conclude(outcome: Outcome, exit_code: int | None, problem: str | None, *, interrupted: bool) -> tuple[Ending, str]:
    """How the cycle ended, and in a sentence what it came to and what to do.

    Args:
        outcome: of all events.
        exit_code: of `ansible-playbook`, which says less than the events: it ends with 4 for a lost host and for a
            playbook that can't be read.
        problem: why `ansible-playbook` could not be run or followed.
        interrupted: somebody asked for the end.
    """
    if not outcome.plays:
        said = problem or "\n".join(outcome.complaints) or f"it ended with {exit_code}"
        return Ending.WRONG_INPUT, f"ansible-playbook did not begin: {said}"
    if outcome.failed and outcome.failed <= VALIDITY_TASKS and not outcome.lost and not interrupted:
        return Ending.INVALID, f"Done, but the result is INVALID; the reasons stand above. {_service(outcome)}"
    if interrupted:
        words = "Interrupted."
    elif problem is not None:
        words = f"ansible-playbook could not be followed: {problem}."
    elif outcome.failed or outcome.lost or exit_code != 0:
        words = "The cycle could not finish; the reason stands above."
    elif not outcome.measured:
        words = "Nothing was measured: the inventory has no host in the group loadgen."
    else:
        return Ending.DONE, f"Done and valid. {_service(outcome)}"
    return Ending.NOT_FINISHED, f"{words} {_service(outcome)}"


def _service(outcome: Outcome) -> str:
    if not outcome.changed_service:
        return "The service was not touched."
    if outcome.restored and not outcome.lost:
        return "The service is back in the mode in which it was found."
    return (
        "The service may NOT be in the mode in which it was found; to put it back: "
        "ansible-playbook -i INVENTORY playbooks/restore.yml"
    )
