"""Every oddity of a stream, read over HTTP by the real client, and the metrics worked out by hand.

The client's clock is the script's: the request's first byte is written at second 0, and the server sends piece n at
second n, when the client has read the one before. So every stamp is known, to the last digit.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from kvkit.load import client as client_module
from kvkit.load.answer import Exchange, read_answer, to_record
from kvkit.load.client import ChatClient, ChatSettings
from kvkit.results.record import ErrorKind, Record
from kvkit.workload.request import Message, Request
from tests.load import chunks
from tests.load.chunks import DONE, delta, role, usage
from tests.load.scripted import CUT, ScriptedServer, serving

REQUEST = Request("r-1", "group", (Message("user", "hello"),), prompt_tokens=100, max_tokens=3)


def stream(*pieces: bytes, monkeypatch: pytest.MonkeyPatch) -> Record:
    """The record of a request that was answered with these pieces."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: clock.now_s))

    async def scenario() -> Record:
        read = asyncio.Semaphore(1)
        arrived = Exchange.arrived

        def tell(exchange: Exchange, piece: bytes, at_s: float) -> None:
            arrived(exchange, piece, at_s)
            read.release()

        async def a_second_later() -> None:
            await read.acquire()
            clock.now_s += 1

        monkeypatch.setattr(Exchange, "arrived", tell)
        server = ScriptedServer(pieces, before_piece=a_second_later)
        async with serving(server), ChatClient(ChatSettings(server.url, "m", 0.0, 20.0, "sk")) as chat:
            seen = await chat.exchange(chat.encode(REQUEST))
        return to_record(REQUEST, seen, read_answer(seen), round_number=1, epoch_s=0.0, scheduled_s=0.0, secret="sk")

    return asyncio.run(scenario())


@dataclass(frozen=True)
class Good:
    """What a stream that is a success comes to. The completion tokens are 3 where nothing else is said."""

    ttft_s: float
    itl_s: tuple[float, ...]
    text: str
    first_text_s: float
    tpot_s: float
    """(E2E - TTFT) / (completion tokens - 1)"""
    completion_tokens: int = 3
    cached_tokens: int | None = None


def counted(text: str, completion: int) -> bytes:
    """A delta with the usage so far: vLLM's `continuous_usage_stats`."""
    counts = {"prompt_tokens": 100, "completion_tokens": completion, "prompt_tokens_details": {"cached_tokens": 64}}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return chunks.event({"object": "chat.completion.chunk", "choices": [choice], "usage": counts})


def raw(text: str) -> bytes:
    """A delta whose text stands in the event as it is, not as JSON's escapes."""
    return f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}}}]}}\n\n'.encode()


def crlf(piece: bytes) -> bytes:
    return piece.replace(b"\n", b"\r\n")


def halves(piece: bytes, at: bytes) -> tuple[bytes, bytes]:
    """Cut after the first byte of `at`."""
    cut = piece.index(at) + 1
    return piece[:cut], piece[cut:]


CALL = [{"index": 0, "function": {"arguments": "{"}}]
STOP, COUNTS = delta("stop"), usage()

