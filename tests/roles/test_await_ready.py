"""Waiting for a service ends when it answers, and at once when it never will."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.playbooks import PROJECT
from tests.ports import free_ports

AWAIT = PROJECT / "roles/service/files/await_ready.py"
HEALTHY = '{"service_ready":true}'


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(HEALTHY.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/health"
    server.shutdown()
    server.server_close()


@pytest.fixture
def nobody() -> str:
    (port,) = free_ports(1)
    return f"http://127.0.0.1:{port}/health"


@pytest.fixture
def living() -> Iterator[str]:
    """`--pid` of a process that lives through the test."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield f"--pid={process.pid}"
        process.kill()


@pytest.fixture
def ended() -> str:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"--pid={process.pid}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Lines of an earlier start, of 8 bytes, and of this one."""
    path = tmp_path / "log"
    path.write_text("earlier\nthe cause\n")
    return path


def wait(url: str, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(AWAIT), "--url", url, "--timeout", str(timeout_s), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_an_answer_ends_the_wait(url: str, living: str) -> None:
    assert wait(url, living).returncode == 0


def test_an_answer_without_the_pattern_does_not(url: str, living: str) -> None:
    done = wait(url, living, "--pattern", '"service_ready":false', timeout_s=0)
    assert "HTTP 200, without '\"service_ready\":false'" in done.stderr


def test_a_process_that_ended_is_not_waited_for(nobody: str, ended: str) -> None:
    assert "it ended" in wait(nobody, ended).stderr


def test_an_answer_of_somebody_else_does_not_count(url: str, ended: str) -> None:
    """Another server holds the port, and the service died because of it."""
    assert wait(url, ended).returncode == 1


def test_a_command_can_say_that_it_lives(url: str) -> None:
    assert wait(url, "--alive", '["true"]').returncode == 0


def test_a_command_can_say_that_it_ended(nobody: str) -> None:
    assert "it ended" in wait(nobody, "--alive", '["false"]').stderr


def test_a_log_that_stands_still_is_a_hang(nobody: str, living: str, log: Path) -> None:
    done = wait(nobody, living, f"--log={log}", "--no-progress=0.1")
    assert "nothing new in its log" in done.stderr


def test_the_logs_tail_of_this_start_is_told(nobody: str, ended: str, log: Path) -> None:
    done = wait(nobody, ended, f"--log={log}", "--offset=8")
    assert done.stderr.endswith("\n\nthe cause\n")


def test_a_status_command_that_hangs_is_named() -> None:
    await_ready = runpy.run_path(str(AWAIT))
    await_ready["is_alive"].__globals__["STATUS_S"] = 0.05
    with pytest.raises(await_ready["NotReady"], match="its status command sleep 60 did not end within"):
        await_ready["is_alive"](None, ["sleep", "60"])
