"""Runs of kvkit against emulated engines, for the tests of several subjects."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kvkit.bench import run
from kvkit.config import Config
from kvkit.emulator import Addresses, EmulatorSettings, running
from kvkit.ending import Ending
from kvkit.results.reader import read_records
from kvkit.results.record import Record
from kvkit.results.stats import Engine, Mode, RoundSummary, RunStats
from tests.load import chunks

FAST = EmulatorSettings(
    port=0,
    store_address="127.0.0.1:0",
    metrics_port=0,
    metadata_port=0,
    api_key="sk-very-secret",
    prefill_tokens_per_s=1e6,
    decode_ms_per_token=0,
    kv_bytes_per_token=1000,
)


class Story:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.summaries: list[RoundSummary] = []
        self.stats: list[tuple[RunStats, Path]] = []
        self.notices: list[str] = []
        self.failure = ""

    def run_started(self, mode: Mode, engine: Engine, isolation: str) -> None:
        self.told.append(f"{mode} on {engine.version} with {engine.connector}, isolation {isolation}")

    def scenario_started(self, scenario: str, requests: int, rounds: int) -> None:
        self.told.append(f"{scenario}: {requests} requests, {rounds} rounds")

    def round_started(self, number: int, rounds: int, requests: int) -> None:
        self.told.append(f"round {number}/{rounds}: {requests}")

    def request_ended(self, record: Record) -> None:
        self.told.append("request")

    def round_ended(self, summary: RoundSummary) -> None:
        self.told.append(f"round {summary.round} ended")
        self.summaries.append(summary)

    def scenario_ended(self, stats: RunStats, stats_path: Path) -> None:
        self.told.append("scenario ended")
        self.stats.append((stats, stats_path))

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def run_failed(self, message: str) -> None:
        self.failure = message


@contextmanager
def in_thread(serving: AbstractAsyncContextManager[Addresses]) -> Iterator[Addresses]:
    """Enter an asynchronous context manager in an event loop of its own, and yield what it yields."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def emulated(**changes: Any) -> Iterator[Addresses]:
    with in_thread(running(replace(FAST, **changes))) as addresses:
        yield addresses


SEEDS = itertools.count()


def config_for(addresses: Addresses, **changes: Any) -> Config:
    """A small run of one scenario; `changes` are sections, merged over it."""
    assert addresses.engine is not None
    data: dict[str, Any] = {
        "openai_api": {
            "base_url": f"{addresses.engine}/v1",
            "api_key": "sk-very-secret",
            "model_name": "emulated",
        },
        "model": {"name": "emulated", "max_tokens": 4},
        "scenarios": ["cold_start"],
        "test": {"requests_per_scenario": 4, "concurrency": 2, "request_timeout_s": 20, "seed": next(SEEDS)},
        "workload": {"prefix_tokens": 512, "suffix_tokens": 64, "documents": 2, "turns": 2},
    }
    if addresses.store_metrics is not None:
        port = int(addresses.store_metrics.rpartition(":")[2])
        data["mooncake"] = {"master_ip": "127.0.0.1", "metrics_port": port}
    for section, values in changes.items():
        data[section] = data.get(section, {}) | values if isinstance(values, dict) else values
    return Config.model_validate(data)


def measure(config: Config, results_dir: Path, mode: Mode = "with-cache") -> tuple[Ending, Story]:
    story = Story()
    return run(config, mode=mode, results_dir=results_dir, reporter=story), story


def kept(story: Story, number: int) -> list[Record]:
    ((stats, path),) = story.stats
    return [record for record in read_records(path, stats) if record.round == number]


def plain_openai_server() -> Starlette:
    """Speaks the OpenAI protocol and nothing else: no counters, no reset, no tokenizer."""

    async def models(_request: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "emulated", "object": "model"}]})

    async def chat(request: HttpRequest) -> Response:
        body = json.loads(await request.body())
        prompt = sum(len(message["content"].split()) + 3 for message in body["messages"])
        if not body.get("stream"):
            return JSONResponse({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": 1}})
        stream = [chunks.role(), chunks.delta("stop", content="a"), chunks.usage(prompt, 1), chunks.DONE]
        return StreamingResponse(iter(stream), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])])


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
