"""`kvkit prove` on the real stack: what works is proven, and what does not is told apart from it."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvkit.config import Config
from kvkit.ending import Ending
from kvkit.observe.proof import Proof
from kvkit.prove import run
from tests.real_stack import RealStack
from tests.stack.conftest import MooncakeStore
from tests.stack.engines import MODEL, lmcache_server, restartable_vllm, vllm
from tests.test_prove import Told

pytestmark = pytest.mark.real


def config_of(engine: str, store: MooncakeStore, **sections: Any) -> Config:
    return Config.model_validate(
        {
            "openai_api": {"base_url": f"{engine}/v1", "model_name": MODEL},
            "mooncake": {"master_ip": "127.0.0.1", "metrics_port": store.metrics_port},
            "workload": {"prefix_tokens": 1024},
            **sections,
        }
    )


def prove(config: Config, after_the_device_hit: Callable[[], object] = lambda: None) -> tuple[Ending, Proof]:
    told = Told({"device hit": after_the_device_hit})
    ending = run(config, reporter=told)
    assert told.proof is not None, told.failure
    return ending, told.proof


STALLED = ("LEASE_EXPIRED", "Failed to complete transfers")
"""What Mooncake's client logs when the kernel did not run its threads for a while (docs/findings.md)."""

TRIES = 3


def prove_despite_stalls(stack: RealStack, config: Config) -> tuple[Ending, Proof]:
    """Again where a read came to nothing for that reason, and only there: it is no fault of the proof."""
    for _ in range(TRIES):
        before = stalls(stack)
        ending, proof = prove(config)
        if stalls(stack) == before:
            break
        warnings.warn(f"a read of Mooncake stalled: {proof.reasons}", stacklevel=2)
    return ending, proof


def stalls(stack: RealStack) -> int:
    logs = (log.read_text(errors="replace") for log in stack.directory.glob("*.log"))
    return sum(log.count(words) for log in logs for words in STALLED)


def assert_proven(ending: Ending, proof: Proof) -> None:
    assert (ending, proof.verdict) == (Ending.DONE, "PROVEN"), proof.reasons
    external = proof.arms[2]
    assert external.facts.sources.external == external.expected_external
    assert external.facts.traffic.read_bytes is not None
    assert external.facts.traffic.read_bytes.value == external.expected_bytes


def test_lmcache_before_the_store_is_proven(real_stack: RealStack, mooncake_store: MooncakeStore) -> None:
    with lmcache_server(real_stack, mooncake_store) as server:
        transfer = {
            "kv_connector": "LMCacheMPConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {"lmcache.mp.host": "tcp://127.0.0.1", "lmcache.mp.port": server.port},
        }
        with vllm(real_stack, transfer=transfer) as engine:
            config = config_of(engine, mooncake_store, lmcache={"url": server.url})
            ending, proof = prove_despite_stalls(real_stack, config)
    assert_proven(ending, proof)
    assert (proof.setup.chunk_tokens, proof.setup.chunk_told_by) == (256, "LMCache's server")


def test_an_engine_without_a_connector_is_not_engaged_although_its_repeat_is_fast(
    real_stack: RealStack, mooncake_store: MooncakeStore
) -> None:
    with vllm(real_stack) as engine:
        ending, proof = prove(config_of(engine, mooncake_store))
    assert (ending, proof.verdict) == (Ending.INVALID, "NOT ENGAGED")
    # Only said where the device hit's mean TTFT was below the cold arm's.
    assert "the engine has no KV connector; the repeat was fast all the same" in proof.reasons[0]


TRANSFER = {"kv_connector": "MooncakeStoreConnector", "kv_role": "kv_both"}


@pytest.fixture(scope="module")
def of_the_store(mooncake_store: MooncakeStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What tells vLLM's own connector where the store is."""
    settings = tmp_path_factory.mktemp("mooncake") / "mooncake_store.json"
    settings.write_text(
        json.dumps(
            {
                "mode": "standalone-store",
                "metadata_server": "P2PHANDSHAKE",
                "master_server_address": mooncake_store.master,
                "protocol": "tcp",
                "device_name": "",
                "global_segment_size": 0,
                "local_buffer_size": 64 * 1024 * 1024,
            }
        )
    )
    return {"MOONCAKE_CONFIG_PATH": str(settings)}


def test_what_one_engine_stored_serves_it_after_a_restart_and_another_engine(
    real_stack: RealStack, mooncake_store: MooncakeStore, of_the_store: dict[str, str]
) -> None:
    with (
        restartable_vllm(real_stack, transfer=TRANSFER, environment=of_the_store) as engine,
        vllm(real_stack, transfer=TRANSFER, environment=of_the_store) as second,
    ):
        service = {"restart_command": engine.restart_command, "second_url": second}
        ending, proof = prove_despite_stalls(real_stack, config_of(engine.url, mooncake_store, service=service))
    assert_proven(ending, proof)
    assert [arm.facts.name for arm in proof.arms[3:]] == ["restart hit", "cross-instance hit"]
    assert [arm.facts.sources.external for arm in proof.arms[3:]] == [arm.expected_external for arm in proof.arms[3:]]
    assert all(arm.expected_external for arm in proof.arms[3:])


@pytest.fixture(scope="module")
def engine(real_stack: RealStack, of_the_store: dict[str, str]) -> Iterator[str]:
    """With vLLM's own connector; the tests below use it one after the other, and the last one ends its store."""
    with vllm(real_stack, transfer=TRANSFER, environment=of_the_store) as url:
        yield url


def test_vllms_own_connector_is_proven(engine: str, mooncake_store: MooncakeStore, real_stack: RealStack) -> None:
    assert_proven(*prove_despite_stalls(real_stack, config_of(engine, mooncake_store)))


def test_stored_kv_that_was_corrupted_is_broken(
    engine: str, mooncake_store: MooncakeStore, real_stack: RealStack
) -> None:
    def corrupt() -> None:
        script = Path(__file__).with_name("corrupt_store.py")
        metrics = f"http://127.0.0.1:{mooncake_store.metrics_port}"
        command = [real_stack.python, str(script), mooncake_store.master, metrics]
        done = subprocess.run(
            command, env=real_stack.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert int(done.stdout) > 0

    ending, proof = prove(config_of(engine, mooncake_store), corrupt)
    external = proof.arms[2]
    assert (ending, proof.verdict, external.text) == (Ending.INVALID, "BROKEN", "differs"), proof.reasons
    # By all counters the store works.
    assert external.facts.sources.external == external.expected_external
    assert (external.facts.failures, external.facts.failed_loads) == ((), 0)


def test_a_store_that_dies_between_the_arms_is_broken(engine: str, mooncake_store: MooncakeStore) -> None:
    ending, proof = prove(config_of(engine, mooncake_store), mooncake_store.stop_master)
    assert (ending, proof.verdict) == (Ending.INVALID, "BROKEN")
    assert "does not answer" in proof.reasons[0]
