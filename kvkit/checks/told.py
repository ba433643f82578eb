"""What servers, commands and files of a host tell, whatever that is."""

from __future__ import annotations

import json
import re
from typing import Any


def json_of(text: str | None) -> Any:
    """The JSON value that a text is; `None` where it is none, or is nested deeper than Python reads."""
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return None


def object_of(text: str | None) -> dict[str, Any]:
    """As `json_of`; empty where it is no object."""
    value = json_of(text)
    return value if isinstance(value, dict) else {}


def objects_of(text: str | None) -> list[dict[str, Any]]:
    """As `json_of`; the objects of a list, and nothing else."""
    value = json_of(text)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def number_of(value: object) -> int | None:
    """A whole number that a kernel may have written, or JSON may hold."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    # 64 bits have at most 20 digits; Python converts no more than 4,300, and takes other scripts' digits for digits.
    text = str(value).strip()
    return int(text) if re.fullmatch("-?[0-9]{1,20}", text) else None
