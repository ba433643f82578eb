"""The sample trace, for trying `trace` without a file. `python -m kvkit.workload.samples.make_chat_trace` writes it.

Made up, not recorded: sessions begin as a Poisson process and share a system prompt of two blocks; each turn carries
the session's history. Lengths are small, so that a CPU can serve it, too.
"""

from __future__ import annotations

import json
import random
from itertools import count
from typing import Any

from kvkit.workload.trace_file import BLOCK_TOKENS, SAMPLE

SEED = 20251101
SESSIONS = 50
MOST_ROWS = 160
SYSTEM_BLOCKS = 2
SESSIONS_PER_S = 0.5
THINK_TIME_S = 12.0
"""Mean of an exponential distribution, as the time between sessions is."""


def make_rows(seed: int = SEED) -> list[dict[str, Any]]:
    """The sample's rows, in the order of their times."""
    source = random.Random(seed)  # noqa: S311 - repeatable is what is wanted, not secret
    ids = count(SYSTEM_BLOCKS)
    rows: list[dict[str, Any]] = []
    begin_s = 0.0
    for _ in range(SESSIONS):
        blocks, length, at_s = list(range(SYSTEM_BLOCKS)), SYSTEM_BLOCKS * BLOCK_TOKENS, begin_s
        for _ in range(source.randint(1, 6)):
            length += source.randint(20, 900)
            while len(blocks) < length // BLOCK_TOKENS:
                blocks.append(next(ids))
            # A block that is not full yet will hold other tokens in the next turn: it gets an id of its own.
            unfinished = [next(ids)] if length % BLOCK_TOKENS else []
            answer = source.randint(16, 256)
            rows.append(
                {
                    "timestamp": round(at_s * 1000),
                    "input_length": length,
                    "output_length": answer,
                    "hash_ids": blocks + unfinished,
                }
            )
            length += answer
            at_s += source.expovariate(1 / THINK_TIME_S)
        begin_s += source.expovariate(SESSIONS_PER_S)
    return sorted(rows, key=lambda row: row["timestamp"])[:MOST_ROWS]


def as_text(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    SAMPLE.write_text(as_text(make_rows()), encoding="utf-8")
