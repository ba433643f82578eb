"""Server-sent events: whole events, whatever the reads look like."""

from __future__ import annotations

import pytest

from kvkit.load.sse import Event, EventReader

STREAM = (
    b": a comment\n"
    b'data: {"a": 1}\n\n'
    b'data:{"no": "space"}\r\n\r\n'
    b"event: named\nid: 7\nretry: 10\ndata: first line\ndata: second line\n\n"
    + 'data: {"text": "one\u2028line\u0085 \u00e9"}\n\n'.encode()
    + b"\n\n"
    b"data:\n\n"
    b": keep-alive\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    b'{"a": 1}',
    b'{"no": "space"}',
    b"first line\nsecond line",
    '{"text": "one\u2028line\u0085 \u00e9"}'.encode(),
    b"",
    b"[DONE]",
]


def read_all(*reads: bytes) -> list[bytes]:
    reader = EventReader()
    return [event.data for at, read in enumerate(reads) for event in reader.feed(read, float(at))]


def test_one_read_may_hold_many_events() -> None:
    assert read_all(STREAM) == EVENTS


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_cut_at_any_byte_changes_nothing(cut: int) -> None:
    assert read_all(STREAM[:cut], STREAM[cut:]) == EVENTS


def test_one_event_may_arrive_in_many_reads() -> None:
    assert read_all(*(bytes([byte]) for byte in STREAM)) == EVENTS


def test_an_event_is_stamped_with_the_read_that_brought_its_last_byte() -> None:
    reader = EventReader()
    assert reader.feed(b"data: a\n\ndata: b", 1.0) == [Event(b"a", 1.0)]
    assert reader.feed(b"\n", 2.0) == []
    assert reader.feed(b"\ndata: c\n\n", 3.0) == [Event(b"b", 3.0), Event(b"c", 3.0)]


def test_an_event_without_its_blank_line_is_none() -> None:
    assert read_all(b"data: whole\n\ndata: half\n") == [b"whole"]


def test_a_lone_carriage_return_ends_no_line() -> None:
    assert read_all(b"data: a\rb\n\n") == [b"a\rb"]


def test_pieces_of_a_long_line_are_joined_once() -> None:
    """Linear time: the reader holds the pieces as they came, it does not grow a string with each read."""
    reader = EventReader()
    pieces = [b"data: ", *([b"x" * 1000] * 1000)]
    for piece in pieces:
        assert reader.feed(piece, 0.0) == []
    assert reader._line == pieces
    assert reader.feed(b"\n\n", 1.0) == [Event(b"x" * 1_000_000, 1.0)]
