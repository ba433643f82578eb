"""Sweeps: which levels there are, and when there are no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvkit import sweep
from kvkit.config import Config, ConfigError
from kvkit.config_file import load_config
from kvkit.emulator.serving import Addresses
from kvkit.ending import Ending
from kvkit.results.reader import read_stats
from kvkit.results.record import Record
from kvkit.results.stats import RoundSummary, Throughput
from kvkit.sweep import Level, LevelFigures, SweepError, plan, why_to_stop
from tests.benching import Story, config_for, emulated
from tests.results.making import failure, run_stats, success, summary, write_run

pytestmark = pytest.mark.usefixtures("short_polls")

FILE = """\
openai_api: {base_url: "http://h/v1"}
model: {name: m}
scenarios: [cold_start]
"""


def planned(tmp_path: Path, asked: str, text: str = FILE, **flags: Any) -> tuple[Level, ...]:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    given = {key: ("flag", value) for key, value in flags.items()}
    return plan(asked, lambda level: load_config(path, environment={}, flags={**given, **level}))


class TestPlan:
    def test_each_level_is_a_configuration_of_its_own(self, tmp_path: Path) -> None:
        levels = planned(tmp_path, "concurrency=1,2,4")
        assert [level.config.test.concurrency for level in levels] == [1, 2, 4]
        assert [level.label for level in levels] == ["concurrency 1", "concurrency 2", "concurrency 4"]

    def test_a_rate_alone_is_a_poisson_process(self, tmp_path: Path) -> None:
        levels = planned(tmp_path, "rate=0.5,2")
        assert [(level.config.load.process, level.config.load.rate) for level in levels] == [
            ("poisson", 0.5),
            ("poisson", 2.0),
        ]

    def test_no_level_sends_what_another_sends(self, tmp_path: Path) -> None:
        assert len({level.config.test.seed for level in planned(tmp_path, "concurrency=1,2,4,8")}) == 4

    def test_a_level_has_the_same_seed_in_both_modes_whatever_the_other_levels_are(self, tmp_path: Path) -> None:
        (_, two), (two_alone,) = planned(tmp_path, "concurrency=1,2"), planned(tmp_path, "concurrency=2")
        assert two.config.test.seed == two_alone.config.test.seed

    def test_another_seed_gives_other_seeds(self, tmp_path: Path) -> None:
        ours, theirs = planned(tmp_path, "rate=1"), planned(tmp_path, "rate=1", FILE + "test: {seed: 7}\n")
        assert ours[0].config.test.seed != theirs[0].config.test.seed

    @pytest.mark.parametrize(
        "asked",
        [
            *("users=1,2", "concurrency", "concurrency=", "concurrency=2,1", "concurrency=1,1", "concurrency=0,1"),
            *("concurrency=1.5,2", "rate=a,b", "rate=-1,1", "rate=nan"),
        ],
    )
    def test_what_is_no_sweep_is_refused_with_what_is_one(self, tmp_path: Path, asked: str) -> None:
        with pytest.raises(SweepError) as caught:
            planned(tmp_path, asked)
        assert f"found {asked!r}, allowed is concurrency=1,2,4 (whole numbers) or rate=0.5,1,2" in str(caught.value)

    def test_saturation_is_told_of_one_scenario(self, tmp_path: Path) -> None:
        with pytest.raises(SweepError, match="found the scenarios cold_start, trace; saturation is told of one"):
            planned(tmp_path, "rate=1", FILE.replace("cold_start]", "cold_start, trace]"))

    def test_concurrency_is_swept_in_a_closed_loop(self, tmp_path: Path) -> None:
        with pytest.raises(SweepError, match="found concurrency with arrival poisson"):
            planned(tmp_path, "concurrency=1,2", FILE + "load: {rate: 3}\n")

    def test_a_rate_is_offered_only_by_requests_that_do_not_wait_for_the_server(self, tmp_path: Path) -> None:
        with pytest.raises(SweepError, match=r"found rate with workload\.think_time_s 2: turns that think"):
            planned(tmp_path, "rate=1", FILE + "workload: {think_time_s: 2}\n")

    def test_a_rate_that_the_arrivals_do_not_have_is_refused_by_the_configuration(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="load: rate: found 1, allowed is it only with arrival constant"):
            planned(tmp_path, "rate=1", FILE + "load: {arrival: closed}\n")


CONFIG = Config.model_validate({"openai_api": {"base_url": "http://h/v1"}, "model": {"name": "m"}})


def of_throughput(requests_per_s: float, **changes: Any) -> RoundSummary:
    made = summary([success()], **changes)
    return made.model_copy(update={"throughput": Throughput(requests_per_s=requests_per_s, output_tokens_per_s=None)})


def closed(value: int, requests_per_s: float, in_flight: int | None = None) -> LevelFigures:
    return LevelFigures(
        Level("concurrency", value, CONFIG), of_throughput(requests_per_s), None, None, in_flight or value
    )


def open_loop(rate: float, served_s: float, **changes: Any) -> LevelFigures:
    """101 requests that take 1.04 s each, unless `changes` say otherwise: 100 gaps."""
    made = summary([success(str(number)) for number in range(101)], **changes)
    return LevelFigures(Level("rate", rate, CONFIG), made, rate, served_s, 1)


class TestStopping:
    def test_a_throughput_that_rises_by_five_percent_goes_on(self) -> None:
        assert why_to_stop([closed(1, 10.0), closed(2, 10.5)]) is None

    def test_a_throughput_that_rises_by_less_is_saturation(self) -> None:
        reason = why_to_stop([closed(1, 10.0), closed(2, 20.0), closed(4, 20.8)])
        assert reason is not None
        assert reason.startswith("the service is saturated at concurrency 4: throughput changed by +4.0% over concurr")

    def test_the_first_level_is_held_against_nothing(self) -> None:
        assert why_to_stop([closed(1, 0.1)]) is None

    def test_a_concurrency_that_was_never_reached_is_no_saturation(self) -> None:
        reason = why_to_stop([closed(4, 10.0), closed(64, 10.0, in_flight=30)])
        assert reason is not None
        assert reason.startswith("concurrency 64 was not reached: at most 30 requests were in flight at once, raise")

    def test_a_rate_that_is_completed_goes_on(self) -> None:
        # 100 gaps in 26.04 s, of which the last request takes 1.04 s: all of 4 a second. 95 % are still enough.
        assert why_to_stop([open_loop(4.0, 26.04)]) is None
        assert why_to_stop([open_loop(4.0, 1.04 + 25 / 0.951)]) is None

    def test_a_rate_that_is_not_completed_is_saturation(self) -> None:
        reason = why_to_stop([open_loop(2.0, 51.04), open_loop(4.0, 1.04 + 25 / 0.75)])
        assert reason is not None
        assert reason.startswith("the service is saturated at rate 4: it completed 75% of the offered rate")

    def test_a_request_is_given_the_time_that_it_takes_at_the_first_level(self) -> None:
        # Every request has become slow, so none is slower than the others; the round still ends 5 s late.
        slow = summary([success(str(number), ttft_s=5.0) for number in range(101)])
        reason = why_to_stop([open_loop(2.0, 51.04), replace(open_loop(4.0, 30.04), summary=slow)])
        assert reason is not None
        assert "it completed 86% of the offered rate" in reason

    def test_failed_requests_are_not_completed(self) -> None:
        half = summary([*(success(str(number)) for number in range(51)), *(failure(f"f{n}") for n in range(50))])
        reason = why_to_stop([replace(open_loop(4.0, 26.04), summary=half)])
        assert reason is not None
        assert "it completed 50% of the offered rate" in reason

    def test_an_invalid_level_shows_nothing_and_neither_would_the_next(self) -> None:
        invalid = open_loop(1.0, 1.0, valid=False, invalid_reasons=["9 preemptions"])
        assert why_to_stop([invalid]) == "rate 1 is INVALID: 9 preemptions"


def overlapping() -> list[Record]:
    """Each takes 1.04 s, so two are in flight from 0.5 s on; the failed one took no time."""
    return [
        success("a", start_s=0.0),
        replace(success("b", start_s=0.5), scheduled_s=0.25),
        success("c", start_s=1.04),
        replace(failure("d"), start_s=1.3, scheduled_s=1.0),
    ]


def test_a_levels_figures_come_from_its_last_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = overlapping()
    path = write_run(tmp_path, run_stats("baseline", [summary(records)]), records)

    def kept_before(_config: Config, *, mode: str, results_dir: Path, reporter: Story) -> Ending:
        stats = read_stats(path)
        reporter.scenario_ended(stats, path)
        return Ending.DONE

    monkeypatch.setattr("kvkit.bench.run", kept_before)
    levels = (Level("rate", 3.0, CONFIG),)
    (figures,) = sweep.run(levels, mode="baseline", results_dir=tmp_path, reporter=Story()).levels
    # Scheduled from 0 to 1.04 s: three gaps. The last token came at 2.08 s.
    assert figures.offered_per_s == pytest.approx(3 / 1.04)
    assert figures.served_s == pytest.approx(2.08)
    assert figures.in_flight == 2


@pytest.fixture(scope="module")
def engine() -> Iterator[Addresses]:
    with emulated() as addresses:
        yield addresses


def test_a_sweep_is_a_cold_run_a_level_and_says_why_it_ended(tmp_path: Path, engine: Addresses) -> None:
    levels = [Level("concurrency", n, config_for(engine, test={"concurrency": n})) for n in (1, 2)]
    story = Story()
    swept = sweep.run(levels, mode="with-cache", results_dir=tmp_path, reporter=story)
    assert [one.summary.valid for one in swept.levels] == [True, True]
    assert [one.summary.round for one in swept.levels] == [2, 2]
    assert len(list(tmp_path.glob("with_cache_cold_start_stats_*.json"))) == 2
    assert story.notices[0].startswith("sweep: concurrency 1, seed ")
    assert swept.stopped.startswith("the service ")
    assert swept.ending == Ending.DONE


def test_a_level_that_does_not_finish_ends_the_sweep(tmp_path: Path) -> None:
    story = Story()
    config = config_for(Addresses(engine="http://127.0.0.1:1"))
    swept = sweep.run([Level("rate", 1, config)], mode="baseline", results_dir=tmp_path, reporter=story)
    assert (swept.levels, swept.stopped) == ((), "rate 1 was not measured to its end")
    assert swept.ending == Ending.NOT_FINISHED
    assert story.failure
