"""What a scenario makes: requests, and the workload that holds them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from kvkit.config import Config


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
    prompt_tokens: int
    """Tokens of the rendered prompt, as measured through the server (within 1 %)."""
    max_tokens: int
    after: str | None = None
    """The request that must have ended before this one starts (a session's previous turn)."""
    think_time_s: float = 0.0
    """Seconds from the end of `after` until this one wants to start."""
    arrival_s: float | None = None
    """When a recorded workload sent it, in seconds after its first request; `None` where nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A scenario's requests in the order in which they are sent, and what they would reuse at best."""

    scenario: str
    requests: tuple[Request, ...]
    parameters: dict[str, Any]
    """Everything that shaped it (tokens, counts, seed, sampling): compared by name when two runs differ."""
    ideal_hit_ratio: float
    """Prompt tokens of round 1 that an infinite, instant cache would serve, over all prompt tokens."""

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


def common_parameters(config: Config, scenario: str) -> dict[str, Any]:
    """What shapes every scenario alike. Two runs that differ in any of it measure different things."""
    return {
        "scenario": scenario,
        "seed": config.test.seed,
        "requests": config.test.requests_per_scenario,
        "rounds": config.test.rounds,
        "concurrency": config.test.concurrency,
        **config.load.parameters,
        "model": config.openai_api.model_name,
        "max_tokens": config.model.max_tokens,
        "temperature": config.model.temperature,
    }
