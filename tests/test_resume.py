"""A run that was cut off keeps what had ended, says how far it came, and `--resume` finishes the rest honestly."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvkit.bench import run
from kvkit.config import Config
from kvkit.emulator import Addresses
from kvkit.ending import Ending
from kvkit.results.comparison import compare
from kvkit.results.errors import ResultsError
from kvkit.results.reader import read_records, read_stats
from kvkit.results.record import Record
from kvkit.results.stats import RunStats
from kvkit.results.store import RunFiles
from kvkit.results.unfinished import Journal, read_state
from tests.benching import Story, config_for, emulated

pytestmark = pytest.mark.usefixtures("short_polls")

REQUESTS = 4


@pytest.fixture(scope="module")
def with_cache() -> Iterator[Addresses]:
    with emulated() as addresses:
        yield addresses


class InterruptedAfter(Story):
    """Ctrl-C when so many requests of the run have ended."""

    def __init__(self, requests: int) -> None:
        super().__init__()
        self._left = requests

    def request_ended(self, record: Record) -> None:
        super().request_ended(record)
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGINT)


def config_of(addresses: Addresses, **changes: Any) -> Config:
    """One request at a time, so that it is known how many had ended."""
    return config_for(addresses, **{**changes, "test": {"concurrency": 1} | changes.get("test", {})})


def cut_off(config: Config, folder: Path, *, after: int) -> Path:
    """A run that was interrupted. Returns the file that says how far it came."""
    ending = run(config, mode="with-cache", results_dir=folder, reporter=InterruptedAfter(after))
    assert ending == Ending.NOT_FINISHED
    (unfinished,) = folder.glob("with_cache_unfinished_*.json")
    return unfinished


def resumed(config: Config, folder: Path) -> tuple[Ending, Story]:
    story = Story()
    return run(config, mode="with-cache", results_dir=folder, reporter=story, resume=True), story


def requests_file(folder: Path) -> Path:
    (path,) = folder.glob("*_requests_*.jsonl")
    return path


def finished(folder: Path) -> tuple[RunStats, tuple[Record, ...]]:
    (path,) = folder.glob("*_stats_*.json")
    stats = read_stats(path)
    return stats, read_records(path, stats)


def test_the_rest_of_a_round_is_sent_and_what_had_ended_is_kept_as_it_was(
    tmp_path: Path, with_cache: Addresses
) -> None:
    config = config_of(with_cache)
    cut_off(config, tmp_path, after=REQUESTS + 2)
    before = requests_file(tmp_path).read_text()
    resumed(config, tmp_path)
    assert requests_file(tmp_path).read_text().startswith(before)
    _, records = finished(tmp_path)
    assert Counter(record.round for record in records) == {1: REQUESTS, 2: REQUESTS}  # each request once, or refused
    assert [record.part for record in records] == [1] * before.count("\n") + [2] * (len(records) - before.count("\n"))


def test_of_a_round_that_was_cut_off_nothing_is_told_that_only_the_whole_of_it_could_tell(
    tmp_path: Path, with_cache: Addresses
) -> None:
    config = config_of(with_cache)
    cut_off(config, tmp_path, after=REQUESTS + 2)
    ending, _ = resumed(config, tmp_path)
    stats, records = finished(tmp_path)
    whole, broken = stats.rounds
    assert ending == Ending.DONE
    assert (whole.valid, broken.valid, stats.valid) == (True, None, None)
    ended_before = sum(record.part == 1 for record in records) - REQUESTS
    assert broken.invalid_reasons[0].startswith(f"the round was cut off after {ended_before} of 4 requests and resumed")
    assert (broken.parts, broken.duration_s, broken.throughput.requests_per_s, broken.client) == (2, None, None, None)
    assert broken.tokens.by_source.external is None
    assert broken.counters.vllm == {}
    # Each request's own times are as true as in any round.
    assert broken.requests.succeeded == REQUESTS
    assert broken.ttft_ms.p50 is not None


def test_a_run_cut_off_between_two_rounds_is_as_good_as_any(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_of(with_cache)

    class InterruptedAfterRound1(Story):
        def round_ended(self, _summary: object) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    run(config, mode="with-cache", results_dir=tmp_path, reporter=InterruptedAfterRound1())
    ending, story = resumed(config, tmp_path)
    stats, _ = finished(tmp_path)
    assert ending == Ending.DONE
    assert stats.invalid_reasons == ()
    assert stats.rounds[1].limit is not None  # held against round 1, whose summary was kept
    assert len(stats.provenance.resumed) == 1
    assert "round 1/2: 4" not in story.told


def test_scenarios_that_were_done_are_not_sent_again_and_those_that_waited_are_sent(
    tmp_path: Path, with_cache: Addresses
) -> None:
    scenarios = ["cold_start", "long_context_high_reuse", "multi_turn_conversation"]
    config = config_of(with_cache, scenarios=scenarios)
    unfinished = cut_off(config, tmp_path, after=2 * REQUESTS + 1)
    assert [one.state for one in read_state(unfinished).scenarios] == ["done", "begun", "waiting"]
    resumed(config, tmp_path)
    kept = [read_stats(path) for path in tmp_path.glob("*_stats_*.json")]
    assert sorted(stats.scenario for stats in kept) == sorted(scenarios)
    assert len({stats.run_id for stats in kept}) == 1
    assert all(summary.requests.total == REQUESTS for stats in kept for summary in stats.rounds)
    assert not unfinished.exists()


def test_turns_go_on_after_those_that_had_ended(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_of(with_cache, scenarios=["multi_turn_conversation"])
    cut_off(config, tmp_path, after=1)
    resumed(config, tmp_path)
    stats, _ = finished(tmp_path)
    assert [summary.requests.succeeded for summary in stats.rounds] == [REQUESTS, REQUESTS]


def test_a_run_may_be_cut_off_more_than_once(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_of(with_cache, test={"requests_per_scenario": 6})
    cut_off(config, tmp_path, after=1)
    again = InterruptedAfter(2)
    run(config, mode="with-cache", results_dir=tmp_path, reporter=again, resume=True)
    resumed(config, tmp_path)
    stats, records = finished(tmp_path)
    assert stats.rounds[0].parts == max(record.part for record in records) == 3
    assert len(stats.provenance.resumed) == 2


def test_a_line_that_was_cut_through_is_sent_again(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_of(with_cache)
    cut_off(config, tmp_path, after=2)
    path = requests_file(tmp_path)
    path.write_text(path.read_text()[:-40])
    resumed(config, tmp_path)
    _, records = finished(tmp_path)
    assert Counter(record.round for record in records) == {1: REQUESTS, 2: REQUESTS}


def test_a_full_disk_ends_the_run_and_with_room_again_it_goes_on(
    tmp_path: Path, with_cache: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, add = config_of(with_cache), RunFiles.add

    def full_at_the_third(files: RunFiles, record: Record) -> None:
        if requests_file(tmp_path).read_text().count("\n") == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(files, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "add", full_at_the_third)
        story = Story()
        ending = run(config, mode="with-cache", results_dir=tmp_path, reporter=story)
    assert ending == Ending.NOT_FINISHED
    assert story.failure == (
        f"{tmp_path}: results can't be kept (No space left on device); those that were stay, and "
        "`kvkit run --resume` with the same flags finishes the rest"
    )
    resumed(config, tmp_path)
    stats, _ = finished(tmp_path)
    assert [summary.requests.total for summary in stats.rounds] == [REQUESTS, REQUESTS]


def test_another_workload_is_refused_and_nothing_is_touched(tmp_path: Path, with_cache: Addresses) -> None:
    cut_off(config_of(with_cache), tmp_path, after=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ending, story = resumed(config_of(with_cache), tmp_path)  # another seed
    assert ending == Ending.WRONG_INPUT
    assert "that run sends other requests" in story.failure
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_engine_is_refused(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_of(with_cache)
    cut_off(config, tmp_path, after=1)
    with emulated(connector="none") as other:
        moved = config.model_copy(
            update={"openai_api": config.openai_api.model_copy(update={"base_url": f"{other.engine}/v1"})}
        )
        ending, story = resumed(moved, tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert "the engine's connector was MooncakeStoreConnector and is none" in story.failure


def test_a_run_that_still_goes_on_is_not_resumed(tmp_path: Path, with_cache: Addresses) -> None:
    config = config_of(with_cache)
    unfinished = cut_off(config, tmp_path, after=1)
    owner = Journal.reopen(unfinished)
    ending, story = resumed(config, tmp_path)
    owner.close(finished=False)
    assert ending == Ending.NOT_FINISHED
    assert "this run still goes on" in story.failure


def test_with_nothing_to_resume_nothing_is_sent(tmp_path: Path, with_cache: Addresses) -> None:
    ending, story = resumed(config_of(with_cache), tmp_path)
    assert ending == Ending.WRONG_INPUT
    assert story.failure == f"{tmp_path}: no run of mode with-cache was cut off here: run without --resume"


def test_a_new_run_says_that_another_was_cut_off(tmp_path: Path, with_cache: Addresses) -> None:
    unfinished = cut_off(config_of(with_cache), tmp_path, after=1)
    story = Story()
    run(config_of(with_cache), mode="with-cache", results_dir=tmp_path, reporter=story)
    assert story.notices[0].startswith(f"{unfinished} tells of a run that was cut off")


def test_a_comparison_names_what_was_cut_off(tmp_path: Path, with_cache: Addresses) -> None:
    unfinished = cut_off(config_of(with_cache), tmp_path, after=REQUESTS + 1)
    with pytest.raises(ResultsError) as refused:
        compare([f"{tmp_path}/with_cache_*_stats_*.json"], [f"{tmp_path}/baseline_*_stats_*.json"])
    assert "no file matches" in str(refused.value)
    assert f"{requests_file(tmp_path)}: cold_start: the run of " in str(refused.value)
    assert "was cut off in round 2, or goes on; `kvkit run --resume`" in str(refused.value)
    assert json.loads(unfinished.read_text())["config"]["openai_api"]["api_key"] == "**********"
