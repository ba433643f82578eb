"""Runs of other workloads and in an open loop, against the emulated engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kvkit.emulator import Addresses
from kvkit.ending import Ending
from tests.benching import config_for, emulated, kept, measure, plain_openai_server, served

pytestmark = pytest.mark.usefixtures("short_polls")


@pytest.fixture(scope="module")
def with_cache() -> Iterator[Addresses]:
    """An engine with a store, shared by the tests: each sends prompts of its own seed."""
    with emulated() as addresses:
        yield addresses


def test_requests_of_an_open_loop_start_at_their_arrivals_in_every_round(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_for(with_cache, load={"arrival": "constant", "rate": 50}, test={"concurrency": None})
    ending, story = measure(config, tmp_path)
    assert ending == Ending.DONE
    for number in (1, 2):
        records = sorted(kept(story, number), key=lambda record: record.request_id)
        assert [record.scheduled_s for record in records] == pytest.approx([0.0, 0.02, 0.04, 0.06])
        assert all(record.start_s >= record.scheduled_s for record in records)
    for summary in story.summaries:
        assert summary.ttft_from_scheduled_ms is not None
    assert story.stats[0][0].workload.parameters["rate"] == 50


def test_a_scenario_without_times_can_not_arrive_as_recorded(tmp_path: Path, with_cache: Addresses) -> None:
    ending, story = measure(config_for(with_cache, load={"arrival": "trace"}), tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert story.failure.startswith("load.arrival: found 'trace', but this scenario's requests have no times")
    assert list(tmp_path.iterdir()) == []


def test_a_trace_is_replayed_and_its_hits_are_held_against_the_ideal(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_for(
        with_cache,
        scenarios=["trace"],
        load={"arrival": "trace"},
        test={"requests_per_scenario": 12, "concurrency": None, "rounds": 2},
        workload={"trace_length_scale": 0.25, "trace_time_scale": 0.01},
    )
    ending, story = measure(config, tmp_path)
    assert ([stats.invalid_reasons for stats, _ in story.stats], ending) == ([()], Ending.DONE)
    cold, hit = (summary.tokens for summary in story.summaries)
    assert cold.prompt == pytest.approx(cold.expected_prompt, rel=0.01)
    assert cold.hit_ratio is not None
    assert cold.ideal_hit_ratio is not None
    assert 0 <= cold.hit_ratio <= cold.ideal_hit_ratio < 1
    # Whole blocks of 16 tokens are found, of prompts of 300 and more.
    assert hit.hit_ratio == pytest.approx(hit.ideal_hit_ratio, abs=0.05)


def conversations(tmp_path: Path) -> Path:
    path = tmp_path / "conversations.json"
    spoken = [{"from": ("human", "gpt")[i % 2], "value": f"What about number {i}? " * 20} for i in range(3)]
    path.write_text(json.dumps([{"id": "x", "conversations": spoken}]))
    return path


def test_recorded_conversations_are_counted_by_the_server_before_they_are_sent(
    tmp_path: Path, with_cache: Addresses
) -> None:
    config = config_for(with_cache, scenarios=["sharegpt"], workload={"conversations_file": conversations(tmp_path)})
    ending, story = measure(config, tmp_path / "results")
    assert ending == Ending.DONE
    assert [(r.expected_prompt_tokens, r.ok) for r in kept(story, 1)] == [
        (r.prompt_tokens, True) for r in kept(story, 1)
    ]


def test_where_nobody_counts_them_their_length_is_unknown_and_no_fault(tmp_path: Path) -> None:
    with served(plain_openai_server()) as address:
        config = config_for(
            Addresses(engine=address), scenarios=["sharegpt"], workload={"conversations_file": conversations(tmp_path)}
        )
        ending, story = measure(config, tmp_path / "results", "baseline")
    ((stats, _),) = story.stats
    assert (ending, stats.valid) == (Ending.DONE, None)
    assert stats.rounds[0].tokens.expected_prompt is None
    assert stats.rounds[1].tokens.ideal_hit_ratio is None


def test_a_file_that_can_not_be_used_is_wrong_input(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_for(with_cache, scenarios=["trace"], workload={"trace_file": tmp_path / "gone.jsonl"})
    ending, story = measure(config, tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert story.failure.startswith(f"{tmp_path}/gone.jsonl: cannot be read")


@pytest.mark.parametrize("warm_ups", [0, 3])
def test_warm_up_requests_are_sent_before_the_measured_ones_and_never_recorded(tmp_path: Path, warm_ups: int) -> None:
    with emulated() as addresses:
        config = config_for(addresses, test={"rounds": 1, "warm_up_requests": warm_ups})
        _, story = measure(config, tmp_path)
        lines = httpx.get(f"{addresses.engine}/metrics").text.split("\n")
    served = sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total"))
    assert served == warm_ups + 4
    assert len(kept(story, 1)) == 4
    # None shares a prefix with another one, warm-ups included: all was computed.
    assert story.summaries[0].tokens.hit_ratio == 0.0
