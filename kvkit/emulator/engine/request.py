"""A request inside the engine: what it asks for, how far it is, and when what happened."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from kvkit.emulator.engine.device_cache import BlockTable

FinishReason = Literal["stop", "length", "abort", "error"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a client asks of the engine."""

    tokens: list[int]
    max_tokens: int
    ignore_eos: bool = False
    cache_salt: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """One step's outcome for a request: a token, an end, or both."""

    text: str | None
    """The token's text, which may be empty; `None` when there is no token."""
    finish_reason: FinishReason | None = None


@dataclass(slots=True)
class Times:
    """Seconds of the event loop's clock."""

    arrived: float = 0.0
    due: float = 0.0
    """When its next work could begin: it has arrived, or its load of external KV has ended by the settings."""
    scheduled: float = 0.0
    """When its first prefill chunk was scheduled; a load of external KV has ended by then."""
    first_token: float = 0.0
    last_token: float = 0.0


@dataclass(slots=True, eq=False)
class EngineRequest:
    """One prompt on its way to its answer."""

    request_id: str
    prompt_tokens: int
    hashes: tuple[str, ...]
    """Of the prompt's full blocks."""
    max_tokens: int
    answer_seed: int = 0
    stop_after: int | None = None
    """The model's own end of the answer, in tokens; `None` when the end is to be ignored."""
    external_disabled: bool = False
    """The connector is broken for this request: nothing is looked up and nothing is stored."""
    load_fails: bool = False
    """External KV is found but its load fails."""
    load_corrupts: bool = False
    """External KV is loaded, and is other than what was stored."""
    pace: float = 1.0
    """How many times as long as the settings say its prefill and its loads take."""

    computed: int = 0
    """Tokens whose KV the device holds, cached ones included."""
    to_load: int = 0
    """Tokens behind them that the external tier has and the device is about to get."""
    generated: int = 0
    device_tokens: int = 0
    """Prompt tokens that the device cache served when the request was first admitted."""
    external_tokens: int = 0
    """Prompt tokens that the external tier served then."""
    preemptions: int = 0
    finish_reason: FinishReason | None = None
    table: BlockTable = field(default_factory=BlockTable)
    times: Times = field(default_factory=Times)
    outputs: asyncio.Queue[Output] = field(default_factory=asyncio.Queue)

    @property
    def total_tokens(self) -> int:
        """Tokens whose KV the next token needs."""
        return self.prompt_tokens + self.generated

    @property
    def remaining(self) -> int:
        """Tokens still to be computed before the next token can be sampled."""
        return self.total_tokens - self.computed

    @property
    def decoding(self) -> bool:
        return self.generated > 0 and self.remaining == 1

    @property
    def cached_tokens(self) -> int:
        return self.device_tokens + self.external_tokens

    @property
    def reached_end(self) -> FinishReason | None:
        """Why the answer is complete with the tokens generated so far, if it is."""
        if self.stop_after is not None and self.generated >= self.stop_after:
            return "stop"
        return "length" if self.generated >= self.max_tokens else None
