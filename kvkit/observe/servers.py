"""All servers behind one run, looked at together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx

from kvkit.observe import lmcache, mooncake, vllm
from kvkit.observe.prometheus import Change, Names, Reading, change, read
from kvkit.observe.quiet import Activity, wait_quiet
from kvkit.observe.reset import reset_device_cache

NOT_CONFIGURED = "no address is configured"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of each server, taken at the same time."""

    vllm: Reading
    lmcache: Reading
    mooncake: Reading

    def problems(self) -> tuple[str, ...]:
        """Why a configured server could not be read."""
        readings = (self.vllm, self.lmcache, self.mooncake)
        return tuple(r.problem for r in readings if r.problem is not None and r.problem != NOT_CONFIGURED)


@dataclass(frozen=True, slots=True)
class Changes:
    vllm: Change
    lmcache: Change
    mooncake: Change

    @classmethod
    def between(cls, before: Snapshot, after: Snapshot) -> Changes:
        return cls(
            vllm=change(before.vllm, after.vllm),
            lmcache=change(before.lmcache, after.lmcache),
            mooncake=change(before.mooncake, after.mooncake),
        )


class Servers:
    """The engine, LMCache's server and Mooncake's master, as far as their addresses are configured.

    Args:
        engine_http: sends the API key; used for the engine alone.
        http: sends no key.
        base_url: the engine's, ends with `/v1`.
        lmcache_url: of the LMCache server, if one is part of this run.
        mooncake_metrics_url: of the Mooncake master, if one is configured.
    """

    def __init__(
        self,
        engine_http: httpx.AsyncClient,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        lmcache_url: str | None,
        mooncake_metrics_url: str | None,
    ) -> None:
        self._engine_http = engine_http
        self._http = http
        self._base_url = base_url
        self._lmcache_url = lmcache_url
        self._mooncake_metrics_url = mooncake_metrics_url

    async def snapshot(self) -> Snapshot:
        engine, cache, store = await asyncio.gather(
            read(self._engine_http, vllm.metrics_url(self._base_url), vllm.NAMES),
            self._read(lmcache.metrics_url(self._lmcache_url) if self._lmcache_url else None, lmcache.NAMES),
            self._read(self._mooncake_metrics_url, mooncake.NAMES),
        )
        return Snapshot(engine, cache, store)

    async def wait_quiet(self) -> str | None:
        """Wait until no request runs and no store is on its way; the reason when that does not come about."""
        return await wait_quiet(self._activity)

    async def clear_device_cache(self) -> None:
        """Clear what lies before the store: vLLM's own prefix cache and, where there is one, LMCache's first tier.

        Raises:
            ResetNotOfferedError: the engine can't be asked to.
            ResetError: it was asked, and one of the two is not cleared.
        """
        await reset_device_cache(self._engine_http, vllm.root_of(self._base_url))
        if self._lmcache_url is not None:
            await lmcache.clear_first_tier(self._http, self._lmcache_url)

    async def _read(self, url: str | None, names: Names) -> Reading:
        return await read(self._http, url, names) if url else Reading(problem=NOT_CONFIGURED)

    async def _activity(self) -> Activity:
        now = await self.snapshot()
        at_work = [words for words in (vllm.busy(now.vllm), lmcache.busy(now.lmcache)) if words is not None]
        return Activity(busy=", ".join(at_work) or None, marks=_marks(now))


def _marks(now: Snapshot) -> tuple[tuple[str, float], ...]:
    """Stored keys and tokens served, whatever of them is told."""
    told = {
        **{key: now.vllm.counters[key] for key in ("vllm:prompt_tokens_total",) if key in now.vllm.counters},
        **{key: value for key, value in now.vllm.counters.items() if key.startswith("vllm:request_success_total")},
        **{key: value for key, value in now.lmcache.counters.items() if "store" in key},
        **{key: value for key, value in now.mooncake.levels.items() if key == mooncake.KEY_COUNT},
    }
    return tuple(sorted(told.items()))
