"""What prompts share: how much of each an infinite cache of prefixes would hold already."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator


def shared_pieces(prompts: Iterable[Iterable[Hashable]]) -> Iterator[int]:
    """How many leading pieces of each prompt an earlier prompt began with, too.

    Pieces are whatever is equal where the tokens are equal: block ids of a trace, pieces of text. A piece is shared
    only together with all before it, as KV blocks are.
    """
    seen: set[int] = set()
    for prompt in prompts:
        prefix = shared = 0
        known = True
        for piece in prompt:
            prefix = hash((prefix, piece))
            known = known and prefix in seen
            shared += known
            seen.add(prefix)
        yield shared