GOOD: dict[str, tuple[Sequence[bytes], Good]] = {
    # The role at 1 is no token: TTFT is 3, E2E 6; TPOT (6 - 3) / 2
    "the role chunk is sent at once": (
        [role(), b": queued\n\n", delta(content="a"), delta(content="b"), b": busy\n\n", delta("stop", content="c"),
         COUNTS, DONE],
        Good(ttft_s=3, itl_s=(1, 2), text="abc", first_text_s=3, tpot_s=1.5),
    ),
    # Without content, or null, no token came at 2 and 3. TPOT (6 - 4) / 2
    "deltas without content": (
        [role(), delta(), delta(content=None), delta(content="a"), delta(content="b"), delta(content="c"), STOP, COUNTS,
         DONE],
        Good(ttft_s=4, itl_s=(1, 1), text="abc", first_text_s=4, tpot_s=1.0),
    ),
    # Empty content without a role is a token that has no text (yet): TTFT 2, first text 4. TPOT (4 - 2) / 2
    "empty deltas": (
        [role(), delta(content=""), delta(content=""), delta("stop", content="é"), COUNTS, DONE],
        Good(ttft_s=2, itl_s=(1, 1), text="é", first_text_s=4, tpot_s=1.0),
    ),
    # Each chunk names the role; with text it is a token, without it is none. TPOT (3 - 2) / 1
    "the role in every chunk": (
        [role(), delta(role="assistant", content="a"), delta("stop", role="assistant", content="b"),
         usage(completion=2), DONE],
        Good(ttft_s=2, itl_s=(1,), text="ab", first_text_s=2, tpot_s=1.0, completion_tokens=2),
    ),
    # TPOT (4 - 2) / 2
    "reasoning": (
        [role(), delta(reasoning="a"), delta(reasoning="b"), delta("stop", content="c"), COUNTS, DONE],
        Good(ttft_s=2, itl_s=(1, 1), text="abc", first_text_s=2, tpot_s=1.0),
    ),
    "reasoning by its older name": (
        [role(), delta(reasoning_content="a"), delta(reasoning_content="b"), delta("stop", content="c"), COUNTS, DONE],
        Good(ttft_s=2, itl_s=(1, 1), text="abc", first_text_s=2, tpot_s=1.0),
    ),
    "reasoning by both names is one text": (
        [role(), delta(reasoning="a", reasoning_content="a"), delta(content="b"), delta("stop", content="c"), COUNTS,
         DONE],
        Good(ttft_s=2, itl_s=(1, 1), text="abc", first_text_s=2, tpot_s=1.0),
    ),
    # No call at 2, so no token; calls at 3 and 4 are tokens without text; the first text is at 5. TPOT (5 - 3) / 2
    "tool calls": (
        [role(), delta(tool_calls=[]), delta(tool_calls=CALL), delta(tool_calls=CALL), delta("tool_calls", content="a"),
         COUNTS, DONE],
        Good(ttft_s=3, itl_s=(1, 1), text="a", first_text_s=5, tpot_s=1.0),
    ),
    # The last usage counts: 4 tokens in 3 events, as one event may carry several. TPOT (4 - 2) / 3
    "usage in every chunk": (
        [role(), counted("a", 1), counted("b", 2), counted("cd", 4), STOP, DONE],
        Good(ttft_s=2, itl_s=(1, 1), text="abcd", first_text_s=2, tpot_s=2 / 3, completion_tokens=4, cached_tokens=64),
    ),
    # A comment is no event, wherever it stands: the second stands within one. TPOT (5 - 3) / 2
    "comments": (
        [b": ping\n\n", role(), b": ping\n" + delta(content="a"), b":\n\n" + delta(content="b"),
         delta("stop", content="c"), COUNTS, DONE],
        Good(ttft_s=3, itl_s=(1, 1), text="abc", first_text_s=3, tpot_s=1.0),
    ),
    "lines that end with CRLF": (
        [crlf(role()), crlf(delta(content="a")), crlf(delta(content="b")), crlf(delta("stop", content="c")),
         crlf(COUNTS), crlf(DONE)],
        Good(ttft_s=2, itl_s=(1, 1), text="abc", first_text_s=2, tpot_s=1.0),
    ),
    # The event is complete with its last byte, at 3. TPOT (5 - 3) / 2
    "a character cut in two": (
        [role(), *halves(raw("é"), "é".encode()), delta(content="b"), delta("stop", content="c"), COUNTS, DONE],
        Good(ttft_s=3, itl_s=(1, 1), text="ébc", first_text_s=3, tpot_s=1.0),
    ),
    # TPOT (4 - 2) / 2
    "characters at which other readers break lines": (
        [role(), raw("a\u2028b"), raw("\u2029\u0085"), delta("stop", content="c"), COUNTS, DONE],
        Good(ttft_s=2, itl_s=(1, 1), text="a\u2028b\u2029\u0085c", first_text_s=2, tpot_s=1.0),
    ),
    # All came with one read, so no time lies between them: TPOT 0
    "the whole stream in one read": (
        [b"".join(chunks.good("a", "b", "c"))],
        Good(ttft_s=1, itl_s=(0, 0), text="abc", first_text_s=1, tpot_s=0.0),
    ),
    # Role and "a" at 1; "b", "c" at 2. TPOT (2 - 1) / 2
    "several events in a read": (
        [role() + delta(content="a"), delta(content="b") + delta("stop", content="c") + COUNTS + DONE],
        Good(ttft_s=1, itl_s=(1, 0), text="abc", first_text_s=1, tpot_s=0.5),
    ),
    # "a" begins at 2 and is whole at 4, together with half of "b", which is whole at 5. TPOT (6 - 4) / 2
    "an event over several reads": (
        [role(), delta(content="a")[:9], delta(content="a")[9:-1], b"\n" + delta(content="b")[:30],
         delta(content="b")[30:], delta("stop", content="c"), COUNTS, DONE],
        Good(ttft_s=4, itl_s=(1, 1), text="abc", first_text_s=4, tpot_s=1.0),
    ),
    # What follows is nobody's business. TPOT (4 - 2) / 2
    "a cut after [DONE]": (
        [*chunks.good("a", "b", "c"), CUT],
        Good(ttft_s=2, itl_s=(1, 1), text="abc", first_text_s=2, tpot_s=1.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("oddity", GOOD)
def test_a_good_stream(oddity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, expected = GOOD[oddity]
    seen = stream(*pieces, monkeypatch=monkeypatch)
    assert (seen.ok, seen.error, seen.start_s, seen.prompt_tokens) == (True, None, 0, 100)
    assert (seen.ttft_s, seen.itl_s, seen.first_text_s) == (expected.ttft_s, expected.itl_s, expected.first_text_s)
    assert seen.e2e_s == expected.ttft_s + sum(expected.itl_s)
    assert seen.tpot_s == expected.tpot_s
    assert (seen.completion_tokens, seen.cached_tokens) == (expected.completion_tokens, expected.cached_tokens)
    assert seen.text_sha256 == hashlib.sha256(expected.text.encode()).hexdigest()


@dataclass(frozen=True)
class Bad:
    """What a stream that is a failure comes to: its kind, its words, and what had been seen by then."""

    kind: ErrorKind
    words: str
    ttft_s: float | None = 2
    itl_s: tuple[float, ...] = ()


BAD: dict[str, tuple[Sequence[bytes], Bad]] = {
    "an error after HTTP 200": (
        [role(), delta(content="a"), delta(content="b"), chunks.error("KV load failed"), DONE],
        Bad("error_event", "KV load failed", itl_s=(1,)),
    ),
    "an error in the older shape": (
        [role(), chunks.event({"object": "error", "message": "too long", "code": 400}), DONE],
        Bad("error_event", "too long", ttft_s=None),
    ),
    "an event that is no JSON": (
        [role(), delta(content="a"), b"data: <html>\n\n", *chunks.good()],
        Bad("bad_event", "not JSON: <html>"),
    ),
    "no [DONE]": (
        [role(), delta(content="a"), STOP, COUNTS],
        Bad("broken_stream", "the stream ended after 4 events, without [DONE]"),
    ),
    "no usage": (
        [role(), delta(content="a"), delta("stop", content="b"), DONE],
        Bad("no_usage", "no usage came, though stream_options.include_usage was set", itl_s=(1,)),
    ),
    "usage that can not be": (
        [role(), delta(content="a"), STOP, usage(completion=-1), DONE],
        Bad("no_usage", "no usage came, though stream_options.include_usage was set"),
    ),
    "no finish_reason": (
        [role(), delta(content="a"), COUNTS, DONE],
        Bad("no_finish_reason", "no chunk had a finish_reason"),
    ),
    "no token": (
        [role(), STOP, COUNTS, DONE],
        Bad("no_tokens", "the stream ended well but held no token", ttft_s=None),
    ),
    "a cut between events": (
        [role(), delta(content="a"), delta(content="b"), CUT],
        Bad("broken_stream", "", itl_s=(1,)),
    ),
    "a cut within an event": (
        [role(), delta(content="a"), delta(content="b")[:20], CUT],
        Bad("broken_stream", ""),
    ),
    "a cut before the first event": ([CUT], Bad("broken_stream", "", ttft_s=None)),
}


@pytest.mark.parametrize("oddity", BAD)
def test_a_bad_stream(oddity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, expected = BAD[oddity]
    seen = stream(*pieces, monkeypatch=monkeypatch)
    assert (seen.ok, seen.error_kind) == (False, expected.kind)
    assert expected.words in (seen.error or "")
    assert (seen.ttft_s, seen.itl_s) == (expected.ttft_s, expected.itl_s)
    assert seen.text_sha256 is None
