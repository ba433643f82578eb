"""Recorded conversations in ShareGPT's form, replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvkit.config import Config
from kvkit.workload import SCENARIOS, TokenScale, Workload, WorkloadError

SCALE = TokenScale(tokens_per_word=1.0, template_tokens=30, turn_tokens=20)


def spoken(*texts: str, first: str = "human") -> dict[str, Any]:
    names = ("human", "gpt") if first == "human" else ("gpt", "human")
    return {"id": "x", "conversations": [{"from": names[i % 2], "value": text} for i, text in enumerate(texts)]}


def write(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "conversations.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def build(path: Path, seed: int = 0, requests: int = 30, **changes: Any) -> Workload:
    config = Config.model_validate(
        {
            "openai_api": {"base_url": "http://h/v1"},
            "model": {"name": "m"},
            "scenarios": ["sharegpt"],
            "test": {"seed": seed, "requests_per_scenario": requests},
            "workload": {"conversations_file": path} | changes,
        }
    )
    return SCENARIOS["sharegpt"](config, SCALE)


THREE = [spoken("a?", "a!", "b?", "b!", "c?"), spoken("d?", "d!"), spoken("e?", "e!", "f?")]


def test_each_turn_carries_the_recorded_history(tmp_path: Path) -> None:
    requests = {r.request_id: r for r in build(write(tmp_path, THREE)).requests}
    last = requests["sharegpt-s0000-t02"]
    assert [m.role for m in last.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [m.content for m in last.messages[1:]] == ["a!", "b?", "b!", "c?"]
    assert last.messages[0].content.endswith("\n\na?")
    assert last.after == "sharegpt-s0000-t01"


def test_sessions_are_alive_side_by_side(tmp_path: Path) -> None:
    ids = [r.request_id.removeprefix("sharegpt-") for r in build(write(tmp_path, THREE)).requests]
    assert ids == ["s0000-t00", "s0001-t00", "s0002-t00", "s0000-t01", "s0002-t01", "s0000-t02"]


def test_no_more_requests_are_sent_than_asked_for(tmp_path: Path) -> None:
    # The first conversation has three turns, so two of them give four requests.
    workload = build(write(tmp_path, THREE), requests=4)
    assert {r.group for r in workload.requests} == {"session-0", "session-1"}
    assert len(workload.requests) == workload.parameters["requests"] == 4


def test_sessions_and_turns_limit_what_is_taken(tmp_path: Path) -> None:
    ids = [r.request_id for r in build(write(tmp_path, THREE), sessions=1, turns=2).requests]
    assert ids == ["sharegpt-s0000-t00", "sharegpt-s0000-t01"]


def test_the_text_is_not_ours_so_no_length_is_stated(tmp_path: Path) -> None:
    assert {r.prompt_tokens for r in build(write(tmp_path, THREE)).requests} == {None}


def test_another_seed_begins_every_conversation_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, THREE)
    ours, theirs = build(path), build(path, seed=1)
    assert ours == build(path)
    for one, other in zip(ours.requests, theirs.requests, strict=True):
        assert one.messages[0].content[:20] != other.messages[0].content[:20]


def test_what_conversations_share_stays_shared(tmp_path: Path) -> None:
    opening = "You are a pirate. " * 10
    workload = build(write(tmp_path, [spoken(opening + "Who?"), spoken(opening + "Where?")]))
    total = sum(r.characters for r in workload.requests)
    assert workload.ideal_hit_ratio == pytest.approx((total / 2 - 32) / total, abs=0.05)


def test_conversations_without_turns_are_left_out_and_counted(tmp_path: Path) -> None:
    bing = {"conversations": [{"from": "human", "value": "a"}, {"from": "bing", "value": "b"}]}
    workload = build(write(tmp_path, [spoken(), bing, spoken("lost answer", "a?", first="gpt")]))
    assert workload.parameters["conversations_left_out"] == 2
    assert [len(r.messages) for r in workload.requests] == [1]
    assert workload.requests[0].messages[0].content.endswith("\n\na?")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("[\n{", ":2: is not JSON"),
        ({"a": 1}, ': found {"a": 1}, expected is [{'),
        ([spoken("a?"), {"id": "y"}], ': entry 2: found {"id": "y"}, expected is a list under conversations'),
        (
            [{"conversations": [{"from": "human"}]}],
            ': entry 1, text 1: found {"from": "human"}, expected is text under',
        ),
        ([spoken()], ": none of its 1 conversations has human and gpt in turn"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_place(tmp_path: Path, data: Any, problem: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(WorkloadError) as caught:
        build(path)
    assert str(caught.value).startswith(str(path) + problem)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"gone\.json: cannot be read"):
        build(tmp_path / "gone.json")
