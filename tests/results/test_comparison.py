"""Two modes side by side: which figures, whose requests, and when there is no gain to speak of."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kvkit.results.comparison import Comparison, RunPair, compare
from kvkit.results.differences import other_conditions
from kvkit.results.errors import ResultsError
from kvkit.results.speedup import Speedup
from kvkit.results.stats import Mode, RunStats, TokensBySource
from kvkit.results.targets import worst
from kvkit.results.verdict import Verdict
from tests.results.making import (
    STARTED,
    eight,
    failure,
    provenance,
    run_stats,
    success,
    summary,
    workload,
    write_pair_of_runs,
    write_pair_with_objectives,
    write_run,
)


def compared(folder: Path) -> Comparison:
    return compare([str(folder / "with_cache_*_stats_*.json")], [str(folder / "baseline_*_stats_*.json")])


def only_pair(folder: Path) -> RunPair:
    (pair,) = compared(folder).scenarios[0].run_pairs
    return pair


def refusal(folder: Path) -> str:
    with pytest.raises(ResultsError) as caught:
        compared(folder)
    return str(caught.value).replace(f"{folder}/", "")


def one_round(mode: Mode, **overrides: Any) -> RunStats:
    return run_stats(mode, [summary([success()])], **overrides)


def test_the_changes_of_the_hit_round(tmp_path: Path) -> None:
    # TTFT 250 against 1,000 ms: 75 % less. Eight requests in 8 · (0.25 + 0.04) = 2.32 s against 8 · 1.04 = 8.32 s:
    # 8.32 / 2.32 - 1 = 258.6 % more. TPOT 20 against 20 ms.
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
    this = compared(tmp_path).scenarios[0]
    assert (this.rounds[0].with_cache.ttft_ms.mean, this.rounds[0].baseline.ttft_ms.mean) == (1000, 1000)
    assert (len(this.rounds[0].pairs), this.run_pairs[0].rounds[0].unpaired) == (1, 1)


def test_requests_of_one_mode_only_are_counted(tmp_path: Path) -> None:
    ours, theirs = [success("a"), success("b")], [success("a"), success("c"), success("d")]
    write_run(tmp_path, run_stats("with-cache", [summary(ours)]), ours)
    write_run(tmp_path, run_stats("baseline", [summary(theirs)]), theirs)
    this = compared(tmp_path).scenarios[0].run_pairs[0].rounds[0]
    assert (len(this.pairs), this.unpaired) == (1, 3)


def test_rounds_are_paired_by_number(tmp_path: Path) -> None:
    records = [success("a", 1), success("a", 2)]
    write_run(tmp_path, run_stats("with-cache", [summary(records[:1]), summary(records[1:], 2)]), records)
    write_run(tmp_path, one_round("baseline"), [success()])
    this = compared(tmp_path).scenarios[0]
    assert [each.number for each in this.rounds] == [1]
    assert this.run_pairs[0].rounds_in_one_mode == (2,)


@pytest.mark.parametrize(
    ("hit_ttft_s", "outcome"),
    # 0.4 s: 60 % less, and 1.04 / 0.44 = 136 % more. 0.37: 63 %, 1.04 / 0.41 = 153.7 % more.
    [(0.37, "met"), (0.4, "not_met"), (0.5, "not_met"), (1.5, "not_met")],
)
def test_the_guides_targets_stand_beside_the_verdict(tmp_path: Path, hit_ttft_s: float, outcome: str) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=hit_ttft_s)
    assert worst(target.outcome for target in compared(tmp_path).scenarios[0].targets) == outcome


@pytest.mark.parametrize(
    ("hit_ttft_s", "effect"), [(0.5, "better"), (1.0, "no_difference"), (1.03, "no_difference"), (2.0, "worse")]
)
def test_the_verdict_follows_the_speedup_of_the_hit_round(tmp_path: Path, hit_ttft_s: float, effect: str) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=hit_ttft_s)
    assert compared(tmp_path).verdict.effect == effect


def test_the_noise_floor_is_how_far_the_baselines_cold_rounds_lie_apart(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    floor = compared(tmp_path).scenarios[0].noise_floor
    assert floor.aa is not None
    assert floor.aa.interval is not None
    assert floor.aa.ratio == pytest.approx(1.0)
    assert floor.aa.pairs == 8
    assert floor.factor == pytest.approx(max(floor.aa.interval.high, 1 / floor.aa.interval.low))


@pytest.mark.parametrize(
    "second",
    [
        {"isolation": "none"},
        {"valid": None, "invalid_reasons": ["the engine has no such counters"]},
        {"by_source": TokensBySource(computed=8000, device=0, external=8)},
    ],
    ids=["not cleared", "no counters", "from a store"],
)
def test_without_two_cold_rounds_the_noise_floor_is_unknown(tmp_path: Path, second: dict[str, Any]) -> None:
    write_pair_of_runs(tmp_path)
    cold, again = eight(1, 1.0), eight(2, 1.0)
    later = provenance(STARTED + timedelta(hours=1))
    rounds = [summary(cold), summary(again, 2, **second)]
    write_run(tmp_path, run_stats("baseline", rounds, workload=workload("sha256:7"), provenance=later), cold + again)
    floor = compared(tmp_path).scenarios[0].noise_floor
    assert (floor.factor, floor.covers(1.0)) == (None, False)
    assert floor.unknown is not None
    assert "--isolation device" in floor.unknown


def test_too_few_pairs_have_a_ratio_and_no_verdict(tmp_path: Path) -> None:
    hits: dict[Mode, float] = {"with-cache": 0.25, "baseline": 1.0}
    for mode, hit_ttft_s in hits.items():
        records = [success("a", 1), success("a", 2, ttft_s=hit_ttft_s)]
        write_run(tmp_path, run_stats(mode, [summary(records[:1]), summary(records[1:], 2)]), records)
    this = compared(tmp_path).scenarios[0]
    (hit,) = this.hits
    assert hit.round.speedups is not None
    assert hit.round.speedups.ttft_median == Speedup(4.0, None, 1)
    assert this.verdict == Verdict("unknown", ("round 2: too few pairs for an interval: 1, at least 8 are needed",))
    assert this.noise_floor.unknown == "the baseline's cold rounds have 1 pairs, at least 8 are needed"


def test_an_invalid_run_shows_no_gain(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": False, "invalid_reasons": ["no external tokens"]})
    comparison = compared(tmp_path)
    assert comparison.verdict.effect == "invalid"
    assert comparison.verdict.reasons == ("cold_start: with-cache, round 2: no external tokens",)
    this = comparison.scenarios[0]
    assert [(each.changes, each.speedups) for each in this.rounds] == [(None, None), (None, None)]
    assert (this.targets, this.hits) == ((), ())


def test_without_counters_the_verdict_is_unknown_though_the_times_are_good(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": None, "invalid_reasons": ["the engine has no such counters"]})
    this = compared(tmp_path).scenarios[0]
    assert this.verdict.effect == "unknown"
    assert this.verdict.reasons == ("with-cache, round 2: the engine has no such counters",)
    assert {target.outcome for target in this.targets} == {"unknown"}
    assert this.targets[0].value_percent == pytest.approx(75)


def test_without_a_hit_round_the_verdict_is_unknown(tmp_path: Path) -> None:
    write_run(tmp_path, one_round("with-cache"), [success()])
    write_run(tmp_path, one_round("baseline"), [success()])
    verdict = compared(tmp_path).verdict
    assert (verdict.effect, verdict.reasons) == ("unknown", ("cold_start: there is no cache-hit round to judge",))


def test_a_hit_round_without_pairs_is_unknown(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    records = [success("a", 1), success("x", 2)]
    later = provenance(STARTED + timedelta(hours=1))
    rounds = [summary(records[:1]), summary(records[1:], 2)]
    write_run(tmp_path, run_stats("baseline", rounds, workload=workload("sha256:7"), provenance=later), records)
    this = compared(tmp_path).scenarios[0]
    assert this.targets[0].outcome == "unknown"
    assert this.verdict.reasons == ("round 2: no request has a time to first token in both modes",)


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
    assert (verdict.effect, verdict.reasons) == ("invalid", (f"cold_start: {reason}",))


def test_a_cache_that_was_cleared_in_one_mode_only_shows_no_gain(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"isolation": "none"})
    assert compared(tmp_path).verdict.reasons == (
        "cold_start: round 2: isolation none with cache, device in the baseline",
    )


def test_what_differs_is_told(tmp_path: Path) -> None:
    flags = {"block_size": 128, "kv_transfer_config": {"kv_connector": "LMCacheMPConnector"}}
    write_pair_of_runs(tmp_path, provenance=provenance(connector="LMCacheMPConnector", flags=flags))
    found = {each.name: (each.with_cache, each.baseline) for each in only_pair(tmp_path).differences}
    assert found == {
        "engine.connector": ("LMCacheMPConnector", "none"),
        "flags.kv_transfer_config.kv_connector": ("LMCacheMPConnector", None),
    }


def test_a_model_that_one_engine_does_not_tell_is_no_difference(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, provenance=provenance(model=None))
    comparison = compared(tmp_path)
    assert comparison.scenarios[0].run_pairs[0].differences == ()
    assert comparison.verdict.effect == "better"


def test_flags_that_one_engine_does_not_tell_are_no_difference(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, provenance=provenance(flags=None))
    this = only_pair(tmp_path)
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
    newer = one_round("baseline", workload=workload("sha256:7"), provenance=provenance(STARTED + timedelta(minutes=1)))
    path = write_run(tmp_path, newer, [success()]).rename(tmp_path / "baseline_a_stats_.json")
    comparison = compared(tmp_path)
    assert comparison.scenarios[0].run_pairs[0].baseline.path == path
    assert [(older.path.name, older.reason) for older in comparison.not_used] == [
        ("baseline_cold_start_stats_20261122_200000.json", "a newer run of this mode and workload was given")
    ]


def test_the_overall_verdict_is_the_worst(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    for mode in ("with-cache", "baseline"):
        invalid = summary([success()], valid=mode == "baseline", invalid_reasons=["2 preemptions"])
        write_run(tmp_path, run_stats(mode, [invalid], scenario="multi_turn_conversation"), [success()])
    comparison = compared(tmp_path)
    assert [each.verdict.effect for each in comparison.scenarios] == ["better", "invalid"]
    assert comparison.verdict.effect == "invalid"


def test_the_first_words_of_each_kind_of_failure_are_kept(tmp_path: Path) -> None:
    records = [failure("a", words="first"), failure("b", words="second"), failure("c", status=500, words="third")]
    records.append(replace(failure("d"), error_kind="timeout", error=None))
    records.append(success("e"))
    stats = run_stats("with-cache", [summary(records, max_failed_ratio=1.0)])
    write_run(tmp_path, stats, records)
    write_run(tmp_path, run_stats("baseline", [summary(records, max_failed_ratio=1.0)]), records)
    assert only_pair(tmp_path).with_cache.words_of_failures() == {"http_429": "first", "http_500": "third"}


LATER = STARTED + timedelta(hours=1)


def test_runs_of_several_seeds_are_pooled_and_each_pair_is_shown_alone(tmp_path: Path) -> None:
    # TTFT of hits 250 and 350 ms: 300 ms over both, 4.0, 2.9 and 3.3 times less than 1,000.
    write_pair_of_runs(tmp_path, hit_ttft_s=0.25, seed=7)
    write_pair_of_runs(tmp_path, hit_ttft_s=0.35, seed=8, started=LATER)
    comparison = compared(tmp_path)
    this = comparison.scenarios[0]
    alone = [rounds[1].speedups for rounds in this.by_run_pair]
    pooled = this.rounds[1].speedups
    assert pooled is not None
    assert [each.ttft_mean.ratio for each in (*alone, pooled) if each and each.ttft_mean] == pytest.approx(
        [1 / 0.25, 1 / 0.35, 1 / 0.3]
    )
    assert (len(this.rounds[1].pairs), this.rounds[1].with_cache.by_source.external) == (16, 2 * 6144)
    # 16 requests in 8 · 0.29 + 8 · 0.39 s.
    assert this.rounds[1].with_cache.requests_per_s == pytest.approx(16 / (8 * 0.29 + 8 * 0.39))
    assert this.noise_floor.aa is not None
    assert this.noise_floor.aa.pairs == 16
    assert comparison.not_used == ()


def test_goodput_of_both_modes_is_told_where_they_state_the_same_objectives(tmp_path: Path) -> None:
    # Half of the baseline's TTFTs are 1,010 ms or more.
    write_pair_with_objectives(tmp_path, {"ttft_ms": 1000.0}, {"ttft_ms": 1000.0})
    cold, hit = compared(tmp_path).scenarios[0].rounds
    assert cold.goodputs is not None
    assert hit.goodputs is not None
    assert [goodput.requests for goodput in (*cold.goodputs, *hit.goodputs)] == [4, 4, 8, 4]


@pytest.mark.parametrize(("key", "number"), [("requests", "1" + "0" * 400), ("ttft_ms", "1e999")])
def test_goodput_that_no_run_can_have_is_refused(tmp_path: Path, key: str, number: str) -> None:
    write_pair_with_objectives(tmp_path, {"ttft_ms": 1000.0}, {"ttft_ms": 1000.0})
    for path in tmp_path.glob("*_stats_*.json"):
        path.write_text(re.sub(rf'"{key}": \d[\d.]*', f'"{key}": {number}', path.read_text()))
    assert f"goodput.{'objectives.' if key == 'ttft_ms' else ''}{key}" in refusal(tmp_path)


def test_goodput_of_other_objectives_is_not_told(tmp_path: Path) -> None:
    write_pair_with_objectives(tmp_path, {"ttft_ms": 1000.0}, {"ttft_ms": 900.0})
    assert [this.goodputs for this in compared(tmp_path).scenarios[0].rounds] == [None, None]


def test_a_single_pair_of_runs_is_not_shown_twice(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    assert compared(tmp_path).scenarios[0].by_run_pair == ()


def test_one_invalid_pair_of_runs_makes_the_pool_invalid(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    write_pair_of_runs(tmp_path, seed=8, started=LATER, hit={"valid": False, "invalid_reasons": ["no external tokens"]})
    verdict = compared(tmp_path).scenarios[0].verdict
    assert verdict == Verdict("invalid", ("run pair 2: with-cache, round 2: no external tokens",))


def test_a_run_whose_workload_the_other_mode_did_not_send_is_not_used(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    alone = write_run(tmp_path, one_round("baseline", workload=workload("sha256:9", seed=9)), [success()])
    assert compared(tmp_path).not_used == ((alone, "no run of the other mode sent the same workload"),)


def test_runs_of_another_version_than_the_newest_are_not_pooled(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, provenance=provenance(connector="LMCacheMPConnector", version="0.31.0"))
    write_pair_of_runs(tmp_path, seed=8, started=LATER)
    comparison = compared(tmp_path)
    assert len(comparison.scenarios[0].run_pairs) == 1
    assert {each.reason for each in comparison.not_used} == {"a newer pair was measured with another engine.version"}


def test_only_the_seed_of_a_workload_may_differ_within_a_pool() -> None:
    one = one_round("baseline", workload=workload("sha256:7", seed=7, documents=3))
    assert other_conditions(one, one_round("baseline", workload=workload("sha256:8", seed=8, documents=3))) == ()
    assert other_conditions(one, one_round("baseline", workload=workload("sha256:9", seed=7, documents=4))) == (
        "workload.documents",
    )
