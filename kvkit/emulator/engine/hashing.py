"""Chained block hashes: two prompts share a block's hash only if they agree in every token up to its end."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence


def block_hashes(tokens: Sequence[int], block_size: int, salt: str) -> list[str]:
    """Hashes of the full blocks of a prompt, each over the hash before it and its own tokens.

    Another salt (model name, cache salt) makes every hash another. The tokens behind the last full block have none.
    """
    parent = hashlib.sha256(salt.encode()).digest()
    hashes = []
    for end in range(block_size, len(tokens) + 1, block_size):
        parent = hashlib.sha256(parent + array("I", tokens[end - block_size : end]).tobytes()).digest()
        hashes.append(parent.hex())
    return hashes
