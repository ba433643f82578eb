"""From ansible-runner's events to what happened, and to how the cycle ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from kvkit.cycle_events import (
    FOLLOWING,
    PLAYS,
    RESTORED_TASK,
    TASKS,
    VALIDITY_TASKS,
    Events,
    Outcome,
    conclude,
    message_of,
)
from kvkit.ending import Ending
from kvkit.report.cycling import Failed, Happening, HostAt, Said, StageStarted
from tests.playbooks import PROJECT

MEASURING = "Each mode has been measured, and the service is as it was found"


def play(name: str) -> dict[str, Any]:
    return {"event": "playbook_on_play_start", "event_data": {"name": name}}


def task(name: str) -> dict[str, Any]:
    return {"event": "playbook_on_task_start", "event_data": {"name": name}}


def ended(kind: str, host: str = "a", **data: Any) -> dict[str, Any]:
    return {"event": f"runner_on_{kind}", "event_data": {"host": host, **data}}


def took(*events: Mapping[str, Any]) -> tuple[list[Happening], Outcome]:
    taker = Events()
    return [happening for event in events for happening in taker.take(event)], taker.outcome


def names_in(data: Any) -> set[str]:
    """Every name of a play or task in a playbook or a file of tasks."""
    if isinstance(data, list):
        return set().union(*(names_in(each) for each in data)) if data else set()
    if not isinstance(data, dict):
        return set()
    blocks = [data.get(key) for key in ("tasks", "block", "rescue", "always")]
    return {data.get("name", "")} | names_in([each for each in blocks if each])


def written() -> set[str]:
    files = [
        *PROJECT.glob("playbooks/*.yml"),
        *PROJECT.glob("playbooks/tasks/*.yml"),
        *PROJECT.glob("roles/*/tasks/*.yml"),
    ]
    return set().union(*(names_in(yaml.safe_load(file.read_text())) for file in files))


def test_every_play_of_the_cycle_has_a_stage() -> None:
    plays = []
    for entry in yaml.safe_load((PROJECT / "playbooks/site.yml").read_text()):
        imported = entry.get("ansible.builtin.import_playbook")
        within = yaml.safe_load((PROJECT / "playbooks" / imported).read_text()) if imported else [entry]
        plays += [each["name"] for each in within]
    assert plays == list(PLAYS)


@pytest.mark.parametrize("name", [*TASKS, RESTORED_TASK, *sorted(VALIDITY_TASKS)])
def test_every_task_that_is_looked_out_for_is_written_so(name: str) -> None:
    assert name.rsplit(" : ", maxsplit=1)[-1].replace("{}", "{{ kv_mode }}") in written()


def test_a_play_is_a_stage_and_so_is_what_a_task_begins() -> None:
    happened, _ = took(
        play("The hosts can run the kit's services, and each vLLM host has what its connector reads"),
        play(MEASURING),
        task("Serve in mode with-cache"),
        task("vllm : Wait for an answer of vllm"),
        task("Measure in mode with-cache"),
        task("Restore the mode that was found"),
    )
    stages = [one.stage for one in happened if isinstance(one, StageStarted)]
    assert stages == ["provision", "serve with-cache", "measure with-cache", "restore"]


def test_a_host_runs_a_task_and_at_the_stages_end_stands_where_it_was_worst() -> None:
    happened, _ = took(
        play("The report is written"),
        task("one"),
        ended("start"),
        ended("ok", res={"changed": True}),
        ended("ok", res={}),
        ended("skipped", host="b"),
        {"event": "playbook_on_stats", "event_data": {}},
    )
    assert [one for one in happened if isinstance(one, HostAt)] == [
        HostAt("report", "a", "running", "one"),
        HostAt("report", "a", "changed"),
        HostAt("report", "b", "skipped"),
    ]


def test_a_failure_is_told_with_its_message() -> None:
    happened, outcome = took(
        play("The report is written"), task("one"), ended("failed", res={"msg": "seen 1, wanted 2"})
    )
    assert happened[-1] == Failed("report", "a", "one", "seen 1, wanted 2")
    assert outcome.failed == {"one"}


def test_a_failure_that_the_task_ignores_is_none() -> None:
    happened, outcome = took(
        play("The report is written"), task("one"), ended("failed", ignore_errors=True, res={"msg": "no"})
    )
    assert not [one for one in happened if isinstance(one, Failed)]
    assert outcome.failed == set()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"msg": "non-zero return code", "stderr": "no such file\n"}, "non-zero return code\nno such file"),
        ({"msg": "x", "results": [{"msg": "fine"}, {"failed": True, "msg": "bad item"}]}, "bad item"),
        ({"censored": "the output has been hidden"}, "the output has been hidden"),
        ({}, "no message"),
    ],
)
def test_the_message_of_a_failed_task(result: dict[str, Any], message: str) -> None:
    assert message_of(result) == message


def test_what_a_followed_program_prints_is_said_by_its_host() -> None:
    line = {"event": "verbose", "stdout": "gen | Progress 1/2", "event_data": {"task_action": FOLLOWING}}
    other = {"event": "verbose", "stdout": "a | b", "event_data": {"task_action": "command"}}
    happened, _ = took(play(MEASURING), line, other)
    assert happened == [Said("gen", "Progress 1/2")]


def test_what_the_playbook_shows_is_said() -> None:
    happened, _ = took(
        play("The report is written"),
        task("Show"),
        ended("ok", host="localhost", task_action="ansible.builtin.debug", res={"msg": "one\ntwo"}),
    )
    assert happened[-2:] == [Said("localhost", "one"), Said("localhost", "two")]


WENT_THROUGH = (
    play(MEASURING),
    task("Serve in mode baseline"),
    task("Measure in mode baseline"),
    ended("ok"),
    play("The cycle went through, and its result is valid"),
    task(RESTORED_TASK),
    ended("ok"),
)
BROKEN_OFF = (*WENT_THROUGH, task("Nothing broke the cycle off"), ended("failed", res={"msg": "broken"}))
NOT_RESTORED = (*WENT_THROUGH[:-1], ended("failed", res={"msg": "no"}), ended("ok", host="b"))
LOST = (*WENT_THROUGH[:3], ended("unreachable", host="b"), *WENT_THROUGH[3:])
INVALID = (*WENT_THROUGH, task("bench : Every run was valid"), ended("failed", res={"msg": "INVALID"}))
BACK = "The service is back in the mode in which it was found."


@pytest.mark.parametrize(
    ("events", "exit_code", "interrupted", "ending", "words"),
    [
        (WENT_THROUGH, 0, False, Ending.DONE, f"Done and valid. {BACK}"),
        (INVALID, 2, False, Ending.INVALID, f"Done, but the result is INVALID; the reasons stand above. {BACK}"),
        (BROKEN_OFF, 2, False, Ending.NOT_FINISHED, f"could not finish; the reason stands above. {BACK}"),
        (BROKEN_OFF, 2, True, Ending.NOT_FINISHED, f"Interrupted. {BACK}"),
        (NOT_RESTORED, 2, False, Ending.NOT_FINISHED, "The service may NOT be in the mode in which it was found"),
        (LOST, 4, False, Ending.NOT_FINISHED, "The service may NOT be in the mode in which it was found"),
        (WENT_THROUGH[:2], None, True, Ending.NOT_FINISHED, "The service may NOT be in the mode in which it was found"),
        (WENT_THROUGH[:1], 0, False, Ending.NOT_FINISHED, "Nothing was measured"),
    ],
)
def test_how_a_cycle_ends(
    events: tuple[dict[str, Any], ...], exit_code: int | None, interrupted: bool, ending: Ending, words: str
) -> None:
    _, outcome = took(*events)
    told, sentence = conclude(outcome, exit_code, None, interrupted=interrupted)
    assert told == ending
    assert words in sentence


def test_a_playbook_that_does_not_begin_is_wrong_input_in_ansibles_words() -> None:
    said = {"event": "verbose", "stdout": "\x1b[0;31m[ERROR]: no such variable\x1b[0m", "event_data": {}}
    _, outcome = took(said)
    assert conclude(outcome, 4, None, interrupted=False) == (
        Ending.WRONG_INPUT,
        "ansible-playbook did not begin: [ERROR]: no such variable",
    )
    assert not re.search("\x1b", "".join(outcome.complaints))
