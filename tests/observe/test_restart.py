"""Restarting by the operator's command: done only when every engine answers again."""

from __future__ import annotations

import asyncio
import sys

import httpx
import pytest

from kvkit.observe.restart import RestartError, restart

ENGINES = ("http://first:8000", "http://second:8000")


def restarted(*code: str, answers: list[int], timeout_s: float = 20.0) -> list[str]:
    """Restart by a Python program; the engines answer with these in turn. Returns who was asked."""
    asked: list[str] = []

    def engine(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        status = answers.pop(0)
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status)

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(engine)) as http:
            await restart((sys.executable, "-c", *code), http, ENGINES, timeout_s=timeout_s, poll_s=0)

    asyncio.run(story())
    return asked


def test_it_waits_until_every_engine_lists_its_models() -> None:
    asked = restarted("pass", answers=[0, 503, 200, 0, 200])
    assert asked == [f"{ENGINES[0]}/v1/models"] * 3 + [f"{ENGINES[1]}/v1/models"] * 2


def test_a_command_that_fails_is_quoted() -> None:
    with pytest.raises(RestartError, match=r"ended with 3: no unit vllm$"):
        restarted("import sys; print('no unit vllm', file=sys.stderr); sys.exit(3)", answers=[])


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(RestartError, match=r"no end within 0\.2 s \(service\.ready_timeout_s\)"):
        restarted("import time; time.sleep(60)", answers=[], timeout_s=0.2)


def test_a_daemon_that_the_command_leaves_behind_is_not_waited_for() -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '3'])"
    assert len(restarted(code, answers=[200, 200], timeout_s=2.5)) == 2


def test_an_engine_that_stays_silent_is_named() -> None:
    with pytest.raises(RestartError, match=r"http://second:8000/v1/models: no answer 0\.5 s after"):
        restarted("pass", answers=[200, *[0] * 100_000], timeout_s=0.5)
