"""A recorded workload in Mooncake's format: its lengths, its sharing and its times, with text of our own.

Equal block ids become equal text, so prompts share what the recorded ones shared. A block's text is a whole number of
words and the same in every prompt; the last block of a prompt is its beginning, as long as brings the prompt nearest to
the recorded length. The stated tokens are those of the words, not the recorded ones.
"""

from __future__ import annotations

from functools import cache

from kvkit.config import Config
from kvkit.workload.request import Message, Request, Workload, common_parameters
from kvkit.workload.text import TokenScale, words
from kvkit.workload.trace_file import BLOCK_TOKENS, SAMPLE, TraceRow, read_trace


def build(config: Config, scale: TokenScale) -> Workload:
    """The trace's first `requests_per_scenario` requests.

    Raises:
        WorkloadError: the trace can't be used.
    """
    settings, name = config.workload, "trace"
    file = settings.trace_file or SAMPLE
    rows = read_trace(file, config.test.requests_per_scenario)
    synthesis = _Synthesis(config, scale)
    requests = tuple(synthesis.request(position, row, rows[0]) for position, row in enumerate(rows))
    return Workload(
        scenario=name,
        requests=requests,
        parameters=common_parameters(config, name, len(requests))
        | {
            "trace": file.name,
            "trace_length_scale": settings.trace_length_scale,
            "trace_time_scale": settings.trace_time_scale,
            "block_tokens": round(scale.tokens_of(synthesis.block_words), 2),
            "recorded_tokens": sum(row.input_length for row in rows),
            "prompt_tokens": sum(request.prompt_tokens or 0 for request in requests),
            "max_tokens": "of each request, as recorded",
        },
    )


class _Synthesis:
    """Makes requests of rows: each block's text once, each prompt from its blocks."""

    def __init__(self, config: Config, scale: TokenScale) -> None:
        self._seed = config.test.seed
        self._scale = scale
        self._length_scale = config.workload.trace_length_scale
        self._time_scale = config.workload.trace_time_scale
        self.block_words = scale.words_for(BLOCK_TOKENS * self._length_scale)
        self._block = cache(self._make_block)

    def _make_block(self, hash_id: int) -> str:
        return words(f"{self._seed}/trace/{hash_id}", self.block_words)

    def request(self, position: int, row: TraceRow, first: TraceRow) -> Request:
        *whole, last = row.hash_ids
        before = len(whole) * self.block_words
        wanted = row.input_length * self._length_scale - self._scale.template_tokens - self._scale.tokens_of(before)
        last_words = min(self.block_words, self._scale.words_for(wanted))
        beginning = " ".join(self._block(last).split(" ", last_words)[:last_words])
        return Request(
            request_id=f"trace-{position:05d}",
            group=f"block-{row.hash_ids[0]}",
            messages=(Message("user", " ".join([*map(self._block, whole), beginning])),),
            prompt_tokens=round(self._scale.template_tokens + self._scale.tokens_of(before + last_words)),
            max_tokens=max(1, round(row.output_length * self._length_scale)),
            arrival_s=(row.timestamp - first.timestamp) / 1000 * self._time_scale,
        )
