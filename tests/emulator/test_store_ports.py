"""The store answers on its ports as a Mooncake master 0.3.13.post1 does."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from tests.emulator.driving import Deployment, deployed, document, quick

pytestmark = pytest.mark.anyio

GUIDE_AND_FACTS = {
    "master_key_count",
    "master_allocated_bytes",
    "master_total_capacity_bytes",
    "master_active_clients",
    "master_batch_put_start_requests_total",
    "master_batch_put_start_items_total",
    "master_batch_get_replica_list_items_total",
    "master_put_start_alloc_failures_total",
    "master_exist_key_requests_total",
    "master_successful_evictions_total",
    "master_evicted_key_count",
    "mem_cache_hit_nums_",
    "mem_cache_hit_bytes_total",
    "valid_get_nums_",
    "total_get_nums_",
    "file_cache_hit_nums_",
}
"""Names that operators watch."""


async def test_every_metric_of_a_real_master_is_there(emulator: Deployment) -> None:
    real = resources.files("kvkit.emulator.store").joinpath("master_metrics.txt").read_text()
    names = {line.split()[0] for line in real.splitlines() if not line.startswith("#")}
    reading = await emulator.store_metrics()
    assert reading.names == names
    assert names >= GUIDE_AND_FACTS


async def test_gauges_follow_what_is_stored() -> None:
    async with deployed(quick(kv_bytes_per_token=100, external_capacity_bytes=10_000)) as emulator:
        await emulator.chat(document(33, "fill"))
        await emulator.quiet_and_reset()
        reading = await emulator.store_metrics()
        assert reading.total("master_key_count") == 2
        assert reading.total("master_allocated_bytes") == 2 * 16 * 100
        assert reading.total("segment_allocated_bytes", segment=str(emulator.addresses.store_rpc)) == 2 * 16 * 100
        assert reading.total("master_total_capacity_bytes") == 10_000


@pytest.mark.parametrize(
    ("path", "text"),
    [("/role", "leader"), ("/ha_status", "serving")],
)
async def test_the_metrics_port_tells_the_role(emulator: Deployment, path: str, text: str) -> None:
    assert (await emulator.http.get(f"{emulator.addresses.store_metrics}{path}")).text == text


async def test_the_metrics_port_tells_its_health(emulator: Deployment) -> None:
    health = (await emulator.http.get(f"{emulator.addresses.store_metrics}/health")).json()
    assert (health["status"], health["role"], health["service_ready"]) == ("ok", "leader", True)


async def test_the_summary_names_keys_and_memory(emulator: Deployment) -> None:
    summary = (await emulator.http.get(f"{emulator.addresses.store_metrics}/metrics/summary")).text
    assert summary.startswith("role=leader, state=serving, service_ready=true, ")
    assert re.search(r"Mem Storage: \d+ B / 107374182400 B \(\d+\.\d%\) \| Keys: \d+ ", summary)


async def test_stored_keys_are_listed_and_can_be_asked_for(emulator: Deployment) -> None:
    await emulator.chat(document(40, "keys"))
    await emulator.quiet_and_reset()
    metrics_port = emulator.addresses.store_metrics
    key = (await emulator.http.get(f"{metrics_port}/get_all_keys")).text.splitlines()[0]
    assert key.startswith("emulated@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@")
    answer = (await emulator.http.get(f"{metrics_port}/query_key", params={"key": key})).json()
    assert answer["success"] is True
    assert answer["data"][0]["size_"] == 16 * 327_680
    assert answer["data"][0]["protocol_"] == "tcp"


async def test_an_unknown_key_is_404(emulator: Deployment) -> None:
    answer = await emulator.http.get(f"{emulator.addresses.store_metrics}/query_key", params={"key": "absent"})
    assert answer.status_code == 404
    assert answer.json() == {"success": False, "error_code": -704, "error_message": "OBJECT_NOT_FOUND"}


async def test_remove_all_empties_the_store() -> None:
    async with deployed(quick()) as emulator:
        await emulator.chat(document(33, "gone"))
        await emulator.quiet_and_reset()
        answer = await emulator.http.post(f"{emulator.addresses.store_metrics}/api/v1/remove_all")
        assert answer.json() == {"success": True, "removed_count": 2}
        assert (await emulator.store_metrics()).total("master_key_count") == 0


async def test_the_metadata_server_is_healthy_and_keeps_what_it_is_given(emulator: Deployment) -> None:
    url = f"{emulator.addresses.store_metadata}/metadata"
    assert (await emulator.http.get(f"{emulator.addresses.store_metadata}/health")).text == "OK"
    assert (await emulator.http.put(url, params={"key": "mooncake/ram/h:1"}, content=b"{}")).text == "metadata updated"
    assert (await emulator.http.get(url, params={"key": "mooncake/ram/h:1"})).content == b"{}"
    assert (await emulator.http.delete(url, params={"key": "mooncake/ram/h:1"})).text == "metadata deleted"


async def test_unknown_metadata_is_404_with_the_words_of_a_real_server(emulator: Deployment) -> None:
    answer = await emulator.http.get(f"{emulator.addresses.store_metadata}/metadata", params={"key": "absent"})
    assert (answer.status_code, answer.text) == (404, "metadata not found")


async def test_metadata_without_a_key_is_400(emulator: Deployment) -> None:
    answer = await emulator.http.get(f"{emulator.addresses.store_metadata}/metadata")
    assert (answer.status_code, answer.text) == (400, "Missing key parameter")
