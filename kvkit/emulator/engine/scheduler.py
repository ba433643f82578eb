"""What is computed in a step: decodes first, then chunks of prefill, then requests that were waiting.

A step has a budget of tokens, so a long prompt takes several steps and every request feels the load of the others.
The scheduler keeps no time and does no input or output, except that it asks where a prompt's KV can be found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kvkit.emulator.engine.device_cache import DeviceCache
from kvkit.emulator.engine.request import EngineRequest

ExternalMatch = Callable[[EngineRequest, int], Awaitable[int]]
"""(request, tokens the device has) -> tokens behind them that the external tier has."""


@dataclass(slots=True)
class Step:
    """One step's work."""

    budget: int
    """Tokens that still fit."""
    work: list[tuple[EngineRequest, int]] = field(default_factory=list)
    """Requests with the tokens that are computed for each."""
    prefill_tokens: int = 0
    prefill_effort: float = 0.0
    """Prefill tokens, each times its request's pace: what the time of the step follows."""
    decodes: int = 0
    admitted: list[EngineRequest] = field(default_factory=list)
    """Requests that got their blocks for the first time."""
    loads: list[EngineRequest] = field(default_factory=list)
    """Requests that wait for external KV from now on."""
    preempted: list[EngineRequest] = field(default_factory=list)

    def add(self, request: EngineRequest, tokens: int) -> None:
        self.work.append((request, tokens))
        self.budget -= tokens
        if request.decoding:
            self.decodes += 1
        else:
            self.prefill_tokens += tokens
            self.prefill_effort += tokens * request.pace


class Scheduler:
    def __init__(self, device: DeviceCache, *, block_size: int, max_batched_tokens: int, max_num_seqs: int) -> None:
        self._device = device
        self._block_size = block_size
        self._max_batched_tokens = max_batched_tokens
        self._max_num_seqs = max_num_seqs
        self.waiting: deque[EngineRequest] = deque()
        self.running: list[EngineRequest] = []
        self.loading: list[EngineRequest] = []
        """Waiting for external KV, with their blocks already held."""

    def add(self, request: EngineRequest) -> None:
        self.waiting.append(request)

    def loaded(self, request: EngineRequest) -> None:
        """Its external KV has arrived: it goes on at the head of the queue."""
        self.loading.remove(request)
        request.computed += request.to_load
        request.to_load = 0
        self._commit_full_blocks(request)
        self.waiting.appendleft(request)

    def remove(self, request: EngineRequest) -> None:
        """Forget a request, wherever it is, and let go of its blocks."""
        for queue in (self.waiting, self.running, self.loading):
            if request in queue:
                queue.remove(request)
        self._device.release(request.table)

    async def schedule(self, match_external: ExternalMatch) -> Step:
        """Choose the next step's work. An empty step means that nothing can be computed now."""
        step = Step(self._max_batched_tokens)
        self._schedule_decodes(step)
        self._schedule_prefills(step)
        if not step.preempted:
            await self._admit(step, match_external)
        return step

    def complete(self, step: Step) -> list[EngineRequest]:
        """The step has been computed; returns the requests that got a token, in order."""
        sampled = []
        for request, tokens in step.work:
            if request.finish_reason is not None:
                continue
            request.computed += tokens
            self._commit_full_blocks(request)
            if not request.remaining:
                request.generated += 1
                sampled.append(request)
        return sampled

    def _schedule_decodes(self, step: Step) -> None:
        for request in list(self.running):
            if not step.budget or request not in self.running or not request.decoding:
                continue
            if self._make_room(request, step):
                step.add(request, 1)

    def _make_room(self, request: EngineRequest, step: Step) -> bool:
        """A block for the next token, at the cost of the requests that came last; False if it was itself the last."""
        missing = self._blocks(request.computed + 1) - request.table.blocks
        while missing > 0 and not self._device.grow(request.table, missing):
            victim = self.running[-1]
            self._preempt(victim, step)
            if victim is request:
                return False
        return True

    def _preempt(self, request: EngineRequest, step: Step) -> None:
        self.running.remove(request)
        self._device.release(request.table)
        request.computed = request.to_load = 0
        request.preemptions += 1
        self.waiting.appendleft(request)
        step.preempted.append(request)

    def _schedule_prefills(self, step: Step) -> None:
        for request in self.running:
            if step.budget and not request.decoding:
                step.add(request, min(request.remaining, step.budget))

    async def _admit(self, step: Step, match_external: ExternalMatch) -> None:
        while step.budget and self.waiting and len(self.running) < self._max_num_seqs:
            request = self.waiting[0]
            if not request.table.blocks and not await self._place(request, step, match_external):
                return
            if not self.waiting or self.waiting[0] is not request:
                continue  # it was aborted, or another came back from its load, during the look-up
            self.waiting.popleft()
            if request.to_load:
                self.loading.append(request)
                step.loads.append(request)
            else:
                self.running.append(request)
                step.add(request, min(request.remaining, step.budget))

    async def _place(self, request: EngineRequest, step: Step, match_external: ExternalMatch) -> bool:
        """Give a request its blocks, shared where the device has them; False while there is no room."""
        usable = request.hashes[: (request.prompt_tokens - 1) // self._block_size]
        shared = usable[: self._device.leading_hits(usable)]
        if not self._device.acquire(request.table, shared, self._blocks(request.total_tokens)):
            return False
        request.computed = len(shared) * self._block_size
        request.to_load = await match_external(request, request.computed)
        if request.finish_reason is None and not request.preemptions:
            request.device_tokens, request.external_tokens = request.computed, request.to_load
            step.admitted.append(request)
        return True

    def _commit_full_blocks(self, request: EngineRequest) -> None:
        full = min(request.computed // self._block_size, len(request.hashes))
        for key in request.hashes[len(request.table.cached) : full]:
            self._device.commit(request.table, key)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._block_size)
