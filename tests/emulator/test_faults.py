"""Each fault as a client meets it, as often as it was asked for, and no longer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from kvkit.emulator import FaultKind
from tests.emulator.driving import Deployment, deployed, document, engine_alone, quick, until

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def fault(emulator: Deployment, kind: str, every: int = 1) -> AsyncIterator[None]:
    await emulator.set_fault(kind, every)
    try:
        yield
    finally:
        await emulator.set_fault("none")


async def stream(emulator: Deployment, text: str = "Hello", **fields: object) -> list[str]:
    """The data of a stream's events, for streams that end well."""
    fields = {"stream": True, "max_tokens": 4, "stream_options": {"include_usage": True}} | fields
    answer = await emulator.chat(text, **fields)
    assert answer.status_code == 200
    return [block.removeprefix("data: ") for block in answer.text.removesuffix("\n\n").split("\n\n")]


@pytest.mark.parametrize(("kind", "status"), [("refuse", 503), ("http_429", 429), ("http_500", 500)])
async def test_a_status_comes_in_openais_error_format(emulator: Deployment, kind: str, status: int) -> None:
    async with fault(emulator, kind):
        answer = await emulator.chat("Hello")
    assert answer.status_code == status
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == status


async def test_a_401_looks_as_from_a_wrong_key(emulator: Deployment) -> None:
    async with fault(emulator, "http_401"):
        answer = await emulator.chat("Hello")
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


async def test_a_broken_stream_is_cut_after_its_first_token(emulator: Deployment) -> None:
    received = b""
    async with fault(emulator, "broken_stream"):
        url = f"{emulator.addresses.engine}/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 4}
        async with emulator.http.stream("POST", url, json=body) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012  it is raised by the part that never comes
                async for part in answer.aiter_raw():
                    received += part
    assert received.count(b"data: ") == 2  # the role and one token
    assert b"[DONE]" not in received


