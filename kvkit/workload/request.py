"""What a scenario makes: requests, and the workload that holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from kvkit.config import Config
from kvkit.workload.sharing import shared_pieces

PIECE_CHARACTERS = 32
"""Shared text is counted in pieces of so many characters: about eight tokens, half of the smallest KV block."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One chat completion to send. The same in every round and in both modes."""

    request_id: str
    group: str
    """The document or session whose prefix it shares; equal to `request_id` where nothing is shared."""
    messages: tuple[Message, ...]
    prompt_tokens: int | None
    """Tokens of the rendered prompt, as measured through the server (within 1 %); `None`: nobody could count them."""
    max_tokens: int
    after: str | None = None
    """The request that must have ended before this one starts (a session's previous turn)."""
    think_time_s: float = 0.0
    """Seconds from the end of `after` until this one wants to start."""
    arrival_s: float | None = None
    """When a recorded workload sent it, in seconds after its first request; `None` where nothing was recorded."""

    @property
    def characters(self) -> int:
        return sum(len(message.content) for message in self.messages)

    def pieces(self) -> Iterator[tuple[str, str]]:
        """The prompt's text in pieces, each with its role, which no two messages have in common."""
        for message in self.messages:
            for at in range(0, len(message.content), PIECE_CHARACTERS):
                yield message.role, message.content[at : at + PIECE_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Workload:
    """A scenario's requests in the order in which they are sent, and what they would reuse at best."""

    scenario: str
    requests: tuple[Request, ...]
    parameters: dict[str, Any]
    """Everything that shaped it (tokens, counts, seed, sampling): compared by name when two runs differ."""
    ideal_hit_ratio: float = field(init=False)
    """Prompt tokens of round 1 that an infinite, instant cache would serve, over all prompt tokens."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ideal_hit_ratio", _ideal_hit_ratio(self.requests))

    def ideal_hit_ratio_of(self, round_number: int) -> float | None:
        """The same for any round. `None`: the prompts' tokens are not known.

        Later rounds repeat every prompt: all is a hit but each prompt's last token, which an engine always computes,
        because the first token of the answer comes from it.
        """
        if round_number == 1:
            return self.ideal_hit_ratio
        tokens = _known_tokens(self.requests)
        return None if tokens is None else 1 - len(tokens) / sum(tokens)

    @property
    def fingerprint(self) -> str:
        """`sha256:` of the parameters and of every byte that is sent. Equal fingerprints: the runs can be compared."""
        digest = hashlib.sha256()
        digest.update(json.dumps(self.parameters, sort_keys=True).encode())
        for request in self.requests:
            line = [
                request.request_id,
                [[m.role, m.content] for m in request.messages],
                request.max_tokens,
                request.after,
            ]
            digest.update(json.dumps(line).encode())
        return f"sha256:{digest.hexdigest()}"


def _ideal_hit_ratio(requests: Sequence[Request]) -> float:
    """Over the text that is really sent: within a prompt, tokens are taken to be as many as its characters' share.

    Where the prompts' tokens are not known, their characters stand for them.
    """
    tokens = _known_tokens(requests)
    weights = tokens or [request.characters for request in requests]
    hits = 0.0
    for request, weight, shared in zip(
        requests, weights, shared_pieces(request.pieces() for request in requests), strict=True
    ):
        characters = sum(len(text) for _, text in islice(request.pieces(), shared))
        hit = weight * characters / request.characters
        hits += hit if tokens is None else min(hit, weight - 1)
    return hits / sum(weights)


def _known_tokens(requests: Sequence[Request]) -> list[int] | None:
    tokens = [request.prompt_tokens for request in requests if request.prompt_tokens is not None]
    return tokens if len(tokens) == len(requests) else None


def common_parameters(config: Config, scenario: str, requests: int) -> dict[str, Any]:
    """What shapes every scenario alike. Two runs that differ in any of it measure different things."""
    return {
        "scenario": scenario,
        "seed": config.test.seed,
        "requests": requests,
        "rounds": config.test.rounds,
        "concurrency": config.test.concurrency,
        **config.load.parameters,
        "model": config.openai_api.model_name,
        "max_tokens": config.model.max_tokens,
        "temperature": config.model.temperature,
    }
