"""The engine's metrics are vLLM 0.32's: its names, types and labels, and none of our own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.emulator.driving import Deployment, deployed, document, engine_alone

pytestmark = pytest.mark.anyio

PINNED = Path(__file__).with_name("vllm_0_32_metrics.txt")

SAYS_NOTHING_HERE = {
    "vllm:corrupted_requests",
    "vllm:engine_sleep_state",
    "vllm:kv_block_idle_before_evict_seconds",
    "vllm:kv_block_lifetime_seconds",
    "vllm:kv_block_reuse_gap_seconds",
    "vllm:mm_cache_hits",
    "vllm:mm_cache_queries",
    "vllm:request_max_num_generation_tokens",
    "vllm:request_params_max_tokens",
    "vllm:request_params_n",
    "vllm:watermark_requests",
}
"""Declared by vLLM, left out by the emulator."""


def declared_by_vllm() -> dict[str, tuple[str, set[str]]]:
    """Name -> (type, labels)."""
    lines = (line.split() for line in PINNED.read_text().splitlines() if not line.startswith("#"))
    return {
        name.removesuffix("_total") if kind == "counter" else name: (kind, {"model_name", "engine", *labels})
        for kind, name, *labels in lines
    }


async def exposed(emulator: Deployment) -> dict[str, tuple[str, set[str]]]:
    text = (await emulator.http.get(f"{emulator.addresses.engine}/metrics")).text
    families = [family for family in text_string_to_metric_families(text) if not family.name.endswith("_created")]
    return {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in families
        if family.name != "vllm:cache_config_info"  # its labels are the configuration
    }


async def test_names_types_and_labels_are_those_of_vllm(emulator: Deployment) -> None:
    text = document(100, "name")
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    await emulator.usage(text)
    theirs = declared_by_vllm()
    assert await exposed(emulator) == {name: theirs[name] for name in theirs.keys() - SAYS_NOTHING_HERE}


async def test_only_a_connector_brings_its_metrics(without_store: Deployment) -> None:
    names = (await exposed(without_store)).keys()
    assert "vllm:num_requests_kv_fetch_by_stage" not in names
    assert not [name for name in names if "mooncake" in name]


async def test_counters_start_at_zero_and_are_there_from_the_start() -> None:
    async with deployed(engine_alone()) as emulator:
        reading = await emulator.engine_metrics()
    for name in ("prompt_tokens_by_source", "external_prefix_cache_hits", "num_preemptions", "request_success"):
        assert f"vllm:{name}_total" in reading.names
        assert reading.total(f"vllm:{name}_total") == 0


async def test_series_carry_the_models_name_and_the_engine(emulator: Deployment) -> None:
    reading = await emulator.engine_metrics()
    labels = next(dict(labels) for name, labels in reading.samples if name == "vllm:prompt_tokens_total")
    assert labels == {"model_name": "emulated", "engine": "0"}


async def test_the_cache_configuration_is_told(emulator: Deployment) -> None:
    reading = await emulator.engine_metrics()
    labels = next(dict(labels) for name, labels in reading.samples if name == "vllm:cache_config_info")
    assert (labels["block_size"], labels["num_gpu_blocks"]) == ("16", "8192")


async def test_a_steps_tokens_never_exceed_the_budget() -> None:
    async with deployed(engine_alone(max_batched_tokens=64)) as emulator:
        await emulator.usage(document(200, "step"))
        reading = await emulator.engine_metrics()
    assert reading.total("vllm:iteration_tokens_total_count") == 4  # 207 prompt tokens in steps of 64
    assert reading.total("vllm:iteration_tokens_total_bucket", le="64.0") == 4


async def test_preemptions_are_counted() -> None:
    tight = engine_alone(max_model_len=128, device_blocks=8)
    async with deployed(tight) as emulator:
        await asyncio.gather(*(emulator.usage(f"tok{i}", max_tokens=80) for i in range(3)))
        reading = await emulator.engine_metrics()
    assert reading.total("vllm:num_preemptions_total") > 0
    assert reading.total("vllm:request_success_total", finished_reason="length") == 3
