"""Mooncake's trace format (FAST'25 release): one request a line, its prompt as ids of 512-token blocks.

`{"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [...]}`. An id stands for a block
together with all blocks before it: two prompts share a prefix as long as their ids are equal. Source: Qin et al.,
"Mooncake: Trading More Storage for Less Computation", FAST 2025; kvcache-ai/Mooncake, FAST25-release/traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import ceil
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kvkit.workload.errors import WorkloadError
from kvkit.workload.sharing import shared_pieces

BLOCK_TOKENS = 512

LARGEST = 10**12
"""No prompt has as many tokens, and no trace lasts as many milliseconds (30 years)."""

SAMPLE = Path(__file__).parent / "samples" / "chat_trace.jsonl"
"""The trace that comes with kvkit."""


class TraceRow(BaseModel):
    """One request of a trace. Keys that other traces add are left aside."""

    model_config = ConfigDict(frozen=True, strict=True)

    timestamp: Annotated[int | float, Field(ge=0, le=LARGEST)]
    """Milliseconds."""
    input_length: Annotated[int, Field(ge=1, le=LARGEST)]
    output_length: Annotated[int, Field(ge=0, le=LARGEST)]
    hash_ids: list[int]

    @model_validator(mode="after")
    def _has_an_id_for_each_block(self) -> Self:
        if len(self.hash_ids) != (blocks := ceil(self.input_length / BLOCK_TOKENS)):
            raise ValueError(
                f"hash_ids: found {len(self.hash_ids)} ids, but {self.input_length} tokens are {blocks} blocks of "
                f"{BLOCK_TOKENS}: allowed is one id a block"
            )
        return self


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What a trace holds, and what an infinite cache would make of it."""

    requests: int
    duration_s: float
    """From the first request to the last."""
    input_tokens: int
    output_tokens: int
    blocks: int
    block_hit_ratio: float
    """Blocks that are prefix hits in an infinite cache, over all blocks: Mooncake's own measure."""
    token_hit_ratio: float
    """The same in tokens: last blocks are not full, and a prompt's last token is always computed."""


def read_trace(path: Path, limit: int | None = None) -> tuple[TraceRow, ...]:
    """The first `limit` requests of a trace.

    Raises:
        WorkloadError: naming the file and the line, what was found and what is allowed.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            rows = [_row(path, number, line) for number, line in enumerate(islice(lines, limit), start=1)]
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read ({error.strerror}); a trace is expected") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"{path}: is not UTF-8 text; a trace is expected, one JSON object a line") from None
    if not rows:
        raise WorkloadError(f"{path}: is empty; a trace is expected, one JSON object a line")
    for number, (before, row) in enumerate(pairwise(rows), start=2):
        if row.timestamp < before.timestamp:
            raise WorkloadError(
                f"{path}:{number}: timestamp: found {row.timestamp} after {before.timestamp}, "
                "allowed are lines in the order of their times"
            )
    return tuple(rows)


def describe(rows: Sequence[TraceRow]) -> TraceFacts:
    """Figures of a whole trace, of at least one row."""
    shared = list(shared_pieces(row.hash_ids for row in rows))
    blocks = sum(len(row.hash_ids) for row in rows)
    input_tokens = sum(row.input_length for row in rows)
    hit_tokens = sum(min(blocks * BLOCK_TOKENS, row.input_length - 1) for row, blocks in zip(rows, shared, strict=True))
    return TraceFacts(
        requests=len(rows),
        duration_s=(rows[-1].timestamp - rows[0].timestamp) / 1000,
        input_tokens=input_tokens,
        output_tokens=sum(row.output_length for row in rows),
        blocks=blocks,
        block_hit_ratio=sum(shared) / blocks,
        token_hit_ratio=hit_tokens / input_tokens,
    )


def _row(path: Path, number: int, line: str) -> TraceRow:
    try:
        return TraceRow.model_validate_json(line)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"][:2])
        if problem["type"] == "json_invalid":
            words = f"is not JSON ({problem['ctx']['error']}); allowed is one JSON object a line"
        elif problem["type"] == "value_error":
            words = str(problem["ctx"]["error"])
        elif problem["type"] == "missing":
            words = f"{key}: is missing; a line has timestamp, input_length, output_length and hash_ids"
        else:
            allowed = problem["msg"].replace("Input should be", "allowed is")
            words = f"{key + ': ' if key else ''}found {problem['input']!r:.60}, {allowed}"
        raise WorkloadError(f"{path}:{number}: {words}") from None
