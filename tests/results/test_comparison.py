"""Two modes side by side: which figures, whose requests, and when there is no gain to speak of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kvkit.results.comparison import Comparison, compare
from kvkit.results.errors import ResultsError
from kvkit.results.stats import Mode, RunStats
from tests.results.making import (
    STARTED,
    failure,
    provenance,
    run_stats,
    success,
    summary,
    workload,
    write_pair_of_runs,
    write_run,
)


def compared(folder: Path) -> Comparison:
    return compare([str(folder / "with_cache_*_stats_*.json")], [str(folder / "baseline_*_stats_*.json")])


def refusal(folder: Path) -> str:
    with pytest.raises(ResultsError) as caught:
        compared(folder)
    return str(caught.value).replace(f"{folder}/", "")


def one_round(mode: Mode, **overrides: Any) -> RunStats:
    return run_stats(mode, [summary([success()])], **overrides)


def test_the_changes_of_the_hit_round(tmp_path: Path) -> None:
    # TTFT 250 against 1,000 ms: 75 % less. Two requests in 2 · (0.25 + 0.04) = 0.58 s against 2 · 1.04 = 2.08 s:
    # 2.08 / 0.58 - 1 = 258.6 % more. TPOT 20 against 20 ms.
    write_pair_of_runs(tmp_path, hit_ttft_s=0.25)
    changes = compared(tmp_path).scenarios[0].rounds[1].changes
    assert changes is not None
    assert changes.ttft_mean_reduction == pytest.approx(75)
    assert changes.ttft_median_reduction == pytest.approx(75)
    assert changes.throughput_gain == pytest.approx(258.62, abs=0.01)
    assert changes.tpot_rise == pytest.approx(0)


def test_mean_and_median_tell_different_things(tmp_path: Path) -> None:
    # With cache 100, 200, 900 ms: mean 400, median 200. Baseline 1,000 ms each: 60 % and 80 % less.
    ids = ("a", "b", "c")
    fast = [success(name, ttft_s=ttft) for name, ttft in zip(ids, (0.1, 0.2, 0.9), strict=True)]
    slow = [success(name) for name in ids]
    write_run(tmp_path, run_stats("with-cache", [summary(fast)]), fast)
    write_run(tmp_path, run_stats("baseline", [summary(slow)]), slow)
    changes = compared(tmp_path).scenarios[0].rounds[0].changes
    assert changes is not None
    assert (changes.ttft_mean_reduction, changes.ttft_median_reduction) == pytest.approx((60, 80))


def test_a_request_that_failed_in_one_mode_is_in_neither_figure(tmp_path: Path) -> None:
    # "b" failed in the baseline, so with-cache's 5 s for it do not count: 1,000 ms against 1,000 ms.
    ours = [success("a"), success("b", ttft_s=5.0)]
    theirs = [success("a"), failure("b")]
    write_run(tmp_path, run_stats("with-cache", [summary(ours)]), ours)
    write_run(tmp_path, run_stats("baseline", [summary(theirs)]), theirs)
    this = compared(tmp_path).scenarios[0].rounds[0]
    assert (this.with_cache.ttft_ms.mean, this.baseline.ttft_ms.mean) == (1000, 1000)
    assert (len(this.pairs), this.unpaired) == (1, 1)


def test_requests_of_one_mode_only_are_counted(tmp_path: Path) -> None:
    ours, theirs = [success("a"), success("b")], [success("a"), success("c"), success("d")]
    write_run(tmp_path, run_stats("with-cache", [summary(ours)]), ours)
    write_run(tmp_path, run_stats("baseline", [summary(theirs)]), theirs)
    this = compared(tmp_path).scenarios[0].rounds[0]
    assert (len(this.pairs), this.unpaired) == (1, 3)


def test_rounds_are_paired_by_number(tmp_path: Path) -> None:
    records = [success("a", 1), success("a", 2)]
    write_run(tmp_path, run_stats("with-cache", [summary(records[:1]), summary(records[1:], 2)]), records)
    write_run(tmp_path, one_round("baseline"), [success()])
    this = compared(tmp_path).scenarios[0]
    assert [each.number for each in this.rounds] == [1]
    assert this.rounds_in_one_mode == (2,)


@pytest.mark.parametrize(
    ("hit_ttft_s", "outcome"),
    # 0.4 s: 60 % less, and 1.04 / 0.44 = 136 % more. 0.37: 63 %, 1.04 / 0.41 = 153.7 % more.
    [(0.37, "met"), (0.4, "not_met"), (0.5, "not_met"), (1.5, "not_met")],
)
def test_the_verdict_follows_the_targets(tmp_path: Path, hit_ttft_s: float, outcome: str) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=hit_ttft_s)
    assert compared(tmp_path).verdict.outcome == outcome


def test_an_invalid_run_shows_no_gain(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": False, "invalid_reasons": ["no external tokens"]})
    comparison = compared(tmp_path)
    assert comparison.verdict.outcome == "invalid"
    assert comparison.verdict.reasons == ("cold_start: with-cache, round 2: no external tokens",)
    this = comparison.scenarios[0]
    assert [each.changes for each in this.rounds] == [None, None]
    assert this.targets == ()


def test_without_counters_the_verdict_is_unknown_though_the_times_are_good(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": None, "invalid_reasons": ["the engine has no such counters"]})
    this = compared(tmp_path).scenarios[0]
    assert this.verdict.outcome == "unknown"
    assert this.verdict.reasons == ("with-cache, round 2: the engine has no such counters",)
    assert {target.outcome for target in this.targets} == {"unknown"}
    assert this.targets[0].value_percent == pytest.approx(75)


def test_without_a_hit_round_the_verdict_is_unknown(tmp_path: Path) -> None:
    write_run(tmp_path, one_round("with-cache"), [success()])
    write_run(tmp_path, one_round("baseline"), [success()])
    verdict = compared(tmp_path).verdict
    assert (verdict.outcome, verdict.reasons) == ("unknown", ("cold_start: there is no cache-hit round to judge",))


def test_a_hit_round_without_pairs_is_unknown(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    records = [success("a", 1), success("x", 2)]
    later = provenance(STARTED + timedelta(hours=1))
    rounds = [summary(records[:1]), summary(records[1:], 2)]
    write_run(tmp_path, run_stats("baseline", rounds, provenance=later), records)
    this = compared(tmp_path).scenarios[0]
    assert this.targets[0].outcome == "unknown"


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            {"config": {"model": {"name": "tiny"}, "test": {"concurrency": 8}}},
            "config.test.concurrency: 8 with cache, None in the baseline",
        ),
        ({"provenance": provenance(model="huge")}, "engine.model: huge with cache, tiny in the baseline"),
    ],
)
def test_runs_under_different_conditions_show_no_gain(tmp_path: Path, overrides: dict[str, Any], reason: str) -> None:
    write_pair_of_runs(tmp_path, **overrides)
    verdict = compared(tmp_path).verdict
    assert (verdict.outcome, verdict.reasons) == ("invalid", (f"cold_start: {reason}",))


def test_a_cache_that_was_cleared_in_one_mode_only_shows_no_gain(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"isolation": "none"})
    assert compared(tmp_path).verdict.reasons == (
        "cold_start: round 2: isolation none with cache, device in the baseline",
    )


def test_what_differs_is_told(tmp_path: Path) -> None:
    flags = {"block_size": 128, "kv_transfer_config": {"kv_connector": "LMCacheMPConnector"}}
    write_pair_of_runs(tmp_path, provenance=provenance(connector="LMCacheMPConnector", flags=flags))
    found = {each.name: (each.with_cache, each.baseline) for each in compared(tmp_path).scenarios[0].differences}
    assert found == {
        "engine.connector": ("LMCacheMPConnector", "none"),
        "flags.kv_transfer_config.kv_connector": ("LMCacheMPConnector", None),
    }


def test_a_model_that_one_engine_does_not_tell_is_no_difference(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, provenance=provenance(model=None))
    comparison = compared(tmp_path)
    assert comparison.scenarios[0].differences == ()
    assert comparison.verdict.outcome == "met"


def test_flags_that_one_engine_does_not_tell_are_no_difference(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, provenance=provenance(flags=None))
    this = compared(tmp_path).scenarios[0]
    assert this.differences == ()
    assert not this.flags_told


def test_another_workload_is_refused_with_the_parameters_that_differ(tmp_path: Path) -> None:
    write_run(tmp_path, one_round("with-cache", workload=workload("sha256:22", seed=8, turns=5)), [success()])
    write_run(tmp_path, one_round("baseline"), [success()])
    assert refusal(tmp_path) == (
        "scenario cold_start: the two runs did not send the same workload: seed: 8 with cache, 7 in the baseline; "
        "turns: 5 with cache, absent in the baseline. Run both modes with the same configuration and seed."
    )


def test_another_workload_with_equal_parameters_names_the_versions(tmp_path: Path) -> None:
    write_run(tmp_path, one_round("with-cache", workload=workload("sha256:22")), [success()])
    write_run(tmp_path, one_round("baseline"), [success()])
    assert "all parameters are equal, so the prompts were built differently (kvkit 0.1.0 and 0.1.0)" in refusal(
        tmp_path
    )


def test_a_file_of_the_other_mode_is_refused(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    with pytest.raises(ResultsError, match="key mode: found baseline, expected with-cache: give it to the other"):
        compare([str(tmp_path / "*_stats_*")], [str(tmp_path / "baseline_*_stats_*")])


def test_scenarios_that_were_not_run_in_both_modes_are_refused_when_nothing_is_left(tmp_path: Path) -> None:
    write_run(tmp_path, one_round("with-cache", scenario="cold_start"), [success()])
    write_run(tmp_path, one_round("baseline", scenario="multi_turn_conversation"), [success()])
    assert refusal(tmp_path) == (
        "no scenario was run in both modes: with-cache has cold_start; baseline has multi_turn_conversation"
    )


def test_scenarios_of_one_mode_are_told(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    write_run(tmp_path, one_round("with-cache", scenario="multi_turn_conversation"), [success()])
    assert compared(tmp_path).one_mode_only == (("multi_turn_conversation", "with-cache"),)


def test_the_newest_run_is_taken_whatever_its_name(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    newer = one_round("baseline", provenance=provenance(STARTED + timedelta(minutes=1)))
    path = write_run(tmp_path, newer, [success()]).rename(tmp_path / "baseline_a_stats_.json")
    comparison = compared(tmp_path)
    assert comparison.scenarios[0].baseline.path == path
    assert [older.name for older in comparison.not_used] == ["baseline_cold_start_stats_20261122_200000.json"]


def test_the_overall_verdict_is_the_worst(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    for mode in ("with-cache", "baseline"):
        invalid = summary([success()], valid=mode == "baseline", invalid_reasons=["2 preemptions"])
        write_run(tmp_path, run_stats(mode, [invalid], scenario="multi_turn_conversation"), [success()])
    comparison = compared(tmp_path)
    assert [each.verdict.outcome for each in comparison.scenarios] == ["met", "invalid"]
    assert comparison.verdict.outcome == "invalid"


def test_the_first_words_of_each_kind_of_failure_are_kept(tmp_path: Path) -> None:
    records = [failure("a", words="first"), failure("b", words="second"), failure("c", status=500, words="third")]
    records.append(replace(failure("d"), error_kind="timeout", error=None))
    records.append(success("e"))
    stats = run_stats("with-cache", [summary(records, max_failed_ratio=1.0)])
    write_run(tmp_path, stats, records)
    write_run(tmp_path, run_stats("baseline", [summary(records, max_failed_ratio=1.0)]), records)
    assert compared(tmp_path).scenarios[0].with_cache.words_of_failures() == {"http_429": "first", "http_500": "third"}
