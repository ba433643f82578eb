"""What a trace holds, in words."""

from __future__ import annotations

from kvkit.report import wording
from kvkit.workload.trace_file import BLOCK_TOKENS, TraceFacts


def trace_lines(facts: TraceFacts) -> list[str]:
    return [
        f"Requests: {wording.count(facts.requests)} in {wording.number(facts.duration_s)} s",
        f"Tokens: {wording.count(facts.input_tokens)} of prompts, {wording.count(facts.output_tokens)} of answers",
        f"Blocks of {BLOCK_TOKENS} tokens: {wording.count(facts.blocks)}",
        f"Ideal hit ratio: {wording.share(facts.block_hit_ratio)} of the blocks, "
        f"{wording.share(facts.token_hit_ratio)} of the prompt tokens",
    ]
