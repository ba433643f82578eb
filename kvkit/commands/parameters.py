"""How flags are written, the same in every command."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from cyclopts import Parameter, Token

Many = Parameter(consume_multiple=True, negative=())
"""Several values after one flag: --scenarios A B."""

Flag = Parameter(negative=())
"""A flag that is there or not: no --no-json beside --json."""


def _percent(_: type, tokens: Sequence[Token]) -> float:
    (token,) = tokens
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", token.value)
    if match is None or not float(match[1]):
        raise ValueError(f"found {token.value!r}, expected a share above 0 with its sign, such as 5%")
    return float(match[1])


Percent = Parameter(converter=_percent)
"""With its sign: 5% is 5.0."""

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