async def test_an_error_event_comes_after_a_token_and_before_done(emulator: Deployment) -> None:
    async with fault(emulator, "error_event"):
        role, token, error, done = await stream(emulator)
    assert json.loads(role)["choices"][0]["delta"]["role"] == "assistant"
    assert json.loads(token)["choices"][0]["delta"].keys() == {"content"}
    assert json.loads(error) == {
        "error": {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
    }
    assert done == "[DONE]"


async def test_a_stream_of_one_token_can_fail_too(emulator: Deployment) -> None:
    async with fault(emulator, "error_event"):
        _, token, error, _ = await stream(emulator, max_tokens=1)
    assert json.loads(token)["choices"][0]["finish_reason"] == "length"
    assert "error" in json.loads(error)


async def test_without_usage_everything_else_is_there(emulator: Deployment) -> None:
    async with fault(emulator, "no_usage"):
        *chunks, done = await stream(emulator)
    assert done == "[DONE]"
    assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "length"
    assert not any("usage" in json.loads(chunk) for chunk in chunks)


async def test_a_stalled_stream_stays_open_and_says_nothing_more(emulator: Deployment) -> None:
    async with fault(emulator, "stall"):
        url = f"{emulator.addresses.engine}/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 4}
        async with emulator.http.stream("POST", url, json=body) as answer:
            lines = answer.aiter_lines()
            events = 0
            while events < 2:  # the role and one token
                events += (await anext(lines)).startswith("data: ")
            await anext(lines)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await anext(lines)


async def test_an_engine_with_a_stalled_stream_can_be_stopped() -> None:
    async with contextlib.AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(deployed(engine_alone(fault=FaultKind.STALL)))
        pending = asyncio.create_task(emulator.chat("Hello", stream=True, max_tokens=4))
        await until(lambda: _sent_tokens(emulator))
    with pytest.raises(httpx.HTTPError):
        await pending


async def test_a_failed_load_is_an_error_event_without_a_token(emulator: Deployment) -> None:
    text = document(100, "fail")
    await emulator.usage(text)
    await emulator.quiet_and_reset()
    before = await emulator.engine_metrics()
    async with fault(emulator, "load_failure"):
        role, error, done = await stream(emulator, text)
    after = await emulator.engine_metrics()
    assert json.loads(role)["choices"][0]["delta"]["role"] == "assistant"
    assert json.loads(error)["error"]["code"] == 500
    assert done == "[DONE]"

    def moved(name: str, **labels: str) -> float:
        return after.total(f"vllm:{name}_total", **labels) - before.total(f"vllm:{name}_total", **labels)

    assert moved("request_success", finished_reason="error") == 1
    assert moved("external_prefix_cache_hits") == 96  # counted at admission, before the load
    assert moved("prompt_tokens_by_source", source="external_kv_transfer") == 0
    assert moved("mooncake_store_operation", operation="load_get", status="partial_failure") == 1
    assert moved("mooncake_store_operation_failed_keys", operation="load_get") == 6


async def test_a_failed_load_needs_an_external_hit(emulator: Deployment) -> None:
    async with fault(emulator, "load_failure"):
        assert (await emulator.chat(document(100, "miss"))).status_code == 200


async def test_corrupted_kv_changes_the_answer_and_nothing_else(emulator: Deployment) -> None:
    text = document(100, "corr")
    computed = (await emulator.chat(text, max_tokens=8)).json()["choices"][0]["message"]["content"]
    await emulator.quiet_and_reset()
    async with fault(emulator, "corrupted_kv"):
        answer = (await emulator.chat(text, max_tokens=8)).json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 96
    assert answer["choices"][0]["message"]["content"] != computed
    assert (await emulator.chat(text, max_tokens=8)).json()["choices"][0]["message"]["content"] == computed


async def test_a_degraded_connector_serves_but_neither_stores_nor_finds() -> None:
    async with deployed(quick(fault=FaultKind.DEGRADED, degraded_delay_s=0.0)) as emulator:
        text = document(100, "degr")
        await emulator.usage(text)
        assert await emulator.cached_tokens(text) == 96  # the device cache works
        await emulator.quiet_and_reset()
        assert await emulator.cached_tokens(text) == 0
        assert (await emulator.engine_metrics()).total("vllm:external_prefix_cache_hits_total") == 0
        assert (await emulator.store_metrics()).total("master_key_count") == 0


async def test_a_degraded_connector_delays_each_request_by_its_look_up() -> None:
    async with deployed(engine_alone(fault=FaultKind.DEGRADED, degraded_delay_s=0.05)) as emulator:
        await emulator.usage("Hello")
        reading = await emulator.engine_metrics()
    assert reading.total("vllm:request_queue_time_seconds_sum") >= 0.05


async def test_every_third_request_is_struck(emulator: Deployment) -> None:
    async with fault(emulator, "http_500", every=3):
        statuses = [(await emulator.chat("Hello")).status_code for _ in range(6)]
    assert statuses == [200, 200, 500, 200, 200, 500]


async def test_a_fault_can_be_set_from_the_start() -> None:
    async with deployed(engine_alone(fault=FaultKind.HTTP_429, fault_every=2)) as emulator:
        statuses = [(await emulator.chat("Hello")).status_code for _ in range(2)]
    assert statuses == [200, 429]


async def test_an_unknown_fault_is_refused_with_those_that_exist(emulator: Deployment) -> None:
    answer = await emulator.http.post(f"{emulator.addresses.engine}/emulator/fault", json={"kind": "fire"})
    assert answer.status_code == 400
    assert "'broken_stream'" in answer.json()["error"]["message"]


async def test_other_routes_are_not_struck(emulator: Deployment) -> None:
    async with fault(emulator, "http_500"):
        assert (await emulator.http.get(f"{emulator.addresses.engine}/health")).status_code == 200
        assert (await emulator.http.get(f"{emulator.addresses.engine}/v1/models")).status_code == 200


async def _sent_tokens(emulator: Deployment) -> bool:
    return (await emulator.engine_metrics()).total("vllm:generation_tokens_total") > 0
