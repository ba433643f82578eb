"""`kvkit run` with worker processes, seen from outside: Ctrl-C, and where the API key is not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kvkit.ending import Ending
from tests.benching import served
from tests.load import chunks

KEY = "sk-very-secret"
ENDS_WITHIN_S = 5
"""After Ctrl-C, which is a promise: docs/crash-safety.md."""


class HangsAfterTheWarmUp:
    """Counts tokens and answers the first chat; of all others it sends the role, and no more."""

    def __init__(self) -> None:
        self.chats = 0
        self.app = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/tokenize", self.tokenize, methods=["POST"]),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    async def models(self, _request: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "emulated", "object": "model"}]})

    async def tokenize(self, request: HttpRequest) -> Response:
        messages = json.loads(await request.body())["messages"]
        return JSONResponse({"count": sum(len(message["content"].split()) + 3 for message in messages)})

    async def chat(self, _request: HttpRequest) -> Response:
        self.chats += 1
        return StreamingResponse(self.stream(hangs=self.chats > 1), media_type="text/event-stream")

    async def stream(self, *, hangs: bool) -> AsyncIterator[bytes]:
        for piece in chunks.good():
            yield piece
            if hangs:
                await asyncio.Event().wait()


def test_ctrl_c_ends_all_processes_with_one_message_and_none_of_them_shows_the_key(tmp_path: Path) -> None:
    engine = HangsAfterTheWarmUp()
    with served(engine.app) as address:
        config, results = tmp_path / "config.yaml", tmp_path / "results"
        settings = {
            "openai_api": {"base_url": f"{address}/v1", "api_key": KEY, "model_name": "emulated"},
            "scenarios": ["cold_start"],
            "test": {"requests_per_scenario": 4, "workers": 2},
            "workload": {"prefix_tokens": 64, "suffix_tokens": 8},
        }
        config.write_text(json.dumps(settings))
        command = ["kvkit", "run", "--config", str(config), "--mode", "baseline", "--results-dir", str(results)]
        run = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            wait_for_chats(engine, 1 + 4, run)
            family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
            shown = "".join(f"{process.cmdline()} {process.environ()}" for process in family)
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does
            _, errors = run.communicate(timeout=ENDS_WITHIN_S)
        finally:
            run.kill()
    assert run.returncode == Ending.NOT_FINISHED
    assert errors.startswith("interrupted; what had ended by then is in")
    assert errors.count("\n") == 1
    assert len(family) >= 3
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert KEY not in shown


def wait_for_chats(engine: HangsAfterTheWarmUp, chats: int, run: subprocess.Popen[str]) -> None:
    while engine.chats < chats:
        try:
            run.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(run.communicate()[1])
