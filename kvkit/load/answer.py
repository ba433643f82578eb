"""What an exchange means: token events, usage, success or the kind of failure. Pure; it works on stamps taken before.

Definitions (seconds of one monotonic clock; they are the kit's, see `docs/metrics.md`):

- First token event: the first delta with non-empty `content`, `reasoning`, `reasoning_content` or `tool_calls`, or with
  `content == ""` and no `role` key. A role chunk never counts: proxies and some servers send it at once.
- TTFT: first token event minus start. E2E: last token event minus start. ITL: gaps between token events.
- Success: HTTP 200, a token event, `finish_reason`, `usage`, `[DONE]`, and no `error` event.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kvkit.load.sse import Event, EventReader
from kvkit.results.record import ErrorKind, Record
from kvkit.results.units import MOST
from kvkit.workload.request import Request

WORDS_KEPT = 300
"""Characters of a server's or a transport's own words that a record keeps."""

BODY_HEAD = 4096
"""Bytes of an answer that are looked at for its words; more of an error page is not read."""


@dataclass(frozen=True, slots=True)
class Failure:
    kind: ErrorKind
    words: str
    """The server's or the transport's own, at full length."""


@dataclass(slots=True)
class Exchange:
    """One request as it went over the wire: stamps and bytes, nothing interpreted."""

    start_s: float
    """Just before the request's first byte was written; before the connection attempt if none came about."""
    written: bool = False
    """A connection was there and the request went out on it."""
    connect_s: float | None = None
    """Setting up its connection: name, TCP and TLS. `None`: it went out on one that was there, or none came about."""
    status: int | None = None
    reads: list[bytes] = field(default_factory=list)
    """The answer's body as it came. Plain bytes: objects for each event would make garbage collections long."""
    stamps_s: list[float] = field(default_factory=list)
    """When each read arrived."""
    failure: Failure | None = None
    """How the transport failed, if it did."""

    def arrived(self, read: bytes, at_s: float) -> None:
        self.reads.append(read)
        self.stamps_s.append(at_s)

    @property
    def body_head(self) -> bytes:
        """The first bytes of the answer: what is quoted when it was no event stream."""
        return b"".join(self.reads)[:BODY_HEAD]


@dataclass(slots=True)
class Answer:
    """What an exchange held."""

    events: int = 0
    """Server-sent events that were interpreted."""
    token_stamps_s: list[float] = field(default_factory=list)
    first_text_s: float | None = None
    text: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    system_fingerprint: str | None = None
    done: bool = False
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Nothing that follows counts: `[DONE]` came, or an event that is an error or no chunk."""
        return self.done or self.failure is not None


def reading(exchange: Exchange) -> Generator[None, None, Answer]:
    """Interpret an exchange's events up to `[DONE]` or the first one that is an error or no chunk.

    Yields after every read, so that who has streams open can look at them in between; returns the answer.
    """
    answer = Answer()
    reader = EventReader()
    reads = zip(exchange.reads, exchange.stamps_s, strict=True) if exchange.status == 200 else ()
    for read, at_s in reads:
        _take_events(answer, reader.feed(read, at_s))
        if answer.ended:
            break
        yield
    answer.failure = answer.failure or _transport_failure(exchange, answer) or _missing(answer)
    return answer


def read_answer(exchange: Exchange) -> Answer:
    """Interpret an exchange at once."""
    steps = reading(exchange)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


def to_record(
    request: Request,
    exchange: Exchange,
    answer: Answer,
    *,
    round_number: int,
    epoch_s: float,
    scheduled_s: float,
    secret: str,
) -> Record:
    """The record of an exchange, with times relative to `epoch_s`, the round's start on the same clock.

    `secret` is starred out of the error's words: some servers quote the key that they refuse.
    """
    failure, stamps, start = answer.failure, answer.token_stamps_s, exchange.start_s
    text = "".join(answer.text)
    return Record(
        request_id=request.request_id,
        round=round_number,
        group=request.group,
        scheduled_s=scheduled_s - epoch_s,
        start_s=start - epoch_s,
        connect_s=exchange.connect_s,
        ttft_s=stamps[0] - start if stamps else None,
        first_text_s=None if answer.first_text_s is None else answer.first_text_s - start,
        e2e_s=stamps[-1] - start if stamps else None,
        itl_s=tuple(later - earlier for earlier, later in pairwise(stamps)),
        expected_prompt_tokens=request.prompt_tokens,
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.cached_tokens,
        completion_tokens=answer.completion_tokens,
        finish_reason=answer.finish_reason,
        ok=failure is None,
        error_kind=failure.kind if failure else None,
        http_status=exchange.status,
        error=quote(failure.words, secret) if failure else None,
        text_sha256=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest() if failure is None else None,
    )


def quote(words: str, secret: str) -> str:
    """Somebody else's words on one line, without the secret, and no longer than a record keeps."""
    clean = words.replace(secret, "***") if secret else words
    line = " ".join(clean.encode(errors="replace").decode().split())
    return line if len(line) <= WORDS_KEPT else line[: WORDS_KEPT - 1] + "…"


