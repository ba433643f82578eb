"""Settings, ranked: which is best, which are no different from it, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvkit.results.bootstrap import stratified_speedup
from kvkit.results.errors import ResultsError
from kvkit.results.ranking import Ranking, Standing, rank
from tests.results.making import SPREAD, eight, success, workload, write_attempt

STORE = {"kv_connector": "mooncake-store"}
SMALL = {"lmcache_overrides": {"chunk_size": 128}}


def write_baselines(sweep: Path, first_s: float = 1.0, last_s: float = 1.0) -> None:
    write_attempt(sweep, {}, mode="baseline", hit_ttft_s=first_s, minute=0)
    write_attempt(sweep, {}, mode="baseline", hit_ttft_s=last_s, minute=59)


def standing(ranking: Ranking, settings: dict[str, Any]) -> Standing:
    (found,) = [each for each in ranking.standings if each.settings == settings]
    return found


def refused(sweep: Path) -> str:
    ((_, reason),) = [(each.settings, each.reason) for each in rank(sweep).not_ranked]
    return reason


def test_the_lowest_ttft_of_hits_comes_first(tmp_path: Path) -> None:
    write_baselines(tmp_path)
    write_attempt(tmp_path, {}, hit_ttft_s=0.5, minute=1)
    write_attempt(tmp_path, STORE, hit_ttft_s=0.25, minute=2)
    ranking = rank(tmp_path)
    # Medians of 250 and 500 ms; the baseline takes 1 s, and the spread is the same in all.
    assert [(each.settings, round(each.ttft_ms)) for each in ranking.standings] == [(STORE, 250), ({}, 500)]
    assert [each.speedup and round(each.speedup.ratio, 6) for each in ranking.standings] == [4, 2]
    behind = standing(ranking, {}).behind
    assert behind is not None
    assert (round(behind.ratio, 6), behind.pairs) == (2, 8)
    assert [each.verdict for each in ranking.standings] == ["best", "slower"]


def test_the_cold_round_and_tpot_stand_beside_it(tmp_path: Path) -> None:
    write_attempt(tmp_path, {})
    (only,) = rank(tmp_path).standings
    assert only.cold_ttft_ms == pytest.approx(1000)
    assert only.tpot_ms == pytest.approx(20)


def test_scenarios_weigh_the_same_whatever_their_times() -> None:
    # Ratios 2 and 8, of eight pairs and of sixteen: √(2 · 8) = 4.
    short, long = ([2.0] * 8, [1.0] * 8), ([80.0] * 16, [10.0] * 16)
    found = stratified_speedup([short, long])
    assert found is not None
    assert found.ratio == pytest.approx(4)
    assert found.pairs == 24


def test_a_scenario_of_few_pairs_leaves_no_interval() -> None:
    found = stratified_speedup([([2.0] * 8, [1.0] * 8), ([2.0] * 7, [1.0] * 7)])
    assert found is not None
    assert found.interval is None


def test_a_candidate_whose_interval_holds_1_is_no_different(tmp_path: Path) -> None:
    write_baselines(tmp_path)
    write_attempt(tmp_path, STORE, minute=1)
    write_attempt(tmp_path, SMALL, hit_ttft_s=0.252, turned=3, minute=2)
    assert standing(rank(tmp_path), SMALL).verdict == "no_different"


def test_a_difference_inside_the_drift_is_none(tmp_path: Path) -> None:
    # The baseline became 1.3 times slower while the candidates were measured, and they differ by 1.2.
    write_baselines(tmp_path, 1.0, 1.3)
    write_attempt(tmp_path, STORE, hit_ttft_s=0.25, minute=1)
    write_attempt(tmp_path, SMALL, hit_ttft_s=0.30, minute=2)
    ranking = rank(tmp_path)
    assert ranking.drift is not None
    assert ranking.drift.ratio == pytest.approx(1 / 1.3)
    assert ranking.noise_floor.factor == pytest.approx(1.3)
    assert standing(ranking, SMALL).verdict == "no_different"


def test_of_several_baselines_the_furthest_counts(tmp_path: Path) -> None:
    write_baselines(tmp_path, 1.0, 1.1)
    write_attempt(tmp_path, {}, mode="baseline", hit_ttft_s=0.8, minute=30)
    write_attempt(tmp_path, STORE, minute=1)
    drift = rank(tmp_path).drift
    assert drift is not None
    assert drift.ratio == pytest.approx(1 / 0.8)


def test_a_single_baseline_gives_the_noise_floor_of_its_own_rounds(tmp_path: Path) -> None:
    write_attempt(tmp_path, {}, mode="baseline", records=eight(1, 1.0) + eight(2, 1.2))
    write_attempt(tmp_path, STORE, minute=1)
    ranking = rank(tmp_path)
    assert ranking.drift is None
    assert ranking.noise_floor.factor == pytest.approx(1.2)


def test_the_same_difference_without_drift_is_one(tmp_path: Path) -> None:
    write_baselines(tmp_path)
    write_attempt(tmp_path, STORE, hit_ttft_s=0.25, minute=1)
    write_attempt(tmp_path, SMALL, hit_ttft_s=0.30, minute=2)
    assert standing(rank(tmp_path), SMALL).verdict == "slower"


def test_two_hit_rounds_of_a_request_are_one_value(tmp_path: Path) -> None:
    # 0.2 and 0.4 s: 0.3 s in the mean.
    write_attempt(tmp_path, {}, records=eight(1, 1.0) + eight(2, 0.2) + eight(3, 0.4))
    assert round(rank(tmp_path).standings[0].ttft_ms) == 300


def test_with_more_candidates_each_interval_is_wider() -> None:
    rng = np.random.default_rng(0)
    pairs = [(list(np.exp(rng.normal(0, 0.3, 30))), list(np.exp(rng.normal(0, 0.3, 30))))]
    widths = []
    for comparisons in (1, 8):
        found = stratified_speedup(pairs, comparisons=comparisons)
        assert found is not None
        assert found.interval is not None
        widths.append(found.interval.high / found.interval.low)
    assert widths[0] < widths[1]


def test_a_truly_best_candidate_is_called_slower_in_less_than_5_of_100_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvkit.results.bootstrap.RESAMPLES", 1000)
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(100):
        # Five that are the same: the first of them is a best one as much as any other.
        first, *others = np.exp(rng.normal(0, 0.3, (5, 20)))
        best = min(others, key=np.median)
        found = stratified_speedup([(list(first), list(best))], comparisons=4)
        assert found is not None
        assert found.interval is not None
        missed += found.interval.low > 1
    assert missed < 5


def test_the_best_is_to_be_set(tmp_path: Path) -> None:
    write_baselines(tmp_path)
    write_attempt(tmp_path, {}, hit_ttft_s=0.5, minute=1)
    write_attempt(tmp_path, STORE, hit_ttft_s=0.25, minute=2)
    assert rank(tmp_path).choice.settings == STORE


def test_the_inventory_stays_where_it_is_no_different_from_the_best(tmp_path: Path) -> None:
    write_baselines(tmp_path)
    write_attempt(tmp_path, {}, hit_ttft_s=0.252, turned=3, minute=1)
    write_attempt(tmp_path, STORE, hit_ttft_s=0.25, minute=2)
    assert rank(tmp_path).choice.settings == {}


def test_nothing_is_to_be_set_where_no_candidate_beats_the_service_without_the_cache(tmp_path: Path) -> None:
    write_baselines(tmp_path)
    write_attempt(tmp_path, {}, hit_ttft_s=1.5, minute=1)
    write_attempt(tmp_path, STORE, hit_ttft_s=1.2, minute=2)
    choice = rank(tmp_path).choice
    assert (choice.settings, choice.reason) == (
        None,
        "the best candidate is not better than the service without the cache",
    )


def test_without_a_baseline_nothing_is_to_be_set(tmp_path: Path) -> None:
    write_attempt(tmp_path, STORE)
    choice = rank(tmp_path).choice
    assert (choice.settings, choice.reason) == (
        None,
        "the best candidate is not known to be better than the service without the cache",
    )


def test_of_too_few_requests_nothing_is_said(tmp_path: Path) -> None:
    write_baselines(tmp_path)
    few = [success(str(place), number, ttft_s=SPREAD[place]) for number in (1, 2) for place in range(7)]
    write_attempt(tmp_path, {}, records=few, minute=1)
    write_attempt(tmp_path, STORE, records=few, minute=2)
    ranking = rank(tmp_path)
    assert {each.verdict for each in ranking.standings} == {"best", "unknown"}
    assert ranking.choice.settings is None


@pytest.mark.parametrize("outcome", ["refused", "failed", "unfinished"])
def test_what_was_not_measured_is_listed_with_its_reason(tmp_path: Path, outcome: str) -> None:
    write_attempt(tmp_path, {}, minute=1)
    write_attempt(tmp_path, STORE, minute=2, outcome=outcome, reason="the reason")
    ranking = rank(tmp_path)
    assert [each.settings for each in ranking.standings] == [{}]
    assert [(each.settings, each.outcome, each.reason) for each in ranking.not_ranked] == [
        (STORE, outcome, "the reason")
    ]


def test_an_invalid_candidate_is_listed_with_what_its_stats_file_says(tmp_path: Path) -> None:
    write_attempt(tmp_path, STORE, outcome="invalid", reason="nothing came from the store")
    (each,) = rank(tmp_path).not_ranked
    assert each.outcome == "invalid"
    assert "cold_start: round 2: nothing came from the store" in each.reason


def test_a_valid_result_stands_whatever_came_of_a_later_attempt(tmp_path: Path) -> None:
    write_attempt(tmp_path, STORE, minute=1)
    write_attempt(tmp_path, STORE, minute=2, outcome="failed", reason="later")
    ranking = rank(tmp_path)
    assert ([each.settings for each in ranking.standings], ranking.not_ranked) == ([STORE], ())


def test_the_newest_valid_result_counts(tmp_path: Path) -> None:
    write_attempt(tmp_path, STORE, hit_ttft_s=0.5, minute=1)
    write_attempt(tmp_path, STORE, hit_ttft_s=0.25, minute=2)
    (only,) = rank(tmp_path).standings
    assert round(only.ttft_ms) == 250


def test_a_file_that_was_cut_off_keeps_no_other_candidate_from_counting(tmp_path: Path) -> None:
    write_attempt(tmp_path, {}, minute=1)
    (cut_off,) = write_attempt(tmp_path, STORE, minute=2).glob("*_stats_*.json")
    cut_off.write_text(cut_off.read_text()[:100])
    ranking = rank(tmp_path)
    assert [each.settings for each in ranking.standings] == [{}]
    assert cut_off.name in ranking.not_ranked[0].reason


def test_what_another_workload_measured_is_not_ranked_with_the_newest(tmp_path: Path) -> None:
    write_attempt(tmp_path, STORE, minute=1, workload=workload(prefix_tokens=500))
    write_attempt(tmp_path, {}, minute=2)
    assert refused(tmp_path) == "measured with another cold_start.workload.prefix_tokens than what was measured last"


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no \*/candidate.json"):
        rank(tmp_path)


def test_a_candidate_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (write_attempt(tmp_path, {}) / "candidate.json").write_text('{"schema": 1}')
    with pytest.raises(ResultsError, match=r"candidate.json: key key is missing"):
        rank(tmp_path)
