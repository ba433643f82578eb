"""The probe tells an engine with a working cache from one that only looks like it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import pytest

from kvkit.emulator import EmulatorSettings, FaultKind, running
from tests.emulator.driving import engine_alone, quick
from tests.playbooks import PROJECT

PROBE = PROJECT / "roles/vllm/files/probe_engine.py"
STORED = "master_batch_put_start_items_total"


@dataclass(frozen=True)
class Answer:
    exit_code: int
    said: str


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


async def probe(
    settings: EmulatorSettings, mode: str, *arguments: str, model: str = "emulated", key: str = ""
) -> Answer:
    async with running(settings) as addresses:
        command = [PROBE, "--url", addresses.engine, "--model", model, "--mode", mode, "--tokens", "512"]
        command += ["--stored", addresses.store_metrics or addresses.engine, STORED] if mode == "with-cache" else []
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *map(str, [*command, *arguments]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(key.encode())
        assert process.returncode is not None
        return Answer(process.returncode, output.decode())


async def test_a_working_cache_passes() -> None:
    assert (await probe(quick(), "with-cache")).exit_code == 0


async def test_a_plain_engine_passes_as_baseline() -> None:
    assert (await probe(engine_alone(), "baseline")).exit_code == 0


async def test_a_degraded_connector_is_found_out() -> None:
    """It answers /health, /v1/models and completions."""
    degraded = quick(fault=FaultKind.DEGRADED, degraded_delay_s=0.0)
    assert (await probe(degraded, "with-cache", "--stored-within=0.2")).exit_code == 1


async def test_an_engine_without_connector_is_no_cache() -> None:
    assert "did not ask its connector" in (await probe(quick(connector="none"), "with-cache")).said


async def test_an_engine_with_connector_is_no_baseline() -> None:
    assert "baseline, but the engine asked a KV connector" in (await probe(quick(), "baseline")).said


async def test_a_wrong_model_is_told_with_those_served() -> None:
    answer = await probe(engine_alone(), "baseline", model="other")
    assert "does not serve 'other', but: emulated" in answer.said


async def test_the_key_comes_on_standard_input() -> None:
    assert (await probe(engine_alone(api_key="secret"), "baseline", key="secret")).exit_code == 0


async def test_a_missing_key_is_told_by_its_status() -> None:
    assert "HTTP 401" in (await probe(engine_alone(api_key="secret"), "baseline")).said
