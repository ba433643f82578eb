"""All servers behind one run, looked at together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from kvkit.config import Config
from kvkit.observe import lmcache, mooncake, vllm
from kvkit.observe.prometheus import Change, Names, Reading, add, change, read
from kvkit.observe.quiet import Activity, wait_quiet
from kvkit.observe.reset import reset_device_cache
from kvkit.observe.sampling import StoreSampler

NOT_CONFIGURED = "no address is configured"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of each server, taken at the same time."""

    vllm: tuple[Reading, ...]
    """Of each instance."""
    lmcache: Reading
    mooncake: Reading

    @property
    def store_problem(self) -> str | None:
        """Why the store or LMCache's server could not be read, if one is configured and could not."""
        told = (reading.problem for reading in (self.mooncake, self.lmcache))
        return next((problem for problem in told if problem is not None and problem != NOT_CONFIGURED), None)

    def problems(self) -> tuple[str, ...]:
        """Why a configured server could not be read."""
        readings = (*self.vllm, self.lmcache, self.mooncake)
        return tuple(r.problem for r in readings if r.problem is not None and r.problem != NOT_CONFIGURED)


@dataclass(frozen=True, slots=True)
class Changes:
    vllm: Change
    """Of all instances together."""
    lmcache: Change
    mooncake: Change

    @classmethod
    def between(cls, before: Snapshot, after: Snapshot) -> Changes:
        return cls(
            vllm=add([change(*pair) for pair in zip(before.vllm, after.vllm, strict=True)]),
            lmcache=change(before.lmcache, after.lmcache),
            mooncake=change(before.mooncake, after.mooncake),
        )

    @classmethod
    def not_known(cls, problem: str) -> Changes:
        """Those of a stretch of time at whose beginning nobody looked, or that was not looked at in one piece."""
        return cls(vllm=Change(problem=problem), lmcache=Change(problem=problem), mooncake=Change(problem=problem))

    @classmethod
    def together(cls, parts: Sequence[Changes]) -> Changes:
        """Those of several stretches of time, one after the other."""
        return cls(
            vllm=add([part.vllm for part in parts]),
            lmcache=add([part.lmcache for part in parts]),
            mooncake=add([part.mooncake for part in parts]),
        )


def lost_meanwhile(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """What happened to the store or to LMCache's server, where it answered at first.

    The engine goes on without them and computes what it can't load: its own counters alone look like a worse cache.
    """
    pairs = (("the store", before.mooncake, after.mooncake), ("LMCache's server", before.lmcache, after.lmcache))
    told = [(name, change(then, now).problem) for name, then, now in pairs if then.problem is None]
    return tuple(f"{name} was lost in this round: {problem}" for name, problem in told if problem is not None)


class Servers:
    """The engine's instances, LMCache's server and Mooncake's master, as far as their addresses are configured.

    Args:
        engine_http: sends the API key; used for the engine alone.
        http: sends no key.
        engines: root addresses of every vLLM that answers the requests.
        lmcache_url: of the LMCache server, if one is part of this run.
        mooncake_metrics_url: of the Mooncake master, if one is configured.
    """

    def __init__(
        self,
        engine_http: httpx.AsyncClient,
        http: httpx.AsyncClient,
        *,
        engines: Sequence[str],
        lmcache_url: str | None,
        mooncake_metrics_url: str | None,
    ) -> None:
        self._engine_http = engine_http
        self._http = http
        self._engines = tuple(engines)
        self._lmcache_url = lmcache_url
        self._mooncake_metrics_url = mooncake_metrics_url

    @property
    def engines(self) -> tuple[str, ...]:
        """Root addresses of the engine's instances."""
        return self._engines

    def beside(self, engine: str) -> Servers:
        """Another engine with the same store. Which LMCache server it has is not known."""
        return Servers(
            self._engine_http,
            self._http,
            engines=(engine,),
            lmcache_url=None,
            mooncake_metrics_url=self._mooncake_metrics_url,
        )

    async def snapshot(self) -> Snapshot:
        cache, store, *engines = await asyncio.gather(
            self._read(lmcache.metrics_url(self._lmcache_url) if self._lmcache_url else None, lmcache.NAMES),
            self._read(self._mooncake_metrics_url, mooncake.NAMES),
            *(read(self._engine_http, vllm.metrics_url(root), vllm.NAMES) for root in self._engines),
        )
        return Snapshot(tuple(engines), cache, store)

    def sample_store(self) -> StoreSampler:
        """Looks at the store while a round goes on."""
        return StoreSampler(self._http, self._mooncake_metrics_url)

    async def wait_quiet(self) -> str | None:
        """Wait until no request runs and no store is on its way; the reason when that does not come about."""
        return await wait_quiet(self._activity)

    async def clear_device_cache(self) -> None:
        """Clear what lies before the store: vLLM's own prefix cache and, where there is one, LMCache's first tier.

        Raises:
            ResetNotOfferedError: an instance can't be asked to.
            ResetError: it was asked, and one of the caches is not cleared.
        """
        for root in self._engines:
            await reset_device_cache(self._engine_http, root)
        await self.clear_first_tier()

    async def clear_first_tier(self) -> None:
        """Clear LMCache's first tier, where there is one: it outlives a restart of the engine.

        Raises:
            ResetError: it is not cleared.
        """
        if self._lmcache_url is not None:
            await lmcache.clear_first_tier(self._http, self._lmcache_url)

    async def _read(self, url: str | None, names: Names) -> Reading:
        return await read(self._http, url, names) if url else Reading(problem=NOT_CONFIGURED)

    async def _activity(self) -> Activity:
        now = await self.snapshot()
        told = (*(vllm.busy(engine) for engine in now.vllm), lmcache.busy(now.lmcache))
        at_work = [words for words in told if words is not None]
        return Activity(busy=", ".join(at_work) or None, marks=_marks(now))


def servers_of(
    config: Config, engine_http: httpx.AsyncClient, http: httpx.AsyncClient, *, with_cache: bool = True
) -> Servers:
    """The servers that a configuration names.

    Args:
        config: names them.
        engine_http: sends the API key.
        http: sends no key.
        with_cache: in the baseline the engine does not know LMCache, which may be stopped.
    """
    store = config.mooncake
    return Servers(
        engine_http,
        http,
        engines=[vllm.root_of(url) for url in config.openai_api.instances or (config.openai_api.base_url,)],
        lmcache_url=config.lmcache.url if config.lmcache and with_cache else None,
        mooncake_metrics_url=mooncake.metrics_url(store.master_ip, store.metrics_port) if store else None,
    )


def _marks(now: Snapshot) -> tuple[tuple[str, float], ...]:
    """Stored keys and tokens served, whatever of them is told."""
    told = [
        *((key, value) for engine in now.vllm for key, value in engine.counters.items() if _of_served_tokens(key)),
        *((key, value) for key, value in now.lmcache.counters.items() if "store" in key),
        *((key, value) for key, value in now.mooncake.levels.items() if key == mooncake.KEY_COUNT),
    ]
    return tuple(sorted(told))


def _of_served_tokens(key: str) -> bool:
    return key == "vllm:prompt_tokens_total" or key.startswith("vllm:request_success_total")
