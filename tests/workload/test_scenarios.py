"""What the scenarios send: stated lengths, stated sharing, the same bytes for the same seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kvkit.config import Config
from kvkit.workload import SCENARIOS, Request, TokenScale, Workload

BYTES = TokenScale(tokens_per_word=6.0, template_tokens=30, turn_tokens=20)
"""As a byte-level tokenizer counts: five letters and a space."""

OF_OUR_OWN_TEXT = [name for name in SCENARIOS if name != "sharegpt"]


def config(**changes: Any) -> Config:
    data: dict[str, Any] = {
        "openai_api": {"base_url": "http://h/v1"},
        "model": {"name": "m", "max_tokens": 8},
        "test": {"requests_per_scenario": 12, "seed": changes.pop("seed", 0)},
        "load": changes.pop("load", {}),
        "workload": {"prefix_tokens": 3000, "suffix_tokens": 300, "answer_tokens": 120} | changes,
    }
    return Config.model_validate(data)


def build(name: str, **changes: Any) -> Workload:
    return SCENARIOS[name](config(**changes), BYTES)


def text(request: Request) -> str:
    return "\n".join(m.content for m in request.messages)


def tokens(request: Request) -> int:
    assert request.prompt_tokens is not None
    return request.prompt_tokens


def shared_characters(a: Request, b: Request) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(text(a), text(b), strict=False)) if x != y), min(len(text(a)), len(text(b)))
    )


@pytest.mark.parametrize("name", OF_OUR_OWN_TEXT)
def test_the_same_seed_sends_the_same_bytes(name: str) -> None:
    assert build(name) == build(name)
    assert build(name).fingerprint == build(name).fingerprint


@pytest.mark.parametrize("name", OF_OUR_OWN_TEXT)
def test_another_seed_shares_nothing_with_it(name: str) -> None:
    for a, b in zip(build(name).requests, build(name, seed=1).requests, strict=True):
        assert shared_characters(a, b) < 60
    assert build(name).fingerprint != build(name, seed=1).fingerprint


@pytest.mark.parametrize("name", OF_OUR_OWN_TEXT)
def test_request_ids_are_unique(name: str) -> None:
    ids = [r.request_id for r in build(name).requests]
    assert len(set(ids)) == len(ids) == 12


@pytest.mark.parametrize("name", OF_OUR_OWN_TEXT)
def test_the_arrivals_are_part_of_the_fingerprint(name: str) -> None:
    rates = [config(load={"rate": rate}) for rate in (1, 2)]
    assert len({SCENARIOS[name](each, BYTES).fingerprint for each in rates} | {build(name).fingerprint}) == 3


@pytest.mark.parametrize("name", OF_OUR_OWN_TEXT)
def test_the_ideal_hit_ratio_is_that_of_the_text_that_is_sent(name: str) -> None:
    """Counted the slow way: the longest beginning that a prompt has in common with any before it, over all text."""
    requests = build(name).requests
    common = [max((shared_characters(r, other) for other in requests[:i]), default=0) for i, r in enumerate(requests)]
    # A piece of text is 32 characters, so each prompt may fall short by that.
    assert build(name).ideal_hit_ratio == pytest.approx(sum(common) / sum(len(text(r)) for r in requests), abs=0.03)


@pytest.mark.parametrize("name", OF_OUR_OWN_TEXT)
def test_a_prompt_has_the_tokens_that_it_states(name: str) -> None:
    for request in build(name).requests:
        # The template, 20 more for each further pair of messages, and one token a character or separator.
        counted = 30 + 20 * (len(request.messages) // 2) + sum(len(m.content) + 1 for m in request.messages)
        assert counted == pytest.approx(request.prompt_tokens, rel=0.01)


class TestLongContextHighReuse:
    def test_prompts_have_prefix_plus_suffix_tokens(self) -> None:
        for request in build("long_context_high_reuse").requests:
            assert request.prompt_tokens == pytest.approx(3300, rel=0.01)

    def test_questions_about_one_document_share_it_whole(self) -> None:
        requests = build("long_context_high_reuse", documents=2).requests
        assert shared_characters(requests[0], requests[2]) >= 2900

    def test_documents_share_nothing(self) -> None:
        requests = build("long_context_high_reuse", documents=2).requests
        assert shared_characters(requests[0], requests[1]) < 60

    def test_questions_go_round_the_documents(self) -> None:
        groups = [r.group for r in build("long_context_high_reuse", documents=2).requests]
        assert groups[:4] == ["document-0", "document-1", "document-0", "document-1"]

    def test_documents_times_questions_requests_are_sent_when_questions_are_given(self) -> None:
        workload = build("long_context_high_reuse", documents=2, questions=4)
        assert Counter(r.group for r in workload.requests) == {"document-0": 4, "document-1": 4}
        assert workload.parameters["requests"] == 8

    def test_the_reuse_ratio_is_shared_over_all_tokens(self) -> None:
        assert build("long_context_high_reuse").parameters["reuse_ratio"] == pytest.approx(3000 / 3300, abs=0.01)

    def test_at_best_all_but_each_documents_first_sending_is_reused(self) -> None:
        # 12 requests, 3 documents: 9 of 12 find 3000 of their 3300 tokens.
        assert build("long_context_high_reuse").ideal_hit_ratio == pytest.approx(9 * 3000 / (12 * 3300), rel=0.01)


class TestMultiTurnConversation:
    def test_a_turn_carries_the_whole_turn_before_it(self) -> None:
        requests = {r.request_id: r for r in build("multi_turn_conversation", turns=3).requests}
        for request in requests.values():
            if request.after is not None:
                assert request.messages[: len(requests[request.after].messages)] == requests[request.after].messages

    def test_only_a_sessions_first_turn_waits_for_nothing(self) -> None:
        requests = build("multi_turn_conversation", turns=3).requests
        assert [r.request_id for r in requests if r.after is None] == [r.request_id for r in requests[:4]]

    def test_sessions_times_turns_requests_are_sent_when_both_are_given(self) -> None:
        assert len(build("multi_turn_conversation", sessions=2, turns=3).requests) == 6

    def test_only_later_turns_think(self) -> None:
        workload = build("multi_turn_conversation", sessions=1, turns=2, think_time_s=2.5)
        assert [r.think_time_s for r in workload.requests] == [0.0, 2.5]
        assert workload.fingerprint != build("multi_turn_conversation", sessions=1, turns=2).fingerprint

    def test_a_turn_adds_an_answer_and_a_question(self) -> None:
        first, second = build("multi_turn_conversation", sessions=1, turns=2).requests
        # 120 answer + 300 question + 20 of the template.
        assert tokens(second) - tokens(first) == 440

    def test_at_best_every_later_turn_finds_the_turn_before_it(self) -> None:
        workload = build("multi_turn_conversation", sessions=1, turns=2)
        first, second = workload.requests
        assert workload.ideal_hit_ratio == pytest.approx(tokens(first) / (tokens(first) + tokens(second)), rel=0.01)


class TestColdStart:
    def test_no_two_prompts_share_a_chunk(self) -> None:
        requests = build("cold_start").requests
        pairs = [(a, b) for i, a in enumerate(requests) for b in requests[:i]]
        assert max(shared_characters(a, b) for a, b in pairs) < 60

    def test_nothing_can_be_reused(self) -> None:
        assert build("cold_start").ideal_hit_ratio == 0.0

    def test_a_later_round_can_reuse_all_but_each_prompts_last_token(self) -> None:
        workload = build("cold_start")
        assert workload.ideal_hit_ratio_of(1) == 0.0
        assert workload.ideal_hit_ratio_of(2) == 1 - 12 / sum(tokens(request) for request in workload.requests)
