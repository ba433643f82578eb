"""`serve` as processes: it says where, ends on a signal without a trace, and the store outlives the engine."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from kvkit.emulator import EmulatorError, running
from tests.emulator.driving import deployed, document, quick, user

SERVE = "import sys; from tests.emulator.driving import quick; from kvkit.emulator import serve; serve(quick({}))"


@contextlib.contextmanager
def process(settings: str, end: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """A serving process; yields what it said when it was ready, and sees that it ends well."""
    command = [sys.executable, "-c", SERVE.format(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stderr is not None
        try:
            lines = 3 if "store" in settings.partition(",")[0] else 1
            yield "".join(serving.stdout.readline() for _ in range(lines))
        finally:
            serving.send_signal(end)
            errors = serving.stderr.read()
        assert serving.wait() == 0
        assert errors == ""


def address(said: str, name: str) -> str:
    found = re.search(rf"{name}: (\S+)", said)
    assert found, said
    return found[1]


def cached_tokens(base_url: str, text: str) -> int:
    answer = httpx.post(f"{base_url}/chat/completions", json={"messages": user(text), "max_tokens": 1}, trust_env=False)
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


@pytest.mark.anyio
async def test_the_store_outlives_the_engine_and_serves_the_next_one() -> None:
    text = document(100, "live")
    with process("role='store'", end=signal.SIGINT) as store:
        engine = {"role": "engine", "store_address": address(store, "Emulated Mooncake store")}
        with process(", ".join(f"{name}={value!r}" for name, value in engine.items())) as first:
            assert cached_tokens(address(first, "Emulated engine"), text) == 0
            _wait_until_stored(address(store, "metrics"), keys=6)
        async with deployed(quick(**engine)) as second:
            assert await second.cached_tokens(text) == 96


def _wait_until_stored(url: str, keys: int) -> None:
    while f"\nmaster_key_count {keys}\n" not in httpx.get(url, trust_env=False).text:
        time.sleep(0.01)


@pytest.mark.anyio
async def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorError) as refused:
            async with running(quick(port=port)):
                pass
    assert str(refused.value) == (
        f"Cannot listen on 127.0.0.1:{port} (engine port): Address already in use. "
        f"Stop what uses it, choose another port, or 0 for any free one."
    )


@pytest.mark.anyio
async def test_no_port_stays_taken_when_another_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        free_port = free.getsockname()[1]
        free.close()
        with pytest.raises(EmulatorError):
            async with running(quick(port=free_port, metadata_port=taken.getsockname()[1])):
                pass
    socket.create_server(("127.0.0.1", free_port)).close()


@pytest.mark.anyio
async def test_an_engine_without_its_store_is_told_how_to_get_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EmulatorError) as refused:
        async with running(quick(role="engine", store_address=f"127.0.0.1:{port}")):
            pass
    assert f"No store answers at 127.0.0.1:{port}" in str(refused.value)
    assert "Start one with role store at that address, or start the engine with connector none." in str(refused.value)


@pytest.mark.anyio
async def test_every_port_is_free_again_afterwards() -> None:
    async with running(quick()) as addresses:
        places = [addresses.engine, addresses.store_rpc, addresses.store_metrics, addresses.store_metadata]
        ports = [int(str(place).rpartition(":")[2]) for place in places]
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
