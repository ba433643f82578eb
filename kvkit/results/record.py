"""The record of one request: the smallest unit that is kept, paired and counted."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from kvkit.results.units import Count, Seconds

ErrorKind = Literal[
    "unreachable",  # no connection, or it was refused
    "timeout",  # no end within the request's time limit
    "http_error",  # an HTTP status other than 200; `http_status` has it
    "error_event",  # HTTP 200, then an `error` event in the stream
    "broken_stream",  # the connection ended before `[DONE]`
    "bad_event",  # an event that is not JSON or not a chat completion chunk
    "no_tokens",  # the stream ended well but held no token event
    "no_finish_reason",
    "no_usage",
    "unknown",  # another tool counted it as failed, and kept no kind
]


@dataclass(frozen=True, slots=True)
class Record:
    """What was seen of one request. Seconds of the load generator's monotonic clock, relative to the round's start.

    `None` is "not told" or "did not happen", never 0. Definitions: `docs/metrics.md`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )

    request_id: str
    """Names the request within the workload; the same in both modes and in all rounds, so that pairs can be made."""
    round: int
    group: str
    """The document or session that the request shares a prefix with."""
    scheduled_s: Seconds
    """When the arrival process wanted it to start."""
    start_s: Seconds
    """Just before the request's first byte was written."""
    connect_s: Seconds | None = None
    """Setting up its connection (name, TCP, TLS), which is before its start; `null` where there was one to reuse."""
    ttft_s: Seconds | None = None
    """First token event minus start. The role chunk is not a token event."""
    first_text_s: Seconds | None = None
    """First non-empty text minus start."""
    e2e_s: Seconds | None = None
    """Last token event minus start."""
    itl_s: tuple[Seconds, ...] = ()
    """Gaps between token events; one event may carry several tokens."""
    expected_prompt_tokens: Count | None = None
    """What the workload stated; `null` when it could not."""
    prompt_tokens: Count | None = None
    cached_tokens: Count | None = None
    """`usage.prompt_tokens_details.cached_tokens`: device plus external, as the server tells it."""
    completion_tokens: Count | None = None
    finish_reason: str | None = None
    ok: bool = False
    error_kind: ErrorKind | None = None
    http_status: int | None = None
    error: str | None = None
    """The server's or the transport's own words, shortened."""
    text_sha256: str | None = None
    """Of the generated text, so that arms can be compared without keeping the text."""
    part: int = 1
    """Of a round that was cut off and resumed: each part has a start of its own, from which its seconds are counted."""

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first: (E2E - TTFT) / (completion_tokens - 1)."""
        if self.e2e_s is None or self.ttft_s is None or (self.completion_tokens or 0) < 2:
            return None
        assert self.completion_tokens is not None
        return (self.e2e_s - self.ttft_s) / (self.completion_tokens - 1)

    @property
    def failure(self) -> str | None:
        """The kind under which a failure is counted: `error_kind`, with the status for HTTP errors (`http_429`)."""
        if self.ok:
            return None
        return f"http_{self.http_status}" if self.error_kind == "http_error" else self.error_kind

    def to_line(self) -> str:
        """One line of a requests file, without its end."""
        # `asdict` would copy every gap: milliseconds for a long answer, in which no stream is read.
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_line(cls, line: str) -> Record:
        """Read one line of a requests file.

        Raises:
            pydantic.ValidationError: no JSON, a key is missing or a value has the wrong type.
        """
        return RECORD_FORMAT.validate_json(line, strict=True)


RECORD_FORMAT = TypeAdapter(Record)
"""Reads and checks lines; `record_schema.json` is made from it."""