def error_words(body: bytes) -> str:
    """The message in a server's error body, in OpenAI's shape or any other."""
    text = body.decode(errors="replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _message(data.get("error") or data) if isinstance(data, dict) else text


def _message(error: Any) -> str:
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    return error if isinstance(error, str) else json.dumps(error)


def _take_events(answer: Answer, events: Iterable[Event]) -> None:
    for event in events:
        answer.events += 1
        answer.failure = _take_event(answer, event)
        if answer.ended:
            return


def _take_event(answer: Answer, event: Event) -> Failure | None:
    if event.data == b"[DONE]":
        answer.done = True
        return None
    try:
        chunk = json.loads(event.data)
    except (ValueError, RecursionError):
        return Failure("bad_event", "not JSON: " + event.data.decode(errors="replace"))
    if not isinstance(chunk, dict):
        return Failure("bad_event", "not a chunk: " + event.data.decode(errors="replace"))
    if chunk.get("error") is not None or chunk.get("object") == "error":
        return Failure("error_event", _message(chunk.get("error") or chunk))
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        return Failure("bad_event", "no choices: " + event.data.decode(errors="replace"))
    for choice in choices:
        _take_choice(answer, choice, event.at_s)
    if isinstance(usage := chunk.get("usage"), dict):
        _take_usage(answer, usage)
    if isinstance(fingerprint := chunk.get("system_fingerprint"), str):
        answer.system_fingerprint = fingerprint
    return None


def _take_choice(answer: Answer, choice: dict[str, Any], at_s: float) -> None:
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    # `reasoning_content` is the older name of `reasoning`; some releases send both, with the same text.
    reasoning = delta.get("reasoning") or delta.get("reasoning_content")
    text = "".join(part for part in (reasoning, delta.get("content")) if isinstance(part, str))
    if text or delta.get("tool_calls") or (delta.get("content") == "" and "role" not in delta):
        answer.token_stamps_s.append(at_s)
    if text:
        answer.text.append(text)
        answer.first_text_s = at_s if answer.first_text_s is None else answer.first_text_s
    if isinstance(reason := choice.get("finish_reason"), str):
        answer.finish_reason = reason


def _take_usage(answer: Answer, usage: dict[str, Any]) -> None:
    details = usage.get("prompt_tokens_details")
    answer.prompt_tokens = _count(usage.get("prompt_tokens"))
    answer.completion_tokens = _count(usage.get("completion_tokens"))
    answer.cached_tokens = _count(details.get("cached_tokens")) if isinstance(details, dict) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def _transport_failure(exchange: Exchange, answer: Answer) -> Failure | None:
    if exchange.status is not None and exchange.status != 200:
        return Failure("http_error", error_words(exchange.body_head) or f"HTTP {exchange.status}, empty body")
    if answer.done:
        return None
    if exchange.failure is not None:
        return exchange.failure
    if not answer.events:
        begin = exchange.body_head.decode(errors="replace") or "(nothing)"
        return Failure("broken_stream", f"no event came; the body begins: {begin}")
    return Failure("broken_stream", f"the stream ended after {answer.events} events, without [DONE]")


def _missing(answer: Answer) -> Failure | None:
    if not answer.token_stamps_s:
        return Failure("no_tokens", "the stream ended well but held no token")
    if answer.finish_reason is None:
        return Failure("no_finish_reason", "no chunk had a finish_reason")
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        return Failure("no_usage", "no usage came, though stream_options.include_usage was set")
    return None
