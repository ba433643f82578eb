"""What vLLM's counters say about a round."""

from __future__ import annotations

import pytest

from kvkit.observe import vllm
from kvkit.observe.prometheus import Change, Reading
from kvkit.observe.vllm import Sources

BY_SOURCE = {
    'vllm:prompt_tokens_by_source_total{source="local_compute"}': 10.0,
    'vllm:prompt_tokens_by_source_total{source="local_cache_hit"}': 20.0,
    'vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}': 30.0,
}
HITS = {
    "vllm:prompt_tokens_total": 60.0,
    "vllm:prefix_cache_hits_total": 25.0,
    "vllm:external_prefix_cache_hits_total": 35.0,
}


@pytest.mark.parametrize(
    ("counters", "sources"),
    [
        (BY_SOURCE, Sources(computed=10, device=20, external=30)),
        (BY_SOURCE | HITS, Sources(computed=10, device=20, external=30)),
        (HITS, Sources(computed=0, device=25, external=35)),
        ({'vllm:prompt_tokens_by_source_total{source="local_compute"}': 10.0}, Sources(10, 0, 0)),
        ({"vllm:prompt_tokens_total": 60.0, "vllm:prefix_cache_hits_total": 25.0}, Sources(None, None, None)),
        ({}, Sources(None, None, None)),
    ],
)
def test_sources_come_from_the_best_counters_that_there_are(counters: dict[str, float], sources: Sources) -> None:
    assert vllm.attribute(Change(counters)) == sources


def test_a_total_needs_all_three_sources() -> None:
    assert Sources(1, 2, 3).total == 6
    assert Sources(None, 2, 3).total is None


def test_disturbances_are_counted() -> None:
    seen = Change(
        {
            "vllm:num_preemptions_total": 2.0,
            'vllm:request_success_total{finished_reason="stop"}': 7.0,
            'vllm:request_success_total{finished_reason="error"}': 3.0,
            'vllm:mooncake_store_operation_total{operation="load_get",status="ok"}': 5.0,
            'vllm:mooncake_store_operation_total{operation="load_get",status="partial_failure"}': 4.0,
            'vllm:mooncake_store_operation_total{operation="save_put",status="error"}': 9.0,
        }
    )
    assert (vllm.preemptions(seen), vllm.failed_requests(seen), vllm.failed_loads(seen)) == (2, 3, 4)


@pytest.mark.parametrize(
    ("base_url", "root"),
    [("http://h:8000/v1", "http://h:8000"), ("http://h:8000", "http://h:8000"), ("http://h/m/v1/", "http://h/m")],
)
def test_vllms_own_routes_hang_off_the_root(base_url: str, root: str) -> None:
    assert vllm.root_of(base_url) == root


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"vllm:num_requests_running": 2.0, "vllm:num_requests_waiting": 1.0}, "2 requests running and 1 waiting"),
        ({"vllm:num_requests_running": 0.0, "vllm:num_requests_waiting": 0.0}, None),
        ({}, None),
    ],
)
def test_a_busy_engine_says_so(states: dict[str, float], words: str | None) -> None:
    seen = vllm.busy(Reading(states=states))
    assert seen is None if words is None else words in (seen or "")
