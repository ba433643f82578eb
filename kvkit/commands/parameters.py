"""How flags are written, the same in every command."""

from __future__ import annotations

import os

from cyclopts import Parameter

Many = Parameter(consume_multiple=True, negative=())
"""Several values after one flag: --scenarios A B."""

Flag = Parameter(negative=())
"""A flag that is there or not: no --no-json beside --json."""

GENERATORS_KEY = "KVKIT_GENERATORS_KEY"


class PlaceError(Exception):
    """An address or a key is missing or has no such form; the message says which."""


def place(text: str, flag: str) -> tuple[str, int]:
    """HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        PlaceError: it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise PlaceError(f"{flag}: found {text!r}, allowed is HOST:PORT, as 10.0.0.20:27100")
    return host.strip("[]"), int(port)


def generators_key() -> bytes:
    """What all load generators of a run know, from the environment, which no process list shows.

    Raises:
        PlaceError: it is not set.
    """
    key = os.environ.get(GENERATORS_KEY, "")
    if not key:
        raise PlaceError(
            f"environment variable {GENERATORS_KEY}: is not set; give all load generators of a run the same"
        )
    return key.encode()
