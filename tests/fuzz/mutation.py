"""Broken documents: a good one, cut, spliced and salted with what readers stumble over."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

NASTY: tuple[bytes, ...] = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\r",
    b"\n",
    b"\n\n",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\x1b[2J",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'""',
    b'"',
    b"-1",
    b"0",
    b"1e999",
    b"1e308",
    b"-1e308",
    b"5e-324",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"9" * 30,
    b"9" * 400,
    b"9" * 5000,
    b"[" * 20_000,
    b'{"a":' * 5_000,
    b'"\\ud800"',
    b"\\u0000",
    b"\xc2\xb2",
    b"x" * 5000,
)
"""Values and bytes that are legal somewhere and expected nowhere."""


def mutated(originals: Sequence[bytes], nasty: Sequence[bytes] = NASTY) -> st.SearchStrategy[bytes]:
    """One of the originals after up to five cuts, copies and insertions; sometimes anything at all."""
    salt = st.one_of(st.sampled_from(nasty), st.binary(max_size=8))
    change = st.tuples(st.sampled_from(("replace", "insert", "cut", "repeat", "token")), _place(), _place(), salt)
    broken = st.builds(_changed, st.sampled_from(originals), st.lists(change, max_size=5))
    return st.one_of(broken, broken, broken, st.binary(max_size=200))


def _place() -> st.SearchStrategy[float]:
    """Where in a document: a share of its length, whatever that has become."""
    return st.floats(0, 1)


def _changed(document: bytes, changes: Sequence[tuple[str, float, float, bytes]]) -> bytes:
    for kind, start, length, salt in changes:
        at = int(start * len(document))
        end = min(len(document), at + int(length * 40))
        if kind == "token":  # the value that begins here gives way, so that the document still parses
            at, end = _token(document, at)
        if kind in ("replace", "token"):
            document = document[:at] + salt + document[end:]
        elif kind == "insert":
            document = document[:at] + salt + document[at:]
        elif kind == "cut":
            document = document[:at] + (document[end:] if length < 0.9 else b"")
        else:
            document = document[:end] + document[at:end] * 3 + document[end:]
    return document


def _token(document: bytes, at: int) -> tuple[int, int]:
    """The bounds of the number or word around this place."""
    ends = b" ,:[]{}\"'\n\r\t="
    start = at
    while start > 0 and document[start - 1] not in ends:
        start -= 1
    end = at
    while end < len(document) and document[end] not in ends:
        end += 1
    return start, end
