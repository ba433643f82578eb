"""The limit of a hit round, worked out by hand.

Two requests of 1,000 tokens. Cold: all computed, 1 s each, so 1 ms a token. Hit: 900 external tokens and 100 computed
each; a token has 1,000 bytes and the store gives 0.01 GB/s, so 0.1 ms a token. Loading takes 90 ms, the rest 100 ms,
the bound is 190 ms.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvkit.results.limit import Deployment, physical_limit
from kvkit.results.stats import Counters, Figure, RoundSummary, TokensBySource
from tests.results.making import success, summary

KNOWN = Deployment(Figure(value=1000, source="config.json"), bandwidth_gb_s=0.01, workers=1)
UNKNOWN = Deployment(Figure(value=None, source="set model.config_json"), bandwidth_gb_s=None, workers=None)
GET = '{operation="load_get",status="ok"}'


def cold(**counters: dict[str, float]) -> RoundSummary:
    by_source = TokensBySource(computed=2000, device=0, external=0)
    return summary([success("a"), success("b")], by_source=by_source, counters=Counters(**counters))


def hit(ttft_s: float = 0.25, by_source: TokensBySource | None = None, **counters: dict[str, float]) -> RoundSummary:
    records = [success(name, 2, ttft_s=ttft_s) for name in "ab"]
    known = TokensBySource(computed=200, device=0, external=1800)
    return summary(records, 2, by_source=by_source or known, counters=Counters(**counters))


def connector(read: float, seconds: float) -> dict[str, float]:
    name = "vllm:mooncake_store_operation"
    return {f"{name}_bytes_total{GET}": read, f"{name}_time_seconds_sum{GET}": seconds}


def test_the_bound_is_loading_and_computing_the_rest() -> None:
    limit = physical_limit(cold(), hit(), KNOWN)
    assert (limit.store_tokens_per_request, limit.load_ms, limit.compute_ms, limit.ttft_bound_ms.value) == (
        pytest.approx((900, 90, 100, 190))
    )


def test_what_lmcache_had_in_its_own_memory_is_not_loaded_from_the_store() -> None:
    limit = physical_limit(cold(), hit(lmcache={"lmcache_mp_lookup_hit_l2_tokens_total": 600.0}), KNOWN)
    assert limit.store_tokens_per_request == 300
    assert limit.load_ms == pytest.approx(30)


def test_the_share_is_the_bound_over_the_mean_ttft() -> None:
    assert physical_limit(cold(), hit(ttft_s=0.25), KNOWN).share_reached == pytest.approx(190 / 250)


def test_break_even_is_where_the_fixed_cost_is_earned() -> None:
    # 60 ms beyond the bound; each cached token saves 1 - 0.1 ms.
    assert physical_limit(cold(), hit(ttft_s=0.25), KNOWN).break_even_tokens.value == pytest.approx(60 / 0.9)


def test_a_load_that_is_slower_than_computing_never_pays() -> None:
    slow = replace(KNOWN, bandwidth_gb_s=0.0005)  # 2 ms a token
    figure = physical_limit(cold(), hit(), slow).break_even_tokens
    assert (figure.value, figure.source) == (
        None,
        "there is none: loading a token takes 2 ms, computing it 1 ms, so the cache never pays",
    )


def test_a_prefill_time_that_the_engine_tells_goes_before_ttft() -> None:
    limit = physical_limit(cold(vllm={"vllm:request_prefill_time_seconds_sum": 1.0}), hit(), KNOWN)
    assert (limit.compute_ms_per_token.value, limit.compute_ms) == (0.5, 50)


@pytest.mark.parametrize(
    ("counters", "deployment", "gb_s"),
    [
        ({"vllm": connector(1.8e6, 0.09)}, KNOWN, 0.02),
        ({"vllm": connector(1.8e6, 0.09)}, replace(KNOWN, workers=8), 0.16),  # eight ranks load their parts at once
        ({"vllm": connector(1.8e6, 0.09)}, replace(KNOWN, workers=None), 0.01),  # as configured
        (
            {
                "lmcache": {
                    'lmcache_mp_l2_load_throughput_GB_per_second_sum{l2_name="plugin"}': 6.0,
                    'lmcache_mp_l2_load_throughput_GB_per_second_count{l2_name="plugin"}': 4.0,
                }
            },
            KNOWN,
            1.5,
        ),
        ({}, KNOWN, 0.01),
    ],
)
def test_the_runs_own_bandwidth_goes_before_the_configured_one(
    counters: dict[str, Any], deployment: Deployment, gb_s: float
) -> None:
    assert physical_limit(cold(), hit(**counters), deployment).store_bandwidth_gb_s.value == pytest.approx(gb_s)


def test_the_model_goes_before_the_bytes_that_were_read() -> None:
    limit = physical_limit(cold(), hit(vllm=connector(1800 * 1000, 0.09)), KNOWN)
    assert (limit.kv_bytes_per_token.value, limit.remarks) == (1000, ())


@pytest.mark.parametrize(
    "counters",
    [
        {"vllm": connector(1800 * 512, 0.09)},
        {
            "mooncake": {"mem_cache_hit_bytes_total": 900.0 * 512},
            "lmcache": {"lmcache_mp_lookup_hit_l2_tokens_total": 900.0},  # the other 900 were in its first tier
        },
    ],
)
def test_without_a_model_the_bytes_that_were_read_tell_the_size(counters: dict[str, Any]) -> None:
    assert physical_limit(cold(), hit(**counters), UNKNOWN).kv_bytes_per_token.value == 512


def test_a_cache_of_another_dtype_is_remarked() -> None:
    (remark,) = physical_limit(cold(), hit(vllm=connector(1800 * 500, 0.045)), KNOWN).remarks
    assert remark.startswith("500 bytes were read per token (counters: bytes that vLLM's connector loaded / ")
    assert "1,000 are the model's (config.json): 0.50 times as many. Another dtype of the KV cache" in remark


def test_a_ttft_below_the_bound_is_remarked() -> None:
    limit = physical_limit(cold(), hit(ttft_s=0.095), KNOWN)
    assert limit.share_reached == pytest.approx(2)
    assert limit.break_even_tokens.value == 0
    assert limit.remarks[0].startswith("the bound is 2.00 times the measured TTFT: the store is faster than")


def test_what_nobody_told_is_unknown_and_says_what_to_set() -> None:
    limit = physical_limit(cold(), hit(), UNKNOWN)
    words = "set model.config_json; no counter tells the time of loads; set mooncake.bandwidth_gb_s"
    assert (limit.ttft_bound_ms.value, limit.ttft_bound_ms.source) == (None, words)
    assert (limit.share_reached, limit.break_even_tokens.value, limit.load_ms) == (None, None, None)


def test_an_engine_that_does_not_tell_its_ranks_is_asked_for_them() -> None:
    limit = physical_limit(cold(), hit(vllm=connector(1.8e6, 0.09)), UNKNOWN)
    assert limit.store_bandwidth_gb_s.source.startswith("the engine does not tell how many ranks load at once")


def test_without_sources_there_is_no_bound() -> None:
    limit = physical_limit(cold(), hit(by_source=TokensBySource()), KNOWN)
    assert limit.ttft_bound_ms.source == "where the prompt tokens came from is not known"
