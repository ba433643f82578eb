"""What a single run says about itself."""

from __future__ import annotations

import pytest

from kvkit.results.effect import cache_effect
from tests.results.making import run_stats, success, summary

COLD = summary([success("a", 1, ttft_s=1.0)])


def test_hit_rounds_are_held_against_the_cold_start() -> None:
    # TTFT 160 against 1,000 ms: 84 % less. One request in 0.2 s against 1.04 s: 5.2 times as many, 420 % more.
    effect = cache_effect(run_stats("with-cache", [COLD, summary([success("a", 2, ttft_s=0.16)], 2)]))
    assert [target.value_percent for target in effect.targets] == pytest.approx([84, 420, 0])
    assert effect.outcome == "met"


def test_every_hit_round_counts() -> None:
    rounds = [COLD, summary([success("a", 2, ttft_s=0.16)], 2), summary([success("a", 3)], 3)]
    assert cache_effect(run_stats("with-cache", rounds)).outcome == "not_met"


def test_requests_that_arrive_at_a_rate_have_no_throughput_to_gain() -> None:
    hit = summary([success("a", 2, ttft_s=0.16)], 2, open_loop=True)
    effect = cache_effect(run_stats("with-cache", [COLD, hit]))
    assert [target.name for target in effect.targets] == ["TTFT reduction", "TPOT rise over the cold round"]


def test_an_invalid_run_has_no_effect() -> None:
    hit = summary([success("a", 2, ttft_s=0.16)], 2, valid=False, invalid_reasons=["no external tokens"])
    effect = cache_effect(run_stats("with-cache", [COLD, hit]))
    assert (effect.targets, effect.outcome) == ((), "invalid")


def test_one_round_has_nothing_to_be_held_against() -> None:
    assert cache_effect(run_stats("with-cache", [COLD])).outcome == "unknown"
