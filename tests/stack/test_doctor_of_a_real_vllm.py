"""A real vLLM whose connector degrades: LMCache inside vLLM on a CPU. The kit refuses to start one; this is by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvkit.doctor.logs import read
from tests.cycle.deployment import abandoned_shared_memory
from tests.real_stack import RealStack
from tests.stack.conftest import free_port

pytestmark = pytest.mark.real

LIMIT_S = 300


@pytest.fixture
def log(real_stack: RealStack, tmp_path: Path) -> Iterator[Path]:
    """What it has written so far; it is ended with all of its workers, and leaves no shared memory."""
    config = tmp_path / "lmcache_config.yaml"
    config.write_text("chunk_size: 256\nlocal_cpu: true\nmax_local_cpu_size: 1\n")
    environment = real_stack.environment | {
        "LMCACHE_CONFIG_FILE": str(config),
        "PYTHONHASHSEED": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    model = str(real_stack.bin.parents[1] / "model")
    options = ["--host=127.0.0.1", f"--port={free_port()}", "--load-format=dummy", "--dtype=float32", "--enforce-eager"]
    connector = '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'
    command = [real_stack.python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *options]
    path, before = tmp_path / "vllm.log", abandoned_shared_memory()
    with path.open("wb") as written:
        engine = subprocess.Popen(
            [*command, "--max-model-len=4096", "--kv-transfer-config", connector],
            stdout=written,
            stderr=written,
            env=environment,
            start_new_session=True,
        )
    try:
        yield path
    finally:
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()
        for name in abandoned_shared_memory() - before:
            Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.mark.planted("log.lmcache.degraded")
def test_a_connector_that_degraded_is_named(log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    found: set[str] = set()
    while "log.lmcache.degraded" not in found and time.monotonic() < deadline:
        time.sleep(2)
        found = {one.finding.id for one in read(log)}
    assert "log.lmcache.degraded" in found, log.read_text(errors="replace")[-3000:]
