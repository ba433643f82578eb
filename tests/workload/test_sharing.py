"""How much of a prompt an infinite cache of prefixes would hold already."""

from __future__ import annotations

import pytest

from kvkit.workload.request import Message, Request, Workload
from kvkit.workload.sharing import shared_pieces


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [
        ([[1, 2, 3], [1, 2, 3]], [0, 3]),
        ([[1, 2, 3], [1, 2, 4], [1, 2, 4, 5]], [0, 2, 3]),
        # The same pieces in another place are other KV.
        ([[1, 2, 3], [2, 3], [1, 3, 2]], [0, 0, 1]),
        # What lies behind a piece that is not shared is computed with it.
        ([[1, 2, 3], [1, 9, 3]], [0, 1]),
        # A prompt does not serve itself.
        ([[7, 7, 7]], [0]),
        ([[]], [0]),
    ],
)
def test_a_piece_is_shared_with_all_before_it_or_not_at_all(prompts: list[list[int]], shared: list[int]) -> None:
    assert list(shared_pieces(prompts)) == shared


def workload(*prompts: tuple[str, int | None]) -> Workload:
    requests = [
        Request(f"r{i}", "g", (Message("user", text),), prompt_tokens=tokens, max_tokens=1)
        for i, (text, tokens) in enumerate(prompts)
    ]
    return Workload("made_up", tuple(requests), {})


def test_tokens_are_shared_as_the_characters_are() -> None:
    # 64 of 128 characters, so 20 of the second prompt's 40 tokens; 60 tokens in all.
    made = workload(("a" * 64, 20), ("a" * 64 + "b" * 64, 40))
    assert made.ideal_hit_ratio == pytest.approx(20 / 60)


def test_a_prompt_that_is_sent_twice_still_has_its_last_token_computed() -> None:
    assert workload(("a" * 64, 20), ("a" * 64, 20)).ideal_hit_ratio == pytest.approx(19 / 40)


def test_where_tokens_are_not_known_characters_stand_for_them() -> None:
    made = workload(("a" * 64, None), ("a" * 64 + "b" * 64, None))
    assert made.ideal_hit_ratio == pytest.approx(64 / 192)
    assert made.ideal_hit_ratio_of(2) is None


def test_the_same_text_of_another_role_is_another_prompt() -> None:
    requests = [
        Request(role, "g", (Message(role, "a" * 64),), prompt_tokens=10, max_tokens=1) for role in ("user", "system")
    ]
    assert Workload("made_up", tuple(requests), {}).ideal_hit_ratio == 0.0
