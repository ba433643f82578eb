"""From records to the summary of a round."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvkit.results.stats import Counters, RoundSummary, TokensBySource
from kvkit.results.summary import run_validity
from tests.results.making import failure, success, summary


def test_latencies_are_of_successful_requests_only() -> None:
    # 1.0 s and 3.0 s succeeded: mean 2,000 ms. The failed request had a first token after 9 s.
    slow_failure = replace(failure("c"), ttft_s=9.0, e2e_s=9.5, itl_s=(0.5,), completion_tokens=2)
    made = summary([success("a", ttft_s=1.0), success("b", ttft_s=3.0), slow_failure])
    # E2E: 1.04 and 3.04 s.
    assert (made.ttft_ms.mean, made.e2e_ms.mean) == pytest.approx((2000, 2040))
    # Each success has gaps of 10 and 30 ms.
    assert (made.itl_ms.mean, made.tpot_ms.mean) == pytest.approx((20, 20))


def test_gaps_of_all_requests_are_pooled() -> None:
    # Gaps 10, 30 and 20, 20, 20, 20 ms: the median of six is 20, their mean 120/6 = 20. The mean of means would be 20
    # as well, so the spread tells: squares of deviations 100 + 100, /6, root = 5.7735.
    made = summary([success("a"), replace(success("b"), itl_s=(0.02, 0.02, 0.02, 0.02))])
    assert made.itl_ms.std == pytest.approx(5.7735, abs=1e-4)


def test_throughput_is_successes_between_first_start_and_last_token() -> None:
    # Starts 1.0 and 2.0; the last token at 2.0 + 1.0 + 0.04 = 3.04: 2 requests and 6 tokens in 2.04 s.
    made = summary([success("a", start_s=1.0), success("b", start_s=2.0), failure("c")])
    assert made.duration_s == pytest.approx(2.04)
    assert made.throughput.requests_per_s == pytest.approx(2 / 2.04)
    assert made.throughput.output_tokens_per_s == pytest.approx(6 / 2.04)


def test_goodput_is_of_successes_that_met_every_objective() -> None:
    # TTFT 400, 500 and 600 ms, TPOT 20 ms each; b meets its objective exactly. All within 2.0 + 0.6 + 0.04 s.
    records = [success("a", ttft_s=0.4), success("b", start_s=1.0, ttft_s=0.5), success("c", start_s=2.0, ttft_s=0.6)]
    goodput = summary([*records, failure("d")], objectives={"ttft_ms": 500.0, "tpot_ms": 20.001}).goodput
    assert goodput is not None
    assert goodput.requests == 2
    assert goodput.requests_per_s == pytest.approx(2 / 2.64)
    assert goodput.objectives == {"ttft_ms": 500.0, "tpot_ms": 20.001}


def test_a_time_that_a_request_does_not_have_misses_no_objective() -> None:
    one_token = replace(success("a"), itl_s=(), completion_tokens=1)
    assert one_token.tpot_s is None
    goodput = summary([one_token], objectives={"tpot_ms": 1.0}).goodput
    assert goodput is not None
    assert goodput.requests == 1


def test_without_objectives_no_goodput_is_told() -> None:
    assert summary([success("a")]).goodput is None


def test_a_round_without_success_has_no_figures() -> None:
    made = summary([failure("a")])
    assert made.ttft_ms.mean is None
    assert made.duration_s is None
    assert made.throughput.requests_per_s is None


def test_failures_are_counted_by_kind() -> None:
    timeout = replace(failure("d"), error_kind="timeout", http_status=None)
    made = summary([success("a"), failure("b"), failure("c"), timeout], max_failed_ratio=1.0)
    assert made.requests.model_dump() == {
        "total": 4,
        "succeeded": 1,
        "failed": 3,
        "failed_by_kind": {"http_429": 2, "timeout": 1},
    }


def test_tokens_are_summed_over_successes() -> None:
    # 1,001 prompt and 3 completion tokens each; the workload stated 1,000.
    tokens = summary([success("a"), success("b"), failure("c")]).tokens
    assert (tokens.prompt, tokens.completion, tokens.expected_prompt) == (2002, 6, 2000)


def test_cached_tokens_are_summed_over_those_who_told_them() -> None:
    # vLLM leaves the details out of an answer without cached tokens.
    silent = replace(success("a", 2), cached_tokens=None)
    assert summary([silent, success("b", 2)]).tokens.cached == 768


def test_cached_tokens_that_nobody_told_are_unknown() -> None:
    assert summary([replace(success(), cached_tokens=None)]).tokens.cached is None


def test_round_one_is_the_cold_start_and_later_ones_are_hits() -> None:
    assert [summary([success()], number).name for number in (1, 2, 3)] == ["cold_start", "cache_hit", "cache_hit"]


def test_failures_within_the_limit_leave_a_round_valid() -> None:
    # 1 of 4 is 25 %, the limit.
    records = [success("a"), success("b"), success("c"), failure("d")]
    assert summary(records, max_failed_ratio=0.25).valid is True


@pytest.mark.parametrize("before", [True, None])
def test_more_failures_than_allowed_make_a_round_invalid(before: bool | None) -> None:
    made = summary([success("a"), failure("b"), failure("c")], valid=before, max_failed_ratio=0.5)
    assert made.valid is False
    assert made.invalid_reasons == ("2 of 3 requests failed (limit 50 %)",)


def test_a_counter_that_is_no_number_was_not_told() -> None:
    assert Counters(vllm={"a": float("nan"), "b": float("inf"), "c": 1.0}).vllm == {"c": 1.0}


def test_a_source_that_is_not_told_stays_unknown() -> None:
    made = summary([success()], by_source=TokensBySource(computed=1001))
    assert made.tokens.by_source.external is None


def test_the_hit_ratio_is_what_was_not_computed_over_all() -> None:
    made = summary([success()], by_source=TokensBySource(computed=250, device=150, external=600))
    assert made.tokens.hit_ratio == 0.75


@pytest.mark.parametrize("sources", [TokensBySource(computed=250), TokensBySource(computed=0, device=0, external=0)])
def test_without_its_counters_the_hit_ratio_is_unknown(sources: TokensBySource) -> None:
    assert summary([success()], by_source=sources).tokens.hit_ratio is None


def test_in_an_open_loop_the_wait_before_a_late_start_is_reported_too() -> None:
    # Scheduled at 1.0, started at 3.0, first token 0.5 s later.
    late = replace(success(start_s=3.0, ttft_s=0.5), scheduled_s=1.0)
    made = summary([late], open_loop=True)
    assert made.ttft_from_scheduled_ms is not None
    assert (made.ttft_ms.mean, made.ttft_from_scheduled_ms.mean) == pytest.approx((500, 2500))


def test_in_a_closed_loop_there_is_no_wait_to_report() -> None:
    assert summary([success()]).ttft_from_scheduled_ms is None


def test_lengths_that_the_workload_could_not_state_are_unknown() -> None:
    assert summary([replace(success(), expected_prompt_tokens=None)]).tokens.expected_prompt is None


def judged(valid: bool | None, number: int, *reasons: str) -> RoundSummary:
    return summary([success()], number, valid=valid, invalid_reasons=reasons)


@pytest.mark.parametrize(
    ("validities", "expected"),
    [((True, True), True), ((True, None), None), ((None, False), False), ((False, True), False)],
)
def test_a_run_is_as_valid_as_its_worst_round(validities: tuple[bool | None, ...], expected: bool | None) -> None:
    assert run_validity([judged(valid, 1 + index) for index, valid in enumerate(validities)])[0] is expected


def test_a_runs_reasons_name_their_round() -> None:
    rounds = [judged(True, 1), judged(False, 2, "no external tokens", "2 preemptions")]
    assert run_validity(rounds)[1] == ("round 2: no external tokens", "round 2: 2 preemptions")
