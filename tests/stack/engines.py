"""A real vLLM, and a real LMCache server, on free ports of the loopback; all they started is gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cycle.deployment import abandoned_shared_memory
from tests.ports import free_ports
from tests.real_stack import RealStack
from tests.stack.conftest import MooncakeStore

READY_WITHIN_S = 400
MODEL = "tiny"


@dataclass(frozen=True)
class LMCacheServer:
    port: int
    url: str


@dataclass(frozen=True)
class RestartableEngine:
    url: str
    restart_command: tuple[str, ...]
    """Ends the engine, and starts it again on the same port."""


@contextmanager
def vllm(
    stack: RealStack, *, transfer: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The root address of an engine with or without a `--kv-transfer-config`, as inventory/rehearsal starts it."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command, settings = _vllm_on(port, stack, transfer, environment)
    with _running(stack, command, settings, "vllm.log", ready=f"{url}/health"):
        yield url


@contextmanager
def restartable_vllm(
    stack: RealStack, *, transfer: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[RestartableEngine]:
    """The same, started by its own restart command, which an operator would give to kvkit."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command, settings = _vllm_on(port, stack, transfer, environment)
    pid_file, log = stack.directory / f"vllm_{port}.pid", stack.directory / "vllm.log"
    script = [sys.executable, str(Path(__file__).with_name("restart_engine.py")), str(pid_file), str(log)]
    started = ["env", *(f"{name}={value}" for name, value in {**_of_the_stack(stack), **settings}.items()), *command]
    abandoned_before = abandoned_shared_memory()
    try:
        subprocess.run([*script, *started], check=True, timeout=60)
        _await(lambda: Path(f"/proc/{pid_file.read_text()}").exists(), f"{url}/health", log)
        yield RestartableEngine(url, (*script, *started))
    finally:
        subprocess.run(script, check=True, timeout=60)
        _remove_shared_memory_since(abandoned_before)


def _of_the_stack(stack: RealStack) -> dict[str, str]:
    """What the stack's environment has beyond this one's."""
    return {name: value for name, value in stack.environment.items() if os.environ.get(name) != value}


def _vllm_on(
    port: int, stack: RealStack, transfer: Mapping[str, Any] | None, environment: Mapping[str, str] | None
) -> tuple[list[str], dict[str, str]]:
    command = [
        stack.python,
        *("-m", "vllm.entrypoints.openai.api_server", "--model", str(stack.bin.parent.parent / "model")),
        *("--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)),
        *("--load-format=dummy", "--dtype=float32", "--enforce-eager", "--max-model-len=4096"),
        *("--prefix-caching-hash-algo", "sha256_cbor", "--enable-prompt-tokens-details", "--shutdown-timeout", "5"),
        *(("--kv-transfer-config", json.dumps(transfer)) if transfer is not None else ()),
    ]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "HF_HUB_OFFLINE": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONHASHSEED": "0",
        **(environment or {}),
    }
    return command, settings


@contextmanager
def lmcache_server(stack: RealStack, store: MooncakeStore) -> Iterator[LMCacheServer]:
    """A server whose second tier is the store."""
    port, http_port = free_ports(2)
    adapter = {
        "type": "plugin",
        "module_path": "kvkit.lmcache_l2",
        "class_name": "MooncakeL2Adapter",
        "adapter_params": {
            "local_hostname": "127.0.0.1",
            "metadata_server": "P2PHANDSHAKE",
            "master_server_addr": store.master,
            "protocol": "tcp",
        },
    }
    command = [
        *(str(stack.bin / "lmcache"), "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--http-host", "127.0.0.1", "--http-port", str(http_port), "--l1-size-gb", "1", "--eviction-policy", "LRU"),
        *("--supported-transfer-mode", "auto", "--shm-name", f"kvkit_{port}", "--l2-adapter", json.dumps(adapter)),
    ]
    url = f"http://127.0.0.1:{http_port}"
    settings = {"PYTHONHASHSEED": "0", "LMCACHE_DISABLE_BANNER": "1"}
    with _running(stack, command, settings, "lmcache.log", ready=f"{url}/healthcheck"):
        yield LMCacheServer(port, url)


@contextmanager
def _running(
    stack: RealStack, command: Sequence[str], settings: Mapping[str, str], log_name: str, *, ready: str
) -> Iterator[None]:
    abandoned_before = abandoned_shared_memory()
    log = stack.directory / log_name
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**stack.environment, **settings},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _await(lambda: process.poll() is None, ready, log)
        yield
    finally:
        _end(process)
        _remove_shared_memory_since(abandoned_before)


def _remove_shared_memory_since(before: set[str]) -> None:
    for name in abandoned_shared_memory() - before:
        Path("/dev/shm", name).unlink(missing_ok=True)


def _await(lives: Callable[[], bool], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and lives():
        with suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False, timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    raise TimeoutError(f"{url} does not answer:\n{log.read_text(errors='replace')[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group: vLLM's workers outlive a server that is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
