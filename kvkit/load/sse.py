"""Server-sent events out of bytes, each stamped when its last byte arrived.

Written by hand because readers that work on text lose what is measured here: they split lines at U+2028, decode before
they stamp, or join the whole stream again for each read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    data: bytes
    """The event's `data` lines, joined by newlines."""
    at_s: float
    """When the read with the event's last byte returned."""


class EventReader:
    r"""Feeds on reads of any size, gives whole events. Time is linear in the bytes, however they are cut.

    An event ends at a blank line; only `\n` or `\r\n` ends a line; a line that begins with `:` is a comment; fields
    other than `data` are left aside. An event without its blank line is not an event (WHATWG HTML, 9.2.6).
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        """Pieces of the line that has not ended yet: joined once, at its end."""
        self._data: list[bytes] = []

    def feed(self, read: bytes, at_s: float) -> list[Event]:
        """The events that this read completes, in order, all stamped `at_s`."""
        events: list[Event] = []
        *ended, rest = read.split(b"\n")
        for piece in ended:
            self._line.append(piece)
            line = b"".join(self._line).removesuffix(b"\r")
            self._line.clear()
            if line:
                self._take(line)
            elif self._data:
                events.append(Event(b"\n".join(self._data), at_s))
                self._data.clear()
        if rest:
            self._line.append(rest)
        return events

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
