"""What is computed in which step. Load is felt as steps, so nothing here looks at a clock."""

from __future__ import annotations

import pytest

from kvkit.emulator.engine.device_cache import DeviceCache
from kvkit.emulator.engine.request import EngineRequest
from kvkit.emulator.engine.scheduler import Scheduler, Step

pytestmark = pytest.mark.anyio

BLOCK = 4


class Bench:
    """A scheduler with an external tier that has what a test says."""

    def __init__(self, *, blocks: int = 1000, budget: int = 100, max_num_seqs: int = 100) -> None:
        self.device = DeviceCache(blocks)
        self.scheduler = Scheduler(self.device, block_size=BLOCK, max_batched_tokens=budget, max_num_seqs=max_num_seqs)
        self.external: dict[str, int] = {}

    def add(self, name: str, prompt_tokens: int, *, prefix: str = "") -> EngineRequest:
        """Queue a prompt; prompts with the same prefix share their blocks."""
        hashes = tuple(f"{prefix or name}{block}" for block in range(prompt_tokens // BLOCK))
        request = EngineRequest(name, prompt_tokens=prompt_tokens, hashes=hashes, max_tokens=1000)
        self.scheduler.add(request)
        return request

    async def plan(self) -> Step:
        return await self.scheduler.schedule(self._match)

    async def step(self) -> list[str]:
        """Compute one step; names of the requests that got a token."""
        return [request.request_id for request in self.scheduler.complete(await self.plan())]

    async def _match(self, request: EngineRequest, device_tokens: int) -> int:
        return self.external.get(request.request_id, 0)


async def test_a_prompt_above_the_budget_takes_several_steps() -> None:
    bench = Bench(budget=10)
    bench.add("long", 25)
    assert [await bench.step() for _ in range(4)] == [[], [], ["long"], ["long"]]


async def test_prompts_share_a_step_while_the_budget_lasts() -> None:
    bench = Bench(budget=30)
    for name in ("a", "b", "c"):
        bench.add(name, 15)
    assert await bench.step() == ["a", "b"]
    assert await bench.step() == ["a", "b", "c"]


async def test_each_queued_prompt_delays_the_ones_behind_it_by_a_step() -> None:
    bench = Bench(budget=20)
    for name in ("a", "b", "c"):
        bench.add(name, 17)
    first_token_in: dict[str, int] = {}
    for number in range(1, 6):
        for name in await bench.step():
            first_token_in.setdefault(name, number)
    assert first_token_in == {"a": 1, "b": 2, "c": 3}


async def test_decodes_go_before_prefill() -> None:
    bench = Bench(budget=10)
    bench.add("decoding", 8)
    await bench.step()
    bench.add("prefilling", 40)
    step = await bench.plan()
    assert [(request.request_id, tokens) for request, tokens in step.work] == [("decoding", 1), ("prefilling", 9)]
    assert (step.decodes, step.prefill_tokens) == (1, 9)


async def test_no_more_requests_run_at_once_than_allowed() -> None:
    bench = Bench(max_num_seqs=1)
    bench.add("a", 8)
    bench.add("b", 8)
    assert await bench.step() == ["a"]
    bench.scheduler.remove(bench.scheduler.running[0])
    assert await bench.step() == ["b"]


async def test_what_the_device_has_is_not_computed_again() -> None:
    bench = Bench()
    first = bench.add("first", 18, prefix="shared")
    await bench.step()
    bench.scheduler.remove(first)
    second = bench.add("second", 22, prefix="shared")
    step = await bench.plan()
    assert second.device_tokens == 16
    assert step.prefill_tokens == 22 - 16


async def test_the_last_prompt_token_is_always_computed() -> None:
    bench = Bench()
    bench.scheduler.remove(await _prefilled(bench, "first", 16))
    again = bench.add("again", 16, prefix="first")
    step = await bench.plan()
    assert again.device_tokens == 12
    assert step.prefill_tokens == 4


async def test_a_request_that_waits_for_external_tokens_lets_others_go_on() -> None:
    bench = Bench(budget=20)
    bench.external["loading"] = 12
    loading = bench.add("loading", 18)
    bench.add("other", 15)
    assert await bench.step() == ["other"]
    assert loading.external_tokens == 12
    assert bench.scheduler.loading == [loading]


async def test_loaded_tokens_are_not_computed_and_stay_on_the_device() -> None:
    bench = Bench()
    bench.external["loading"] = 12
    loading = bench.add("loading", 18)
    await bench.plan()
    bench.scheduler.loaded(loading)
    step = await bench.plan()
    assert step.prefill_tokens == 18 - 12
    assert bench.device.leading_hits(loading.hashes) == 3


async def test_the_youngest_request_gives_way_when_blocks_run_out() -> None:
    bench = Bench(blocks=4)
    old = bench.add("old", 8)
    young = bench.add("young", 8)
    await bench.step()  # both hold two blocks now, and none is left
    step = await bench.plan()
    assert step.preempted == [young]
    assert [request for request, _ in step.work] == [old]
    assert young.preemptions == 1


async def test_a_preempted_request_computes_prompt_and_answer_again_but_for_what_is_left_of_it() -> None:
    bench = Bench(blocks=4)
    old = bench.add("old", 8)
    young = bench.add("young", 7)
    await bench.step()
    await bench.step()  # young gives way; its first block is still there
    bench.scheduler.remove(old)
    step = await bench.plan()
    assert step.work == [(young, 7 + 1 - BLOCK)]


async def test_a_preemption_does_not_change_where_a_prompt_came_from() -> None:
    bench = Bench(blocks=4)
    old = bench.add("old", 8)
    young = bench.add("young", 7)
    await bench.step()
    await bench.step()
    bench.scheduler.remove(old)
    step = await bench.plan()
    assert (young.device_tokens, step.admitted) == (0, [])


async def test_a_request_without_room_waits() -> None:
    bench = Bench(blocks=4)
    bench.add("big", 12)
    waiting = bench.add("waiting", 8)
    assert await bench.step() == ["big"]
    assert list(bench.scheduler.waiting) == [waiting]


async def test_a_request_that_is_aborted_during_its_look_up_is_not_computed() -> None:
    bench = Bench()
    request = bench.add("gone", 18)

    async def abort_meanwhile(looked_up: EngineRequest, device_tokens: int) -> int:
        looked_up.finish_reason = "abort"
        bench.scheduler.remove(looked_up)
        return 0

    step = await bench.scheduler.schedule(abort_meanwhile)
    assert step.work == []
    assert step.admitted == []
    assert bench.device.held_blocks == 0
    assert request not in bench.scheduler.waiting


async def _prefilled(bench: Bench, name: str, prompt_tokens: int) -> EngineRequest:
    request = bench.add(name, prompt_tokens)
    await bench.step()
    return request
