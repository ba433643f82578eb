"""Which counters are shown, and how samples are summed."""

from __future__ import annotations

from kvkit.results.evidence import Witness, gather
from kvkit.results.stats import Counters

LOADED = Witness("vLLM", "read", "bytes", "vllm:store_bytes_total", ('operation="load_get"', 'status="ok"'))


def test_samples_of_several_workers_are_summed() -> None:
    deltas = {
        'vllm:store_bytes_total{operation="load_get",rank="0",status="ok"}': 10.0,
        'vllm:store_bytes_total{operation="load_get",rank="1",status="ok"}': 5.0,
    }
    assert LOADED.delta(deltas) == 15


def test_samples_with_other_labels_are_left_out() -> None:
    deltas = {
        'vllm:store_bytes_total{operation="save_put",status="ok"}': 10.0,
        'vllm:store_bytes_total{operation="load_get",status="error"}': 20.0,
        'vllm:store_bytes_total{operation="load_get",status="ok"}': 5.0,
    }
    assert LOADED.delta(deltas) == 5


def test_a_longer_name_is_another_counter() -> None:
    assert Witness("Mooncake", "keys", "keys", "hits").delta({"hits_total": 4.0}) is None


def test_a_counter_that_did_not_rise_is_zero_and_one_that_is_absent_unknown() -> None:
    told = Counters(mooncake={"mem_cache_hit_nums_": 0.0})
    assert [(item.with_cache, item.baseline) for item in gather(told, Counters())] == [(0.0, None)]


def test_what_no_server_told_is_not_shown() -> None:
    assert gather(Counters(vllm={"something_else": 3.0}), Counters()) == ()


def test_in_process_lmcache_is_found_on_vllms_own_page() -> None:
    shown = gather(Counters(vllm={"lmcache:num_remote_read_bytes_total": 64.0}), Counters())
    assert [(item.witness.server, item.with_cache) for item in shown] == [("LMCache", 64.0)]


def test_a_witness_is_named_as_prometheus_writes_it() -> None:
    assert LOADED.sample == 'vllm:store_bytes_total{operation="load_get",status="ok"}'
