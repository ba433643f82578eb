"""The engine: takes prompts, steps the scheduler in time, and gives tokens.

A step takes prefill tokens / prefill speed, plus one decode step's time if any request decodes. External KV is loaded
while other requests go on, and that wait is queue time; prompts are saved behind the request's back.

Times are kept as the settings state them: each step and load is counted from when it was due, not from when the
emulator came to it, so that its own work (look-ups over HTTP, a busy machine) takes nothing from what is emulated.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid

from kvkit.emulator.engine import answer
from kvkit.emulator.engine.clock import sleep_until
from kvkit.emulator.engine.connector import StoreConnector
from kvkit.emulator.engine.device_cache import BlockTable, DeviceCache
from kvkit.emulator.engine.hashing import block_hashes
from kvkit.emulator.engine.metrics import EngineMetrics
from kvkit.emulator.engine.request import EngineRequest, FinishReason, Output, Prompt
from kvkit.emulator.engine.scheduler import Scheduler, Step
from kvkit.emulator.settings import EmulatorSettings, FaultKind


class Engine:
    """One engine core. It computes while `run` runs."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self.settings = settings
        self.metrics = EngineMetrics(settings)
        self.stopping = asyncio.Event()
        self._device = DeviceCache(settings.device_blocks)
        self._scheduler = Scheduler(
            self._device,
            block_size=settings.block_size,
            max_batched_tokens=settings.max_batched_tokens,
            max_num_seqs=settings.max_num_seqs,
        )
        self._connector = (
            StoreConnector(settings, self.metrics.store_operation) if settings.connector != "none" else None
        )
        self._paces = random.Random(settings.jitter_seed)  # noqa: S311 - repeatable is what is wanted
        self._requests: set[EngineRequest] = set()
        self._free_at = 0.0
        """When the last step ended, by the settings; of the event loop's clock, as all times here."""
        self._work = asyncio.Event()
        self._transfers = asyncio.TaskGroup()
        self.metrics.watch(self._scheduler, self._device)

    async def connect(self) -> None:
        """See that the store answers, if there is a connector.

        Raises:
            EmulatorError: it does not.
        """
        if self._connector:
            await self._connector.connect()

    async def run(self) -> None:
        """Step until cancelled. Transfers that are still under way are lost then, as they are in vLLM."""
        try:
            async with self._transfers:
                while True:
                    await self._step()
        finally:
            self.stop()
            if self._connector:
                await self._connector.close()

    def stop(self) -> None:
        """Abort every request, so that every stream ends."""
        self.stopping.set()
        for request in list(self._requests):
            request.outputs.put_nowait(Output(None, "abort"))
            self._finish(request, "abort")

    async def submit(self, prompt: Prompt, fault: FaultKind) -> EngineRequest:
        """Take a prompt; its tokens will come through the request's `outputs`."""
        settings = self.settings
        salt = f"{settings.model}\0{prompt.cache_salt}"
        request = EngineRequest(
            request_id=f"chatcmpl-{uuid.uuid4().hex}",
            prompt_tokens=len(prompt.tokens),
            hashes=tuple(block_hashes(prompt.tokens, settings.block_size, salt)),
            max_tokens=prompt.max_tokens,
            answer_seed=sum(prompt.tokens),
            stop_after=None if prompt.ignore_eos else answer.ANSWER_TOKENS,
            external_disabled=fault is FaultKind.DEGRADED,
            load_fails=fault is FaultKind.LOAD_FAILURE,
            load_corrupts=fault is FaultKind.CORRUPTED_KV,
            pace=self._paces.lognormvariate(0, settings.jitter),
        )
        request.times.arrived = self._now()
        if request.external_disabled:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), settings.degraded_delay_s)
        request.times.due = self._now()
        self._requests.add(request)
        self._scheduler.add(request)
        if self.stopping.is_set():
            self.stop()
        self._work.set()
        return request

    def end(self, request: EngineRequest, reason: FinishReason) -> None:
        """Give up a request before its answer is complete. Nothing happens if it has ended."""
        if request.finish_reason is None:
            self._finish(request, reason)

    async def reset_prefix_cache(self, *, reset_external: bool) -> bool:
        """Forget the device cache; False while any of its blocks is held, by a request or by a save under way.

        With `reset_external`, MooncakeStoreConnector empties the whole store, whoever filled it. LMCacheMPConnector
        clears LMCache's first tier only, which is not emulated: the store keeps what it has.
        """
        done = self._device.reset()
        if reset_external and self._connector and self.settings.connector == "mooncake-store":
            return await self._connector.remove_all() and done
        return done

    async def _step(self) -> None:
        self._work.clear()
        step = await self._scheduler.schedule(self._match_external)
        self._begin(step)
        if not step.work:
            await self._work.wait()
            return
        await self._compute(step)
        sampled = self._scheduler.complete(step)
        self.metrics.step(step, len(sampled))
        for request in sampled:
            self._emit(request)

    async def _compute(self, step: Step) -> None:
        decode_s = self.settings.decode_ms_per_token / 1000 if step.decodes else 0.0
        duration_s = step.prefill_effort / self.settings.prefill_tokens_per_s + decode_s
        self._free_at = max(self._free_at, *(request.times.due for request, _ in step.work)) + duration_s
        await sleep_until(self._free_at)

    def _begin(self, step: Step) -> None:
        for request in step.admitted:
            self.metrics.admitted(request)
        for request in step.loads:
            request.times.due = max(request.times.due, self._free_at)
            self._transfers.create_task(self._load(request))
        for request, _ in step.work:
            request.times.scheduled = request.times.scheduled or self._now()

    def _emit(self, request: EngineRequest) -> None:
        """Give a request the token that was just sampled for it."""
        now = self._now()
        if request.generated == 1:
            request.times.first_token = now
            self.metrics.first_token(request)
            self._save(request)
        else:
            self.metrics.next_token(now - request.times.last_token)
        request.times.last_token = now
        reason = request.reached_end
        text = answer.token_text(request.answer_seed, request.generated - 1)
        request.outputs.put_nowait(Output(text, reason))
        if reason:
            self._finish(request, reason)

    def _finish(self, request: EngineRequest, reason: FinishReason) -> None:
        request.finish_reason = reason
        self._requests.discard(request)
        self._scheduler.remove(request)
        self.metrics.finished(request, reason, self._now())
        self._work.set()

    async def _match_external(self, request: EngineRequest, device_tokens: int) -> int:
        if self._connector is None or request.external_disabled:
            return 0
        return await self._connector.matched_tokens(request, device_tokens)

    async def _load(self, request: EngineRequest) -> None:
        assert self._connector is not None
        loaded = await self._connector.load(request)
        if request.finish_reason is not None:
            return
        if loaded:
            request.answer_seed += request.load_corrupts
            self._scheduler.loaded(request)
            self._work.set()
        else:
            request.outputs.put_nowait(Output(None, "error"))
            self._finish(request, "error")

    def _save(self, request: EngineRequest) -> None:
        """Store the prompt in the background; its blocks stay held until that is done."""
        if self._connector is None or request.external_disabled:
            return
        held = BlockTable()
        self._device.acquire(held, request.table.cached, len(request.table.cached))
        self._transfers.create_task(self._save_held(held, self._connector))

    async def _save_held(self, held: BlockTable, connector: StoreConnector) -> None:
        await connector.save(held.cached)
        self._device.release(held)
        self._work.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
