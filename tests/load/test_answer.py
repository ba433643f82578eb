"""What an exchange means, by the kit's definitions. Event n of each stream below arrives at second n."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from kvkit.load.answer import Exchange, Failure, error_words, quote, read_answer, to_record
from kvkit.results.record import ErrorKind, Record
from kvkit.workload.request import Message, Request
from tests.load import chunks
from tests.load.chunks import DONE, delta, role, usage

REQUEST = Request("r-1", "group", (Message("user", "hello"),), prompt_tokens=101, max_tokens=3)
STOP = delta("stop")


def exchange(stream: Sequence[bytes], *, status: int = 200, start_s: float = 0.0) -> Exchange:
    stamps_s = [float(second) for second in range(len(stream))]
    return Exchange(start_s=start_s, written=True, status=status, reads=list(stream), stamps_s=stamps_s)


def record(
    stream: Sequence[bytes],
    *,
    status: int = 200,
    start_s: float = 0.0,
    epoch_s: float = 0.0,
    scheduled_s: float = 0.0,
) -> Record:
    seen = exchange(stream, status=status, start_s=start_s)
    return to_record(
        REQUEST,
        seen,
        read_answer(seen),
        round_number=2,
        epoch_s=epoch_s,
        scheduled_s=scheduled_s,
        secret="",
    )


def token_seconds(*deltas: bytes) -> list[float]:
    return read_answer(exchange([*deltas, STOP, usage(), DONE])).token_stamps_s


def test_times_of_a_good_stream() -> None:
    # role at 0, tokens at 1, 2, 3, usage at 4; the request started at 0.5 of a round that began at 0.25
    seen = record(chunks.good("a", "b", "c"), start_s=0.5, epoch_s=0.25, scheduled_s=0.375)
    assert (seen.scheduled_s, seen.start_s) == (0.125, 0.25)
    assert (seen.ttft_s, seen.first_text_s, seen.e2e_s) == (0.5, 0.5, 2.5)
    assert seen.itl_s == (1.0, 1.0)
    assert seen.tpot_s == (2.5 - 0.5) / (3 - 1)


def test_counts_and_words_of_a_good_stream() -> None:
    seen = record([role(), delta(content="né"), delta("length", content="e"), usage(120, 7, cached=96), DONE])
    assert seen.ok
    assert (seen.prompt_tokens, seen.completion_tokens, seen.cached_tokens) == (120, 7, 96)
    assert (seen.request_id, seen.group, seen.round, seen.expected_prompt_tokens) == ("r-1", "group", 2, 101)
    assert (seen.finish_reason, seen.http_status, seen.error_kind, seen.error) == ("length", 200, None, None)
    assert seen.text_sha256 == hashlib.sha256("née".encode()).hexdigest()


def test_cached_tokens_that_the_server_does_not_tell_are_unknown() -> None:
    assert record(chunks.good()).cached_tokens is None


@pytest.mark.parametrize(
    "not_a_token",
    [role(), delta(role="assistant", content=None), delta(), delta(content=None), delta(tool_calls=[]), usage()],
)
def test_what_is_no_token_event(not_a_token: bytes) -> None:
    assert token_seconds(not_a_token, delta(content="a")) == [1.0]


@pytest.mark.parametrize(
    "token",
    [
        delta(content="a"),
        delta(content=""),  # a special token, or half a character
        delta(role="assistant", content="a"),  # some servers name the role each time
        delta(reasoning="a"),
        delta(reasoning_content="a"),
        delta(tool_calls=[{"index": 0}]),
    ],
)
def test_what_is_a_token_event(token: bytes) -> None:
    assert token_seconds(role(), token) == [1.0]


def test_the_first_text_may_come_after_the_first_token() -> None:
    seen = record([role(), delta(content=""), delta(content="é"), STOP, usage(), DONE])
    assert (seen.ttft_s, seen.first_text_s) == (1.0, 2.0)


def test_two_names_of_one_reasoning_text_count_once() -> None:
    both = read_answer(exchange([delta(reasoning="a", reasoning_content="a"), STOP, usage(), DONE]))
    assert "".join(both.text) == "a"


def test_the_last_usage_counts() -> None:
    seen = record([delta(content="a"), usage(100, 1), delta("stop", content="b"), usage(100, 2), DONE])
    assert seen.completion_tokens == 2


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ([role(), delta(content="a"), chunks.error(), DONE], "error_event"),
        ([role(), chunks.event({"object": "error", "message": "old vLLM", "code": 400}), DONE], "error_event"),
        ([role(), delta(content="a"), b"data: {\n\n", STOP, usage(), DONE], "bad_event"),
        ([b"data: 5\n\n", DONE], "bad_event"),
        ([chunks.event({"object": "chat.completion.chunk"}), DONE], "bad_event"),
        ([role(), delta(content="a"), STOP, usage()], "broken_stream"),
        ([b'{"choices": []}'], "broken_stream"),
        ([], "broken_stream"),
        ([role(), STOP, usage(), DONE], "no_tokens"),
        ([role(), delta(content="a"), usage(), DONE], "no_finish_reason"),
        ([role(), delta("stop", content="a"), DONE], "no_usage"),
        (
            [role(), delta("stop", content="a"), chunks.event({"choices": [], "usage": {"prompt_tokens": 5}}), DONE],
            "no_usage",
        ),
    ],
)
def test_http_200_is_not_success(stream: list[bytes], kind: ErrorKind) -> None:
    seen = record(stream)
    assert not seen.ok
    assert seen.error_kind == kind
    assert seen.error
    assert seen.text_sha256 is None


def test_a_connection_that_breaks_after_done_broke_nothing() -> None:
    broken_late = exchange(chunks.good())
    broken_late.failure = Failure("broken_stream", "reset by peer")
    assert read_answer(broken_late).failure is None


def test_what_comes_after_done_is_not_read() -> None:
    assert record([*chunks.good(), chunks.error()]).ok


def test_an_http_error_has_the_message_of_its_body() -> None:
    seen = record([b'{"error": {"message": ', b'"slow down", "code": 429}}'], status=429)
    assert (seen.error_kind, seen.failure, seen.error) == ("http_error", "http_429", "slow down")
    assert seen.ttft_s is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "a"}}', "a"),
        (b'{"error": "b"}', "b"),
        (b'{"object": "error", "message": "c"}', "c"),
        (b'{"detail": "d"}', '{"detail": "d"}'),
        (b"plain e", "plain e"),
        (b"[" * 100_000, "[" * 100_000),
    ],
)
def test_a_message_is_found_in_any_shape_of_error_body(body: bytes, words: str) -> None:
    assert error_words(body) == words


def test_words_are_kept_on_one_line_and_short() -> None:
    assert quote("a\n\tb  c", secret="") == "a b c"
    assert len(quote("x" * 10_000, secret="")) == 300


@pytest.mark.parametrize("padding", range(280, 310))
def test_the_api_key_is_starred_out_wherever_the_words_are_cut(padding: int) -> None:
    assert "sk" not in quote("x" * padding + "sk-very-secret", secret="sk-very-secret")


def test_half_a_character_pair_in_the_text_is_no_failure() -> None:
    assert record([delta(content="\ud83d"), delta("stop", content="\ude00"), usage(), DONE]).ok
