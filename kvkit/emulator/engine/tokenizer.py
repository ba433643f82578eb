"""A tokenizer whose counts can be worked out by hand: pieces of at most four letters, punctuation apart.

It resembles a byte-pair tokenizer where that matters to a load generator: words fall into several tokens, a space
belongs to the token after it, and the count of a text is not the count of its words.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

PIECE = re.compile(r"\s?\w{1,4}|\s?[^\w\s]|\s")
"""Covers every text without a gap: `hello, world` is `hell` `o` `,` ` worl` `d`."""

VOCABULARY = 151_643
"""Ordinary token ids are below it; Qwen2.5's number. Two pieces may share an id, a whole block of them will not."""

MESSAGE_START = VOCABULARY
MESSAGE_END = VOCABULARY + 1
NEWLINE = VOCABULARY + 2

TEMPLATE_TOKENS_PER_MESSAGE = 4
"""Start, role, end and newline."""
TEMPLATE_TOKENS_GENERATION_PROMPT = 3
"""Start, role `assistant` and newline."""


def encode(text: str) -> list[int]:
    """Token ids of a text; the same on every machine and in every process."""
    return [_id(piece) for piece in PIECE.findall(text)]


def encode_chat(messages: Iterable[tuple[str, str]], *, add_generation_prompt: bool) -> list[int]:
    """Token ids of messages of (role, content) under the chat template."""
    tokens: list[int] = []
    for role, content in messages:
        tokens += [MESSAGE_START, _id(role), *encode(content), MESSAGE_END, NEWLINE]
    if add_generation_prompt:
        tokens += [MESSAGE_START, _id("assistant"), NEWLINE]
    return tokens


def _id(piece: str) -> int:
    return zlib.crc32(piece.encode("utf-8", "surrogatepass")) % VOCABULARY
