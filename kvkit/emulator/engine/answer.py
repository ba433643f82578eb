"""What the emulated model says: words chosen by the prompt, so that every engine gives the same answer."""

from __future__ import annotations

WORDS = ("the", "cache", "holds", "what", "was", "read", "before", "and", "gives", "it", "back", "at", "once")

ANSWER_TOKENS = 256
"""After so many tokens the model ends by itself (`stop`), unless the request ignores that."""

EMPTY_EVERY = 8
"""One token in so many has no text, as special tokens and parts of a character have none."""


def token_text(seed: int, index: int) -> str:
    """Text of the answer's token at `index`, counted from 0. With one seed in eight the first token has none."""
    if (seed + index) % EMPTY_EVERY == 0:
        return ""
    return f" {WORDS[(seed + index) % len(WORDS)]}"
