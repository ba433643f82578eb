"""Pages of counters: read, or refused as no such page; in whatever form, nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import example, given

from kvkit.checks.gather.web import samples
from kvkit.doctor.counters import NAMES as DOCTOR_NAMES
from kvkit.observe import lmcache, mooncake, vllm
from kvkit.observe.prometheus import Reading, change, parse
from tests.fuzz.bounds import bounded
from tests.fuzz.mutation import NASTY, mutated

PAGE = b"""\
# HELP vllm:prompt_tokens_by_source_total Number of prompt tokens by source.
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="a\\"b",source="local_compute"} 12345.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 1e5 1700000000000
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",num_gpu_blocks="34",cache_dtype="auto"} 1.0
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{le="0.3"} 4.0
vllm:request_queue_time_seconds_bucket{le="+Inf"} 5.0
vllm:request_queue_time_seconds_count 5.0
vllm:request_queue_time_seconds_sum 1.25
# TYPE lmcache:num_hit counter
lmcache:num_hit_total 3
process_start_time_seconds 1.7e+09
"""
MASTER = (Path(__file__).parents[2] / "kvkit" / "emulator" / "store" / "master_metrics.txt").read_bytes()
PROMETHEUS = (b"# TYPE", b"# HELP", b"# TYPE x", b'{le="', b'="', b"\\", b"{", b"}", b"# {} 1", b"+Inf", b"_total")

pages = mutated((PAGE, PAGE, MASTER), (*NASTY, *PROMETHEUS))


def reading(page: bytes) -> Reading | None:
    """As the names of every server read it; `None`: refused."""
    try:
        for names in (lmcache.NAMES, mooncake.NAMES):
            parse(page.decode(errors="replace"), names)
        return parse(page.decode(errors="replace"), vllm.NAMES)
    except ValueError:
        return None


@given(before=pages, after=pages)
@example(before=PAGE, after=PAGE)
def test_any_two_pages_make_a_change_that_can_be_kept(before: bytes, after: bytes) -> None:
    with bounded():
        earlier, later = reading(before), reading(after)
        if earlier is None or later is None:
            return
        moved = change(earlier, later)
        json.dumps(dict(moved.values))
        vllm.attribute(moved)
        vllm.device_tokens(later)
        vllm.busy(later)


@given(page=pages)
def test_any_page_is_looked_at_by_the_checks(page: bytes) -> None:
    with bounded():
        told = samples(page.decode(errors="replace"), DOCTOR_NAMES)
        assert all(isinstance(value, float) for value in told.values())


def test_the_good_page_is_read() -> None:
    read = reading(PAGE)
    assert read is not None
    assert read.counters['vllm:prompt_tokens_by_source_total{source="local_compute"}'] == 12345
