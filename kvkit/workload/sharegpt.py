"""Recorded conversations in ShareGPT's form, replayed: every turn carries the history, answers are the recorded ones.

The text is not ours, so its tokens can't be stated: they are counted by the server before the run, or stay unknown.
Every conversation begins with the same few words that the seed decides: another seed sends prompts that no cache has
seen, and what conversations share stays shared.
"""

from __future__ import annotations

from itertools import accumulate

from kvkit.config import Config
from kvkit.workload.conversations_file import Conversation, read_conversations
from kvkit.workload.request import Message, Request, Workload, common_parameters
from kvkit.workload.text import TokenScale, words

NONCE_WORDS = 8


def build(config: Config, _scale: TokenScale) -> Workload:
    """As many conversations as `sessions` says, or as `requests_per_scenario` needs; of each at most `turns` turns.

    Raises:
        WorkloadError: the file can't be used.
    """
    settings, name = config.workload, "sharegpt"
    assert settings.conversations_file is not None  # the configuration has seen to it
    conversations, left_out = read_conversations(settings.conversations_file)
    sessions, count = _chosen(config, conversations)
    # All first turns, then all second turns: sessions are alive side by side, as on a real service.
    turns = [(s, t) for t in range(settings.turns) for s in range(len(sessions)) if t < sessions[s].turns][:count]
    requests = tuple(_turn(config, sessions[session], session, turn) for session, turn in turns)
    return Workload(
        scenario=name,
        requests=requests,
        parameters=common_parameters(config, name, len(requests))
        | {
            "conversations": settings.conversations_file.name,
            "conversations_left_out": left_out,
            "sessions": len(sessions),
            "turns": settings.turns,
            "think_time_s": settings.think_time_s,
            "nonce_words": NONCE_WORDS,
        },
    )


def _chosen(config: Config, conversations: list[Conversation]) -> tuple[list[Conversation], int | None]:
    """The conversations that are replayed, and how many requests are sent at most."""
    if config.workload.sessions is not None:
        return conversations[: config.workload.sessions], None
    requests = config.test.requests_per_scenario
    turns = accumulate(min(one.turns, config.workload.turns) for one in conversations)
    enough = next((number for number, sent in enumerate(turns, start=1) if sent >= requests), len(conversations))
    return conversations[:enough], requests


def _turn(config: Config, conversation: Conversation, session: int, turn: int) -> Request:
    nonce = words(f"{config.test.seed}/sharegpt", NONCE_WORDS)
    first, *later = conversation.texts[: 2 * turn + 1]
    texts = [f"{nonce}\n\n{first}", *later]
    return Request(
        request_id=f"sharegpt-s{session:04d}-t{turn:02d}",
        group=f"session-{session}",
        messages=tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)),
        prompt_tokens=None,
        max_tokens=config.model.max_tokens,
        after=f"sharegpt-s{session:04d}-t{turn - 1:02d}" if turn else None,
        think_time_s=config.workload.think_time_s if turn else 0.0,
    )
