"""What is gathered of the store from servers that are none, and from canaries that end early."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from kvkit.checks.gather import canary, mooncake
from kvkit.checks.host import Host
from kvkit.checks.target import Target
from tests.checks.judging import bad, findings

METRICS = "master_key_count 0\nmaster_total_capacity_bytes {capacity}\nmaster_active_clients 1\n"
HEALTH = '{"status":"ok","role":"leader","service_ready":true}'


class Master(BaseHTTPRequestHandler):
    capacity = 0

    def do_GET(self) -> None:
        bodies = {"/metrics": METRICS.format(capacity=self.capacity), "/health": HEALTH}
        self.send_response(200 if self.path in bodies else 404)
        self.end_headers()
        self.wfile.write(bodies.get(self.path, "").encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


def served(capacity: int) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), type("Sized", (Master,), {"capacity": capacity}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def empty_master() -> Iterator[int]:
    yield from served(0)


@pytest.fixture
def master() -> Iterator[int]:
    yield from served(1 << 30)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose server takes calls, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class Client:
    """Stands for the stack's interpreter: records what it was asked, and behaves as `body` says."""

    def __init__(self, folder: Path, body: str) -> None:
        self._asked = folder / "asked"
        self.program = folder / "python"
        self.program.write_text(f'#!/bin/sh\nread -r line || :\necho "$line" >> {self._asked}\n{body}\n')
        self.program.chmod(0o755)

    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._asked.read_text().splitlines()] if self._asked.exists() else []


def target(port: int, client: Client | None = None, **changes: Any) -> Target:
    settings = {
        "parts": ["vllm"],
        "connector": "mooncake-store",
        "stack_python": str(client.program) if client else "",
        "mooncake_host": "127.0.0.1",
        "mooncake_rpc_port": 1,
        "mooncake_metrics_port": port,
        "timeout_s": 0.5,
    }
    return Target.from_dict({**settings, **changes})


def gathered(target: Target) -> dict[str, Any]:
    return {"mooncake": mooncake.gather(Host(), target)}


@pytest.mark.planted("mooncake.metrics.format")
def test_a_metrics_port_that_never_answers(silent: int) -> None:
    assert bad(gathered(target(silent)), target(silent)) == {"mooncake.metrics.format": "fail"}


@pytest.mark.planted("mooncake.metadata.path")
def test_a_metadata_port_that_never_answers(master: int, silent: int) -> None:
    asked = target(master, mooncake_metadata_port=silent)
    assert bad(gathered(asked), asked) == {"mooncake.metadata.path": "fail"}


def test_a_port_that_nobody_listens_on_is_left_to_the_network_checks(silent: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    assert bad(gathered(target(closed)), target(closed)) == {}


def test_no_canary_before_there_is_a_segment(empty_master: int, tmp_path: Path) -> None:
    """It would fail for want of room, and count as an allocation failure in the next preflight."""
    client = Client(tmp_path, "exit 1")
    asked = target(empty_master, client, segments=1)
    assert bad(gathered(asked), asked) == {}
    assert client.asked() == []


@pytest.mark.parametrize("left", [False, True])
def test_the_key_of_a_canary_that_was_killed_is_removed(master: int, tmp_path: Path, left: bool) -> None:
    answer = "exit 1" if left else """echo '{"problem": "", "removed": true}'"""
    client = Client(tmp_path, f'case "$line" in *only_remove*) {answer} ;; *) kill -9 $$ ;; esac')
    asked = target(master, client)
    told = {one.id: one.status for one in findings(gathered(asked), asked)}
    assert told["mooncake.canary.roundtrip"] == "fail"
    assert told["mooncake.canary.removed"] == ("fail" if left else "pass")
    first, second = client.asked()
    assert first["key"] == second["key"]


class Store:
    """Mooncake's client, as far as the canary calls it."""

    def __init__(self, put: int = 0, kept: bool = False) -> None:
        self.put_answer, self.kept, self.keys = put, kept, dict[str, bytes]()

    def setup(self, *_: object) -> int:
        return 0

    def put(self, key: str, value: bytes) -> int:
        self.keys[key] = value
        return self.put_answer

    def get(self, key: str) -> bytes:
        return self.keys[key]

    def remove(self, key: str, force: bool) -> int:
        if not self.kept:
            self.keys.pop(key, None)
        return 0

    def is_exist(self, key: str) -> int:
        return int(key in self.keys)


WANTED = {
    "key": "kvkit_preflight_1",
    "size": 16,
    "local_hostname": "127.0.0.1",
    "metadata_server": "P2PHANDSHAKE",
    "protocol": "tcp",
    "rdma_devices": "",
    "master": "127.0.0.1:1",
}


def test_a_key_comes_back_and_goes() -> None:
    store = Store()
    told = canary.try_out(store, WANTED)
    assert (told["problem"], told["same"], told["removed"], store.keys) == ("", True, True, {})


QUEUE_PAIRS = (
    '[{{"ifindex":0,"ifname":"rxe0","port":1,"lqpn":19,"rqpn":19,"type":"RC","state":"RTS","pid":{mine},"comm":"python"}},'
    '{{"ifindex":0,"ifname":"rxe0","port":1,"lqpn":20,"rqpn":20,"type":"RC","state":"INIT","pid":{mine},"comm":"python"}},'
    '{{"ifindex":0,"ifname":"rxe0","port":1,"lqpn":21,"rqpn":21,"type":"RC","state":"RTS","pid":1,"comm":"other"}},'
    '{{"ifindex":0,"ifname":"rxe0","port":1,"lqpn":1,"type":"GSI","state":"RTS","sq-psn":0,"comm":"ib_core"}}]'
)
"""As `rdma` of iproute2 6.1 prints them, of two soft-RoCE hosts."""


@pytest.fixture
def device_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which commands are looked for, in a process that has opened an RDMA device."""
    monkeypatch.setattr(canary, "open_files", lambda: ["/dev/infiniband/uverbs0"])
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_process_that_opened_no_device_has_no_queue_pair() -> None:
    assert canary.queue_pairs() == 0


def test_connected_queue_pairs_of_its_own_threads_are_counted(device_opened: Path) -> None:
    rdma = device_opened / "rdma"
    rdma.write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\ncat <<'END'\n{QUEUE_PAIRS.format(mine=os.getpid())}\nEND\n")
    rdma.chmod(0o755)
    assert canary.queue_pairs() == 1


def test_without_the_command_they_are_not_known(device_opened: Path) -> None:
    assert canary.queue_pairs() is None


def test_a_key_that_stays_is_told_whatever_else_failed() -> None:
    assert canary.try_out(Store(put=-800, kept=True), WANTED)["removed"] is False
    assert canary.try_out(Store(kept=True), WANTED)["removed"] is False


def test_removal_alone_puts_nothing() -> None:
    store = Store()
    store.keys["kvkit_preflight_1"] = b"left"
    told = canary.try_out(store, {**WANTED, "only_remove": True})
    assert (told["removed"], store.keys) == (True, {})
