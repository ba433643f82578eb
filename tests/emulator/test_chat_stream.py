"""A stream's bytes are those of vLLM 0.32 (`entrypoints/openai/chat_completion/serving.py`)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.driving import TEMPLATE_TOKENS, Deployment, deployed, document, engine_alone

pytestmark = pytest.mark.anyio

USAGE = {"include_usage": True}


async def events(emulator: Deployment, text: str, **fields: Any) -> list[str]:
    """The data of a stream's events."""
    answer = await emulator.chat(text, stream=True, **fields)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content.endswith(b"\n\n")
    blocks = answer.content.decode().removesuffix("\n\n").split("\n\n")
    assert all(block.startswith("data: ") for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


async def chunks(emulator: Deployment, text: str, **fields: Any) -> list[dict[str, Any]]:
    *data, done = await events(emulator, text, **fields)
    assert done == "[DONE]"
    return [json.loads(event) for event in data]


async def test_every_byte_of_a_stream(emulator: Deployment) -> None:
    role, first, last, usage, done = await events(emulator, "Bytes!", max_tokens=2, stream_options=USAGE)
    head = json.loads(role)
    start = (
        f'{{"id":"{head["id"]}","object":"chat.completion.chunk","created":{head["created"]},"model":"emulated",'
        f'"choices":['
    )
    fingerprint = json.loads(usage)["system_fingerprint"]
    assert role == start + (
        '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        '"prompt_token_ids":null,"prompt_text":null}'
    )
    assert first == start + (
        '{"index":0,"delta":{"content":" at"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
    )
    assert last == start + (
        '{"index":0,"delta":{"content":" once"},"logprobs":null,"finish_reason":"length","stop_reason":null,'
        '"token_ids":null}]}'
    )
    assert usage == start + (
        '],"usage":{"prompt_tokens":10,"total_tokens":12,"completion_tokens":2,'
        '"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0}},'
        f'"system_fingerprint":"{fingerprint}"}}'
    )
    assert done == "[DONE]"


async def test_ids_have_the_form_of_vllm(emulator: Deployment) -> None:
    role, *_ = await chunks(emulator, "An id")
    assert role["id"].startswith("chatcmpl-")


async def test_every_token_has_a_chunk_of_its_own(emulator: Deployment) -> None:
    _, *tokens, usage = await chunks(emulator, "Ten tokens", max_tokens=10, stream_options=USAGE)
    assert len(tokens) == usage["usage"]["completion_tokens"] == 10


async def test_one_token_in_eight_has_no_text(emulator: Deployment) -> None:
    _, *tokens = await chunks(emulator, "Empty tokens", max_tokens=16)
    assert [token["choices"][0]["delta"]["content"] for token in tokens].count("") == 2


async def test_the_first_token_can_be_one_without_text(emulator: Deployment) -> None:
    streams = [
        await chunks(emulator, text) for text in ("abca", "abcb", "abcc", "abcd", "abce", "abcf", "abcg", "abch")
    ]
    assert any(first["choices"][0]["delta"] == {"content": ""} for _, first in streams)


async def test_without_a_wish_there_is_no_usage_and_the_last_token_has_the_fingerprint(emulator: Deployment) -> None:
    stream = await chunks(emulator, "No usage", max_tokens=3)
    assert not any("usage" in chunk for chunk in stream)
    assert ["system_fingerprint" in chunk for chunk in stream] == [False, False, False, True]


async def test_usage_tells_prompt_completion_and_cached_tokens(emulator: Deployment) -> None:
    text = document(100, "usag")
    await emulator.chat(text)
    *_, last = await chunks(emulator, text, max_tokens=3, stream_options=USAGE)
    assert last["usage"] == {
        "prompt_tokens": 100 + TEMPLATE_TOKENS,
        "total_tokens": 100 + TEMPLATE_TOKENS + 3,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 96, "created_cache_tokens": 0},
    }


async def test_tokens_that_were_computed_are_told_as_newly_cached(emulator: Deployment) -> None:
    *_, last = await chunks(emulator, document(100, "crea"), stream_options=USAGE)
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 0, "created_cache_tokens": 96}


async def test_the_model_ends_by_itself_unless_told_not_to(emulator: Deployment) -> None:
    *_, last = await chunks(emulator, "A long answer", max_tokens=300)
    assert last["choices"][0]["finish_reason"] == "stop"
    *_, last = await chunks(emulator, "A long answer", max_tokens=300, ignore_eos=True)
    assert last["choices"][0]["finish_reason"] == "length"


async def test_the_same_prompt_has_the_same_answer(emulator: Deployment) -> None:
    first, second = [(await emulator.chat("Say it again", max_tokens=20)).json() for _ in range(2)]
    assert first["choices"] == second["choices"]


async def test_the_whole_answer_is_the_text_of_the_stream(emulator: Deployment) -> None:
    _, *tokens = await chunks(emulator, "Both ways", max_tokens=12)
    whole = (await emulator.chat("Both ways", max_tokens=12)).json()
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == "".join(t["choices"][0]["delta"]["content"] for t in tokens)
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["system_fingerprint"].startswith("vllm-")


async def test_a_client_that_leaves_aborts_its_request() -> None:
    async with deployed(engine_alone(decode_ms_per_token=5.0)) as emulator:
        url = f"{emulator.addresses.engine}/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": "Bye"}], "stream": True, "ignore_eos": True}
        async with emulator.http.stream("POST", url, json=body) as answer:
            await anext(answer.aiter_raw())
        await emulator.quiet_and_reset()  # possible only when no request holds blocks any more
        reading = await emulator.engine_metrics()
    assert reading.total("vllm:request_success_total", finished_reason="abort") == 1
