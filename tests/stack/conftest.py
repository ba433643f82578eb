"""A real Mooncake store for one module of tests."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.real_stack import RealStack


class MooncakeStore:
    """A master and a memory owner on free ports of the loopback; both end with the test."""

    def __init__(self, stack: RealStack) -> None:
        self._stack = stack
        self._log = (stack.directory / "mooncake.log").open("w")
        self._rpc_port, self.metrics_port, self._owner_port = (free_port() for _ in range(3))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.master = f"127.0.0.1:{self._rpc_port}"

    def start(self) -> None:
        self._run(
            "mooncake_master",
            f"--rpc_port={self._rpc_port}",
            f"--metrics_port={self.metrics_port}",
            "--metrics_host=127.0.0.1",
            "--rpc_address=127.0.0.1",
        )
        self._wait_for("master_key_count", lambda _: True)
        self._run(
            "mooncake_client",
            f"--master_server_address={self.master}",
            "--metadata_server=P2PHANDSHAKE",
            "--host=127.0.0.1",
            f"--port={self._owner_port}",
            "--protocol=tcp",
            "--global_segment_size=256 MB",
        )
        self._wait_for("master_total_capacity_bytes", lambda value: value > 0)

    def _run(self, program: str, *options: str) -> None:
        command = [str(self._stack.bin / program), *options]
        self._processes.append(
            subprocess.Popen(command, stdout=self._log, stderr=self._log, env=self._stack.environment)
        )

    def _wait_for(self, metric: str, holds: Callable[[float], bool]) -> None:
        metrics_url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                lines = httpx.get(metrics_url, trust_env=False).text.splitlines()
            except httpx.TransportError:
                lines = []
            if any(holds(float(line.split()[1])) for line in lines if line.startswith(f"{metric} ")):
                return
            time.sleep(0.2)
        raise TimeoutError(f"{metrics_url}: no {metric} as expected within 60 s; see {self._log.name}")

    def stop_master(self) -> None:
        self._processes[0].terminate()
        self._processes[0].wait(30)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._log.close()


@pytest.fixture(scope="module")
def mooncake_store(real_stack: RealStack) -> Iterator[MooncakeStore]:
    store = MooncakeStore(real_stack)
    try:
        store.start()
        yield store
    finally:
        store.stop()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
