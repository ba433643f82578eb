"""Starts emulated deployments and talks to them as a load generator would."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

from kvkit.emulator import Addresses, EmulatorSettings, running

LABEL = re.compile(r'(\w+)="([^"]*)"')

TEMPLATE_TOKENS = 4 + 3
"""What the chat template adds to one message: the message's own and the generation prompt's."""


def quick(**settings: Any) -> EmulatorSettings:
    """Free ports, and no work that takes time."""
    at_once: dict[str, Any] = {
        "port": 0,
        "store_address": "127.0.0.1:0",
        "metrics_port": 0,
        "metadata_port": 0,
        "prefill_tokens_per_s": 1e12,
        "decode_ms_per_token": 0.0,
        "external_bandwidth": 1e18,
    }
    return EmulatorSettings(**(at_once | settings))


def engine_alone(**settings: Any) -> EmulatorSettings:
    """An engine without a store: sooner started and stopped, for what does not need one."""
    return quick(role="engine", connector="none", **settings)


def document(tokens: int, topic: str) -> str:
    """A text of exactly so many tokens; `topic` (four letters) is its first and makes every block its own."""
    return " ".join([topic, *(f"{index % 10_000:04d}" for index in range(1, tokens))])


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask a server until it says yes; fails after 10 s."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110  the server has no other way to tell
            await asyncio.sleep(0.002)


@dataclasses.dataclass(frozen=True)
class Reading:
    """One scrape of a `/metrics`."""

    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    def total(self, name: str, **labels: str) -> float:
        """Sum over the series of a name that carry these labels; 0 when there is none."""
        wanted = set(labels.items())
        return sum(value for (key, has), value in self.samples.items() if key == name and wanted <= set(has))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


@dataclasses.dataclass(frozen=True)
class Deployment:
    addresses: Addresses
    http: httpx.AsyncClient

    async def chat(self, text: str, **fields: Any) -> httpx.Response:
        body = {"model": "emulated", "messages": user(text), "max_tokens": 1, **fields}
        return await self.http.post(f"{self.addresses.engine}/v1/chat/completions", json=body)

    async def usage(self, text: str, **fields: Any) -> dict[str, Any]:
        answer = await self.chat(text, **fields)
        assert answer.status_code == 200, answer.text
        usage: dict[str, Any] = answer.json()["usage"]
        return usage

    async def cached_tokens(self, text: str, **fields: Any) -> int:
        return int((await self.usage(text, **fields))["prompt_tokens_details"]["cached_tokens"])

    async def set_fault(self, kind: str, every: int = 1) -> None:
        answer = await self.http.post(f"{self.addresses.engine}/emulator/fault", json={"kind": kind, "every": every})
        assert answer.status_code == 200, answer.text

    async def reset_device(self, **query: str) -> bool:
        """One attempt to clear the device cache."""
        answer = await self.http.post(f"{self.addresses.engine}/reset_prefix_cache", params=query)
        return bool(answer.json()["success"])

    async def quiet_and_reset(self) -> None:
        """Clear the device cache as soon as no save holds blocks any more."""
        await until(self.reset_device)

    async def engine_metrics(self) -> Reading:
        return await self._scrape(f"{self.addresses.engine}/metrics")

    async def store_metrics(self) -> Reading:
        return await self._scrape(f"{self.addresses.store_metrics}/metrics")

    async def sources(self) -> dict[str, float]:
        """Prompt tokens by source so far, in the kit's words."""
        reading = await self.engine_metrics()
        return {
            kit: reading.total("vllm:prompt_tokens_by_source_total", source=source)
            for kit, source in (
                ("computed", "local_compute"),
                ("device", "local_cache_hit"),
                ("external", "external_kv_transfer"),
            )
        }

    async def _scrape(self, url: str) -> Reading:
        """The samples under the names that are written; prometheus_client's parser would append `_total` to some."""
        text = (await self.http.get(url)).text
        samples = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name, _, labels = series.partition("{")
                samples[name, tuple(LABEL.findall(labels))] = float(value)
        return Reading(samples)


@contextlib.asynccontextmanager
async def deployed(settings: EmulatorSettings) -> AsyncIterator[Deployment]:
    async with running(settings) as addresses, httpx.AsyncClient(trust_env=False, verify=False) as http:
        yield Deployment(addresses, http)
