"""Counters of one server: what is read of a page, and what two readings say together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from kvkit.observe import lmcache, mooncake, vllm
from kvkit.observe.prometheus import Change, Names, Reading, change, parse, read

VLLM_PAGE = """
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# HELP vllm:prompt_tokens_by_source_total Number of prompt tokens by source.
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 100.0
vllm:prompt_tokens_by_source_total{engine="1",model_name="m",source="local_compute"} 11.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 50.0
# TYPE vllm:prompt_tokens_by_source_created gauge
vllm:prompt_tokens_by_source_created{engine="0",model_name="m",source="local_compute"} 1.7e+09
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="m"} 4.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 1.25
vllm:request_queue_time_seconds_count{engine="0",model_name="m"} 4.0
# TYPE vllm:something_else_total counter
vllm:something_else_total 7.0
"""

MASTER_PAGE = """
# HELP master_key_count Total number of keys managed by the master
# TYPE master_key_count gauge
master_key_count 33
# TYPE mem_cache_hit_nums_ counter
mem_cache_hit_nums_ 44
# TYPE mem_cache_hit_bytes_total counter
mem_cache_hit_bytes_total 23068672
"""

LMCACHE_PAGE = """
# TYPE lmcache_mp_lookup_hit_l2_tokens_total counter
lmcache_mp_lookup_hit_l2_tokens_total{model_name="m"} 8448.0
# TYPE lmcache_mp_l1_memory_usage_bytes gauge
lmcache_mp_l1_memory_usage_bytes 100.0
"""


def test_samples_of_all_engines_are_summed_and_told_apart_by_the_other_labels() -> None:
    seen = parse(VLLM_PAGE, vllm.NAMES)
    assert seen.counters == {
        'vllm:prompt_tokens_by_source_total{source="local_compute"}': 111.0,
        'vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}': 50.0,
        "vllm:request_queue_time_seconds_sum": 1.25,
    }
    assert seen.states == {"vllm:num_requests_running": 3.0}
    assert seen.process_started_s == 1.7e9


def test_counters_of_a_mooncake_master_keep_the_names_that_it_exposes() -> None:
    seen = parse(MASTER_PAGE, mooncake.NAMES)
    assert seen.counters == {"mem_cache_hit_nums_": 44.0, "mem_cache_hit_bytes_total": 23068672.0}
    assert seen.levels == {"master_key_count": 33.0}


def test_all_counters_of_an_lmcache_server_are_read() -> None:
    seen = parse(LMCACHE_PAGE, lmcache.NAMES)
    assert seen.counters == {"lmcache_mp_lookup_hit_l2_tokens_total": 8448.0}
    assert seen.levels == {"lmcache_mp_l1_memory_usage_bytes": 100.0}


def test_a_sample_that_is_no_number_was_not_told() -> None:
    assert parse("# TYPE a counter\na_total NaN\n", Names(("a_total",), ())).counters == {}


@pytest.mark.parametrize(
    "text", ["<html><body>hello</body></html>", '{"detail": "Not Found"}', "Not Found", 'a{="b"} 1']
)
def test_another_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text, vllm.NAMES)


def reading_of(answer: Callable[[httpx.Request], httpx.Response]) -> Reading:
    async def ask() -> Reading:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await read(http, "http://host:9003/metrics", mooncake.NAMES)

    return asyncio.run(ask())


def test_a_page_is_read_over_http() -> None:
    seen = reading_of(lambda _: httpx.Response(200, text=MASTER_PAGE))
    assert seen.problem is None
    assert seen.levels["master_key_count"] == 33


def refuse(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (refuse, "http://host:9003/metrics: no answer (connection refused)"),
        (lambda _: httpx.Response(404), "http://host:9003/metrics: HTTP 404"),
        (
            lambda _: httpx.Response(200, text="Not Found"),
            "http://host:9003/metrics: not in Prometheus' text format (could not convert string to float: 'Found')",
        ),
    ],
)
def test_a_server_that_tells_nothing_gives_the_reason_and_no_zeros(
    answer: Callable[[httpx.Request], httpx.Response], problem: str
) -> None:
    assert reading_of(answer) == Reading(problem=problem)


def test_counters_rise_and_levels_move_either_way() -> None:
    before = Reading({"a": 1.0, "b": 5.0}, {"keys": 10.0})
    after = Reading({"a": 4.0, "b": 5.0}, {"keys": 7.0})
    assert change(before, after) == Change({"a": 3.0, "b": 0.0, "keys": -3.0})


def test_a_counter_that_appears_began_at_zero() -> None:
    assert change(Reading({"a": 1.0}), Reading({"a": 1.0, "new": 2.0})).values == {"a": 0.0, "new": 2.0}


def test_a_histograms_sum_that_fell_is_no_restart_and_not_told() -> None:
    """A request whose load of KV failed adds a negative queue time in vLLM 0.32."""
    before = Reading({"a": 1.0, 'wait_seconds_sum{engine="0"}': 5.0})
    after = Reading({"a": 4.0, 'wait_seconds_sum{engine="0"}': -2588.1})
    assert change(before, after) == Change({"a": 3.0})


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (Reading({"a": 5.0}), Reading({"a": 4.0}), "the server was restarted in between: a was 5 and fell to 4"),
        (Reading({"a": 5.0}), Reading({}), "the server was restarted in between: a was 5 and is gone"),
        (
            Reading({"a": 5.0}, process_started_s=1.0),
            Reading({"a": 9.0}, process_started_s=2.0),
            "the server was restarted in between",
        ),
        (Reading(problem="no answer"), Reading({"a": 1.0}), "no answer"),
        (Reading({"a": 1.0}), Reading(problem="no answer"), "no answer"),
    ],
)
def test_what_can_not_be_known_is_unknown_with_a_reason(before: Reading, after: Reading, problem: str) -> None:
    assert change(before, after) == Change({}, problem)


def test_a_total_is_of_one_name_and_the_labels_asked_for() -> None:
    rose = Change({'a{k="x",l="1"}': 1.0, 'a{k="y",l="1"}': 2.0, "a_longer_name": 4.0})
    assert rose.total("a") == 3.0
    assert rose.total("a", k="y") == 2.0
    assert rose.total("a", k="z") == 0.0
    assert rose.total("b") is None
