"""Recorded traces and conversations: read and made into prompts, or refused by the one error, naming the file."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import example, given

from kvkit.config import Config
from kvkit.workload import SCENARIOS, TokenScale
from kvkit.workload.errors import WorkloadError
from kvkit.workload.trace_file import SAMPLE, describe, read_trace
from tests.fuzz.bounds import bounded
from tests.fuzz.mutation import mutated

TRACE = b"\n".join(SAMPLE.read_bytes().split(b"\n")[:3]) + b"\n"
SMALL_TRACE = b'{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n' * 2
CONVERSATIONS = json.dumps(
    [
        {"id": "1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"id": "2", "conversations": [{"from": "gpt", "value": "lost"}, {"from": "human", "value": "é\ud800"}]},
    ]
).encode()
SCALE = TokenScale(tokens_per_word=1.0, template_tokens=30, turn_tokens=20)


def build(scenario: str, **workload: Path) -> None:
    """Everything that happens to a recorded workload before it is sent."""
    config = Config.model_validate(
        {
            "openai_api": {"base_url": "http://h/v1"},
            "model": {"name": "m"},
            "scenarios": [scenario],
            "workload": workload,
        }
    )
    made = SCENARIOS[scenario](config, SCALE)
    json.dumps([[message.content for message in request.messages] for request in made.requests]).encode()
    assert made.fingerprint
    assert 0 <= made.ideal_hit_ratio <= 1


@given(document=mutated((TRACE, SMALL_TRACE)))
@example(document=SMALL_TRACE.replace(b"600", b"9" * 400))
@example(document=SMALL_TRACE.replace(b": 0", b": Infinity"))
def test_any_trace_is_described_and_built_or_refused(folder: Path, document: bytes) -> None:
    path = folder / "trace.jsonl"
    path.write_bytes(document)
    with bounded():
        try:
            describe(read_trace(path))
            build("trace", trace_file=path)
        except WorkloadError as error:
            assert str(path) in str(error)


@given(document=mutated((CONVERSATIONS,)))
@example(document=CONVERSATIONS)
def test_any_conversations_are_built_or_refused(folder: Path, document: bytes) -> None:
    path = folder / "conversations.json"
    path.write_bytes(document)
    with bounded():
        try:
            build("sharegpt", conversations_file=path)
        except WorkloadError as error:
            assert str(path) in str(error)
