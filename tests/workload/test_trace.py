"""Recorded workloads in Mooncake's format: read, measured, and made into prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvkit.config import Config
from kvkit.workload import SCENARIOS, TokenScale, Workload, WorkloadError
from kvkit.workload.samples.make_chat_trace import as_text, make_rows
from kvkit.workload.trace_file import SAMPLE, describe, read_trace

WORDS = TokenScale(tokens_per_word=1.0, template_tokens=30, turn_tokens=20)
BYTES = TokenScale(tokens_per_word=6.0, template_tokens=30, turn_tokens=20)

MOONCAKE_TRACE = Path(__file__).parents[3] / "shared" / "data" / "mooncake_synthetic_trace.jsonl"


def row(timestamp: float = 0, input_length: int = 1100, output_length: int = 7, *ids: int) -> dict[str, Any]:
    return {
        "timestamp": timestamp,
        "input_length": input_length,
        "output_length": output_length,
        "hash_ids": list(ids or (1, 2, 3)),
    }


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three requests: the second shares two blocks with the first, the third nothing."""
    path = tmp_path / "trace.jsonl"
    rows = [row(5000), row(5000, 1500, 9, 1, 2, 4), row(7500, 300, 0, 5)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def build(trace: Path, scale: TokenScale = WORDS, seed: int = 0, **changes: Any) -> Workload:
    config = Config.model_validate(
        {
            "openai_api": {"base_url": "http://h/v1"},
            "model": {"name": "m"},
            "test": {"seed": seed, "requests_per_scenario": changes.pop("requests", 30)},
            "workload": {"trace_file": trace} | changes,
        }
    )
    return SCENARIOS["trace"](config, scale)


def texts(workload: Workload) -> list[list[str]]:
    return [request.messages[0].content.split(" ") for request in workload.requests]


class TestFigures:
    def test_a_block_is_a_hit_when_the_prompt_up_to_it_was_seen(self, trace: Path) -> None:
        facts = describe(read_trace(trace))
        assert (facts.requests, facts.blocks, facts.duration_s) == (3, 7, 2.5)
        assert (facts.input_tokens, facts.output_tokens) == (2900, 16)
        assert facts.block_hit_ratio == pytest.approx(2 / 7)
        assert facts.token_hit_ratio == pytest.approx(1024 / 2900)

    def test_mooncakes_synthetic_trace_has_64_0_percent(self) -> None:
        if not MOONCAKE_TRACE.exists():
            pytest.skip(f"NOT TESTED: {MOONCAKE_TRACE} is not there (kvcache-ai/Mooncake, FAST25-release/traces)")
        facts = describe(read_trace(MOONCAKE_TRACE))
        assert (facts.requests, round(facts.block_hit_ratio, 3)) == (3993, 0.640)

    def test_the_sample_has_its_own(self) -> None:
        facts = describe(read_trace(SAMPLE))
        assert (facts.requests, round(facts.block_hit_ratio, 3), round(facts.token_hit_ratio, 3)) == (160, 0.623, 0.697)

    def test_the_sample_is_what_its_maker_makes(self) -> None:
        assert SAMPLE.read_text() == as_text(make_rows())


class TestPrompts:
    def test_equal_ids_are_equal_text_at_equal_places(self, trace: Path) -> None:
        first, second, third = texts(build(trace))
        assert first[:1024] == second[:1024]
        assert first[1024:1034] != second[1024:1034]
        assert first[:10] != third[:10]

    @pytest.mark.parametrize("scale", [WORDS, BYTES, TokenScale(1.37, 9, 5)])
    def test_a_prompt_is_as_long_as_the_recorded_one(self, trace: Path, scale: TokenScale) -> None:
        stated = [request.prompt_tokens for request in build(trace, scale).requests]
        assert stated == pytest.approx([1100, 1500, 300], rel=0.01)

    def test_the_stated_tokens_are_those_of_the_words(self, trace: Path) -> None:
        workload = build(trace, BYTES)
        counted = [30 + 6 * len(words) for words in texts(workload)]
        assert counted == [request.prompt_tokens for request in workload.requests]
        assert workload.parameters["prompt_tokens"] == sum(counted)

    def test_the_last_block_is_the_beginning_of_the_whole_one(self, tmp_path: Path) -> None:
        path = tmp_path / "growing.jsonl"
        path.write_text(json.dumps(row(0, 600, 1, 1, 2)) + "\n" + json.dumps(row(1, 1200, 1, 1, 2, 3)) + "\n")
        short, long = texts(build(path))
        assert len(short) == 570
        assert short == long[:570]

    def test_a_block_keeps_its_text_where_prompts_are_not_a_whole_number_of_words(self, trace: Path) -> None:
        first, second, _ = texts(build(trace, BYTES))
        # 512 tokens are 85.3 words of six tokens: 85 in every prompt.
        assert first[: 2 * 85] == second[: 2 * 85]
        assert build(trace, BYTES).parameters["block_tokens"] == 510

    def test_another_seed_shares_nothing_with_it(self, trace: Path) -> None:
        ours, theirs = texts(build(trace)), texts(build(trace, seed=1))
        assert all(one[:10] != other[:10] for one, other in zip(ours, theirs, strict=True))

    def test_answers_are_as_long_as_recorded_and_at_least_one_token(self, trace: Path) -> None:
        assert [request.max_tokens for request in build(trace).requests] == [7, 9, 1]

    def test_requests_keep_their_times_counted_from_the_first(self, trace: Path) -> None:
        assert [request.arrival_s for request in build(trace).requests] == [0.0, 0.0, 2.5]

    def test_lengths_and_times_are_scaled_as_stated(self, trace: Path) -> None:
        workload = build(trace, trace_length_scale=0.5, trace_time_scale=2)
        assert [request.prompt_tokens for request in workload.requests] == pytest.approx([550, 750, 150], rel=0.01)
        assert [request.max_tokens for request in workload.requests] == [4, 4, 1]
        assert [request.arrival_s for request in workload.requests] == [0.0, 0.0, 5.0]
        assert (workload.parameters["trace_length_scale"], workload.parameters["trace_time_scale"]) == (0.5, 2)

    def test_no_more_requests_are_taken_than_asked_for(self, trace: Path) -> None:
        workload = build(trace, requests=2)
        assert len(workload.requests) == workload.parameters["requests"] == 2

    def test_what_the_prompts_share_is_what_the_trace_shares(self) -> None:
        facts = describe(read_trace(SAMPLE))
        assert build(SAMPLE, requests=200).ideal_hit_ratio == pytest.approx(facts.token_hit_ratio, abs=0.01)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is not JSON"),
        ("[1]", "found [1], "),
        (json.dumps(row() | {"input_length": "long"}), "input_length: found 'long', allowed is a valid integer"),
        (json.dumps(row(0, 0)), "input_length: found 0, allowed is greater than or equal to 1"),
        (json.dumps(row() | {"hash_ids": [1, "x", 3]}), "hash_ids.1: found 'x', allowed is a valid integer"),
        (json.dumps({"timestamp": 1, "input_length": 5, "hash_ids": [1]}), "output_length: is missing; a line has"),
        (json.dumps(row(0, 1100, 7, 1, 2)), "hash_ids: found 2 ids, but 1100 tokens are 3 blocks of 512"),
        (json.dumps(row(-1)), "timestamp: found -1, allowed is greater than or equal to 0"),
        (json.dumps(row(4)), "timestamp: found 4 after 5, allowed are lines in the order of their times"),
    ],
)
def test_a_bad_line_is_named_with_what_was_found_and_what_is_allowed(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(row(5)) + "\n" + line + "\n")
    with pytest.raises(WorkloadError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}:2: {problem}")


def test_an_empty_or_missing_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    for name in ("empty.jsonl", "missing.jsonl"):
        with pytest.raises(WorkloadError, match=f"{name}: .*a trace is expected"):
            read_trace(tmp_path / name)
