"""Event streams, whole and cut: any bytes give an answer, and the same one however they arrive."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from kvkit.load.answer import WORDS_KEPT, Exchange, read_answer, to_record
from kvkit.load.sse import EventReader
from kvkit.results.record import Record
from kvkit.results.stats import Counters, TokensBySource
from kvkit.results.summary import summarise_round
from kvkit.results.tally import Tally
from kvkit.workload.request import Message, Request
from tests.fuzz.bounds import bounded
from tests.fuzz.mutation import mutated
from tests.load import chunks

STREAMS = (
    b"".join(chunks.good("a", "b", "c")),
    b"".join(chunks.good()).replace(b"\n", b"\r\n"),
    b": ping\n\n" + chunks.role() + chunks.delta(content="") + chunks.usage(cached=64) + chunks.DONE,
    chunks.role() + chunks.error("the key sk-secret is wrong") + chunks.DONE,
    chunks.delta("stop", reasoning="r", content="c", tool_calls=[{"index": 0}]) + chunks.usage() + chunks.DONE,
)
REQUEST = Request("r-1", "g", (Message("user", "hello"),), prompt_tokens=1, max_tokens=1)

streams = mutated(STREAMS)
cuts = st.lists(st.floats(0, 1), max_size=12)


def cut(stream: bytes, places: list[float]) -> list[bytes]:
    bounds = sorted({0, len(stream), *(int(place * len(stream)) for place in places)})
    return [stream[start:end] for start, end in pairwise(bounds)]


def exchange(reads: list[bytes], status: int = 200) -> Exchange:
    made = Exchange(start_s=0.0, written=True, status=status)
    for read in reads:
        made.arrived(read, 1.0)
    return made


def record(stream: bytes, status: int = 200) -> Record:
    made = exchange([stream], status)
    answer = read_answer(made)
    return to_record(REQUEST, made, answer, round_number=1, epoch_s=0.0, scheduled_s=0.0, secret="sk-secret")


@given(stream=streams, places=cuts)
def test_events_are_the_same_wherever_the_stream_is_cut(stream: bytes, places: list[float]) -> None:
    with bounded():
        whole = EventReader().feed(stream, 1.0)
        reader = EventReader()
        assert [event for read in cut(stream, places) for event in reader.feed(read, 1.0)] == whole


@given(stream=streams)
def test_events_are_the_same_byte_by_byte(stream: bytes) -> None:
    with bounded():
        reader = EventReader()
        single = [event for byte in stream for event in reader.feed(bytes([byte]), 1.0)]
        assert single == EventReader().feed(stream, 1.0)


@given(stream=streams, places=cuts)
def test_an_answer_is_the_same_wherever_the_stream_is_cut(stream: bytes, places: list[float]) -> None:
    with bounded():
        whole, pieces = read_answer(exchange([stream])), read_answer(exchange(cut(stream, places)))
        assert dataclasses.asdict(pieces) == dataclasses.asdict(whole)


@given(stream=streams, status=st.sampled_from((200, 200, 200, 401, 500)))
@example(stream=STREAMS[3], status=200)
@example(stream=b'{"error": {"message": "Incorrect API key provided: sk-secret"}}', status=401)
def test_a_record_of_any_stream_is_kept_and_read_back(stream: bytes, status: int) -> None:
    with bounded():
        made = record(stream, status)
        assert Record.from_line(made.to_line()) == made
        assert made.ok == (made.error_kind is None)
        assert len(made.error or "") <= WORDS_KEPT
        assert "sk-secret" not in made.to_line()


@given(stream=streams)
def test_any_record_can_be_summarised(stream: bytes) -> None:
    with bounded():
        summarise_round(
            Tally.of([record(stream)]),
            number=1,
            isolation=None,
            by_source=TokensBySource(),
            counters=Counters(),
            valid=True,
            invalid_reasons=(),
            max_failed_ratio=1,
        ).model_dump_json()
