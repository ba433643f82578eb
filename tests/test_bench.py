"""Whole runs against the emulated engine: what is kept, what is said, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kvkit.bench import run
from kvkit.emulator import Addresses, FaultKind
from kvkit.ending import Ending
from kvkit.results.reader import read_records, read_stats
from kvkit.results.stats import RoundSummary
from tests.benching import FAST, SEEDS, Story, config_for, emulated, kept, measure, plain_openai_server, served

pytestmark = pytest.mark.usefixtures("short_polls")


@pytest.fixture(scope="module")
def with_cache() -> Iterator[Addresses]:
    """An engine with a store, shared by the tests: each sends prompts of its own seed."""
    with emulated() as addresses:
        yield addresses


@pytest.fixture(scope="module")
def without_cache() -> Iterator[Addresses]:
    """An engine without a connector, shared likewise."""
    with emulated(connector="none") as addresses:
        yield addresses


def test_a_run_is_told_in_the_guides_order(tmp_path: Path, with_cache: Addresses) -> None:
    ending, story = measure(config_for(with_cache), tmp_path)
    assert ending == Ending.DONE
    assert story.told == [
        "with-cache on 0.32.0+emulated with MooncakeStoreConnector, isolation device",
        "cold_start: 4 requests, 2 rounds",
        *["round 1/2: 4", *["request"] * 4, "round 1 ended"],
        *["round 2/2: 4", *["request"] * 4, "round 2 ended"],
        "scenario ended",
    ]


def test_with_cache_every_hit_comes_from_the_store_and_counters_say_so(tmp_path: Path, with_cache: Addresses) -> None:
    _, story = measure(config_for(with_cache), tmp_path)
    cold, hit = story.summaries
    assert (cold.valid, hit.valid) == (True, True)
    assert cold.tokens.by_source.computed == cold.tokens.prompt
    assert hit.tokens.by_source.device == 0
    # Whole blocks of 16 tokens below the prompt's last token, which is always computed.
    assert hit.tokens.by_source.external == sum(((r.prompt_tokens or 0) - 1) // 16 * 16 for r in kept(story, 2))
    assert hit.counters.mooncake["mem_cache_hit_nums_"] > 0
    assert cold.counters.mooncake["master_key_count"] > 0


def test_the_store_is_looked_at_while_a_round_goes_on(tmp_path: Path, with_cache: Addresses) -> None:
    _, story = measure(config_for(with_cache), tmp_path)
    cold, hit = (summary.traffic for summary in story.summaries)
    assert cold is not None
    assert hit is not None
    assert cold.read_bytes[-1] == 0
    assert cold.stored_bytes is not None
    assert cold.stored_bytes[-1] > 0
    assert hit.read_bytes[-1] == story.summaries[1].counters.mooncake["mem_cache_hit_bytes_total"]


def test_a_hit_round_is_held_against_its_limit(tmp_path: Path, with_cache: Addresses) -> None:
    _, story = measure(config_for(with_cache), tmp_path)
    cold, hit = story.summaries
    assert cold.limit is None
    assert hit.limit is not None
    assert hit.limit.kv_bytes_per_token.value == FAST.kv_bytes_per_token  # no config.json: as the store was read
    assert hit.limit.share_reached is not None


def test_baseline_computes_every_prompt_again(tmp_path: Path, without_cache: Addresses) -> None:
    ending, story = measure(config_for(without_cache), tmp_path, "baseline")
    assert ending == Ending.DONE
    assert [summary.tokens.by_source.computed for summary in story.summaries] == [
        summary.tokens.prompt for summary in story.summaries
    ]


@pytest.mark.parametrize("scenario", ["long_context_high_reuse", "multi_turn_conversation"])
def test_prompts_that_share_prefixes_within_a_round_are_valid_too(
    scenario: str, tmp_path: Path, with_cache: Addresses
) -> None:
    ending, story = measure(config_for(with_cache, scenarios=[scenario]), tmp_path)
    assert (ending, [stats.invalid_reasons for stats, _ in story.stats]) == (Ending.DONE, [()])


def test_both_files_are_kept_and_agree(tmp_path: Path, with_cache: Addresses) -> None:
    _, story = measure(config_for(with_cache), tmp_path)
    ((_, path),) = story.stats
    stats = read_stats(path)
    records = read_records(path, stats)
    assert [record.round for record in records] == [1] * 4 + [2] * 4
    assert len({record.request_id for record in records}) == 4
    assert stats.provenance.engine.version == "0.32.0+emulated"
    assert stats.provenance.engine.system_fingerprint
    assert stats.workload.requests == 4
    assert [summary.client and summary.client.workers for summary in stats.rounds] == [1, 1]
    assert "sk-very-secret" not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_the_same_workload_has_the_same_fingerprint_in_both_modes(
    tmp_path: Path, with_cache: Addresses, without_cache: Addresses
) -> None:
    one_round = {"rounds": 1, "seed": next(SEEDS)}
    _, one = measure(config_for(with_cache, test=one_round), tmp_path)
    _, other = measure(config_for(without_cache, test=one_round), tmp_path, "baseline")
    assert one.stats[0][0].workload.fingerprint == other.stats[0][0].workload.fingerprint


def test_without_clearing_the_device_cache_hides_the_store(tmp_path: Path, with_cache: Addresses) -> None:
    ending, story = measure(config_for(with_cache, test={"isolation": "none"}), tmp_path)
    assert ending == Ending.INVALID
    assert story.summaries[0].valid is True
    assert "clear it with --isolation device" in story.summaries[1].invalid_reasons[0]


def test_a_with_cache_run_without_a_connector_is_invalid(tmp_path: Path, without_cache: Addresses) -> None:
    ending, story = measure(config_for(without_cache), tmp_path)
    assert ending == Ending.INVALID
    assert story.summaries[1].invalid_reasons[0].startswith("no cache hit: 0 of ")


def test_a_baseline_that_reaches_the_store_is_invalid(tmp_path: Path, with_cache: Addresses) -> None:
    ending, story = measure(config_for(with_cache), tmp_path, "baseline")
    assert ending == Ending.INVALID
    assert "came from an external store in the baseline" in story.summaries[1].invalid_reasons[0]


def test_prompts_that_were_sent_before_are_not_cold(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_for(with_cache, test={"rounds": 1})
    first, _ = measure(config, tmp_path)
    again, story = measure(config, tmp_path)
    assert (first, again) == (Ending.DONE, Ending.INVALID)
    assert "use another --seed" in story.summaries[0].invalid_reasons[0]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (FaultKind.HTTP_429, "http_429"),
        (FaultKind.BROKEN_STREAM, "broken_stream"),
        (FaultKind.ERROR_EVENT, "error_event"),
    ],
)
def test_failures_are_counted_by_kind_and_enter_no_figure(tmp_path: Path, fault: FaultKind, kind: str) -> None:
    with emulated(fault=fault) as addresses:
        ending, story = measure(config_for(addresses, test={"rounds": 1}), tmp_path)
    (summary,) = story.summaries
    assert ending == Ending.INVALID
    assert summary.requests.failed_by_kind == {kind: 4}
    assert summary.ttft_ms.mean is None
    assert len(story.notices) == 1
    assert story.notices[0].startswith("the warm-up request failed")


def test_failed_loads_of_kv_make_the_round_invalid(tmp_path: Path) -> None:
    with emulated() as addresses, httpx.Client(base_url=addresses.engine or "") as operator:

        class BreaksAfterRound1(Story):
            def round_ended(self, summary: RoundSummary) -> None:
                super().round_ended(summary)
                operator.post("/emulator/fault", json={"kind": "load_failure", "every": 1}).raise_for_status()

        story = BreaksAfterRound1()
        ending = run(config_for(addresses), mode="with-cache", results_dir=tmp_path, reporter=story)
    assert ending == Ending.INVALID
    reasons = story.summaries[1].invalid_reasons
    assert "4 requests that the engine counts as failed" in reasons
    assert any("failed loads of KV" in reason for reason in reasons)


def test_a_wrong_model_name_lists_the_served_ones_and_sends_nothing(tmp_path: Path, with_cache: Addresses) -> None:
    def served_requests() -> list[str]:
        lines = httpx.get(f"{with_cache.engine}/metrics").text.split("\n")
        return [line for line in lines if line.startswith("vllm:request_success_total")]

    before = served_requests()
    ending, story = measure(config_for(with_cache, openai_api={"model_name": "other"}), tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert "found 'other'" in story.failure
    assert story.failure.endswith("serves: emulated")
    assert served_requests() == before
    assert list(tmp_path.iterdir()) == []


def test_prompts_longer_than_the_engine_takes_are_refused_with_the_numbers(tmp_path: Path) -> None:
    with emulated(max_model_len=4096) as addresses:
        ending, story = measure(config_for(addresses, workload={"prefix_tokens": 4096}), tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert "the engine takes 4096 (max_model_len): lower workload.prefix_tokens" in story.failure
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_key_is_wrong_input_and_is_not_shown(tmp_path: Path, with_cache: Addresses) -> None:
    ending, story = measure(config_for(with_cache, openai_api={"api_key": "sk-wrong"}), tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert "HTTP 401: the engine refuses openai_api.api_key" in story.failure
    assert "sk-wrong" not in story.failure


def test_an_engine_that_is_not_there_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    with socket.socket() as bound_but_silent:
        bound_but_silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound_but_silent.getsockname()[1]}"
        ending, story = measure(config_for(Addresses(engine=address)), tmp_path)
    assert ending == Ending.NOT_FINISHED
    assert story.failure.startswith(f"{address}/v1/models: no answer")


def test_isolation_that_the_engine_does_not_offer_is_wrong_input(tmp_path: Path) -> None:
    with emulated(dev_mode=False) as addresses:
        ending, story = measure(config_for(addresses, test={"isolation": "device"}), tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert "VLLM_SERVER_DEV_MODE=1" in story.failure


def test_without_the_reset_the_default_isolation_is_none(tmp_path: Path) -> None:
    with emulated(dev_mode=False) as addresses:
        _, story = measure(config_for(addresses, test={"rounds": 1}), tmp_path)
    assert story.told[0].endswith("isolation none")
    assert [summary.isolation for summary in story.summaries] == ["none"]


def test_a_store_that_tells_nothing_is_noticed_and_its_counters_stay_empty(
    tmp_path: Path, with_cache: Addresses
) -> None:
    silent = config_for(with_cache, mooncake={"master_ip": "127.0.0.1", "metrics_port": 1}, test={"rounds": 1})
    _, story = measure(silent, tmp_path)
    assert story.notices[0].startswith("counters are not known: http://127.0.0.1:1/metrics: no answer")
    assert story.summaries[0].counters.mooncake == {}


def test_results_that_can_not_be_kept_end_the_run(tmp_path: Path, with_cache: Addresses) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    ending, story = measure(config_for(with_cache), in_the_way)
    assert ending == Ending.NOT_FINISHED
    assert str(in_the_way) in story.failure


def test_an_interrupted_run_keeps_the_records_that_it_has(tmp_path: Path, with_cache: Addresses) -> None:
    class InterruptsAfterRound1(Story):
        def round_ended(self, summary: RoundSummary) -> None:
            super().round_ended(summary)
            os.kill(os.getpid(), signal.SIGINT)

    story = InterruptsAfterRound1()
    ending = run(config_for(with_cache), mode="with-cache", results_dir=tmp_path, reporter=story)
    assert ending == Ending.NOT_FINISHED
    assert story.failure.startswith("interrupted")
    (requests_file,) = tmp_path.glob("*_requests_*")
    assert len(requests_file.read_text().splitlines()) == 4


def test_what_an_engine_without_counters_does_not_tell_is_unknown_and_no_failure(tmp_path: Path) -> None:
    with served(plain_openai_server()) as address:
        ending, story = measure(config_for(Addresses(engine=address)), tmp_path, "baseline")
    ((stats, _),) = story.stats
    assert ending == Ending.DONE
    assert stats.valid is None
    assert stats.invalid_reasons[0].startswith("round 1: where the prompt tokens came from is not known:")
    assert story.summaries[0].tokens.by_source.external is None
    assert story.summaries[0].requests.succeeded == 4
    assert story.told[0] == "baseline on None with None, isolation none"
