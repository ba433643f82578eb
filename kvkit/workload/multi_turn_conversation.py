"""Sessions whose every turn carries the whole history.

The answers in the history are scripted, not what the engine said: so both modes send the same bytes. A turn starts
only when the one before it has ended, as a person's would.
"""

from __future__ import annotations

import math

from kvkit.config import Config
from kvkit.workload.request import Message, Request, Workload, common_parameters
from kvkit.workload.text import TokenScale, words


def build(config: Config, scale: TokenScale) -> Workload:
    """Turn 1 has `prefix_tokens` plus a question; each further turn adds the scripted answer and a question."""
    settings, name = config.workload, "multi_turn_conversation"
    sessions, count = _sessions_and_requests(config)
    # All first turns, then all second turns: sessions are alive side by side, as on a real service.
    turns = [(s, t) for t in range(settings.turns) for s in range(sessions)][:count]
    requests = tuple(_turn(config, scale, session, turn) for session, turn in turns)
    return Workload(
        scenario=name,
        requests=requests,
        parameters=common_parameters(config, name, len(requests))
        | {
            "prefix_tokens": settings.prefix_tokens,
            "suffix_tokens": settings.question_tokens,
            "answer_tokens": settings.answer_tokens,
            "sessions": sessions,
            "turns": settings.turns,
            "think_time_s": settings.think_time_s,
        },
    )


def _sessions_and_requests(config: Config) -> tuple[int, int]:
    if config.workload.sessions is not None:
        return config.workload.sessions, config.workload.sessions * config.workload.turns
    requests = config.test.requests_per_scenario
    return math.ceil(requests / config.workload.turns), requests


def _turn(config: Config, scale: TokenScale, session: int, turn: int) -> Request:
    settings, name, key = config.workload, "multi_turn_conversation", f"{config.test.seed}/session/{session}"
    opening_words = scale.words_for(settings.prefix_tokens + settings.question_tokens - scale.template_tokens)
    messages = [Message("user", words(f"{key}/opening", opening_words))]
    for t in range(1, turn + 1):
        messages.append(Message("assistant", words(f"{key}/answer/{t}", scale.words_for(settings.answer_tokens))))
        messages.append(Message("user", words(f"{key}/question/{t}", scale.words_for(settings.question_tokens))))
    tokens = scale.template_tokens + scale.tokens_of(opening_words) + turn * _added_tokens(config, scale)
    return Request(
        request_id=f"{name}-s{session:04d}-t{turn:02d}",
        group=f"session-{session}",
        messages=tuple(messages),
        prompt_tokens=round(tokens),
        max_tokens=config.model.max_tokens,
        after=f"{name}-s{session:04d}-t{turn - 1:02d}" if turn else None,
        think_time_s=settings.think_time_s if turn else 0.0,
    )


def _added_tokens(config: Config, scale: TokenScale) -> int:
    """What a turn adds to the prompt of the turn before it."""
    answer = scale.tokens_of(scale.words_for(config.workload.answer_tokens))
    question = scale.tokens_of(scale.words_for(config.workload.question_tokens))
    return round(answer + question) + scale.turn_tokens
