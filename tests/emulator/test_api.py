"""The routes around chat completions, and what a wrong request is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.emulator.driving import TEMPLATE_TOKENS, Deployment, deployed, document, engine_alone, user

pytestmark = pytest.mark.anyio


async def test_models_lists_the_served_model_with_its_length(emulator: Deployment) -> None:
    models = (await emulator.http.get(f"{emulator.addresses.engine}/v1/models")).json()
    assert [(model["id"], model["max_model_len"]) for model in models["data"]] == [("emulated", 32_768)]


async def test_health_is_an_empty_200(emulator: Deployment) -> None:
    answer = await emulator.http.get(f"{emulator.addresses.engine}/health")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_version_names_the_vllm_whose_interface_this_is(emulator: Deployment) -> None:
    version = (await emulator.http.get(f"{emulator.addresses.engine}/version")).json()["version"]
    assert version == "0.32.0+emulated"


async def test_a_prompt_is_tokenized(emulator: Deployment) -> None:
    body = {"model": "emulated", "prompt": document(50, "toke")}
    answer = (await emulator.http.post(f"{emulator.addresses.engine}/tokenize", json=body)).json()
    assert answer["count"] == len(answer["tokens"]) == 50
    assert answer["max_model_len"] == 32_768


async def test_messages_are_tokenized_with_their_template_and_count_as_in_usage(emulator: Deployment) -> None:
    text = document(50, "mess")
    body = {"model": "emulated", "messages": user(text), "add_generation_prompt": True}
    answer = (await emulator.http.post(f"{emulator.addresses.engine}/tokenize", json=body)).json()
    assert answer["count"] == 50 + TEMPLATE_TOKENS
    assert (await emulator.usage(text))["prompt_tokens"] == answer["count"]


async def test_content_may_come_in_parts(emulator: Deployment) -> None:
    parts = [{"type": "text", "text": "abcd"}, {"type": "text", "text": "efgh"}]
    body = {"messages": [{"role": "user", "content": parts}], "add_generation_prompt": False}
    answer = (await emulator.http.post(f"{emulator.addresses.engine}/tokenize", json=body)).json()
    assert answer["count"] == 2 + 4


async def test_a_wrong_model_is_404_and_told_the_served_one(emulator: Deployment) -> None:
    answer = await emulator.chat("Hello", model="other")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "The model `other` does not exist. Valid aliases: emulated.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }


async def test_a_prompt_above_the_model_length_is_400(emulator: Deployment) -> None:
    answer = await emulator.chat(document(32_768, "long"))
    assert answer.status_code == 400
    assert "maximum context length is 32768 tokens" in answer.json()["error"]["message"]
    assert "contains 32775 input tokens" in answer.json()["error"]["message"]


async def test_an_answer_ends_at_the_model_length(emulator: Deployment) -> None:
    usage = await emulator.usage(document(32_750, "fits"), max_tokens=1000)
    assert usage["total_tokens"] == 32_768


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": "no list"}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 2}, "n:"),
        ({"stream_options": {"include_usage": True}}, "Stream options"),
    ],
)
async def test_a_wrong_field_is_400_and_named(emulator: Deployment, fields: dict[str, object], named: str) -> None:
    answer = await emulator.chat("Hello", **fields)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


async def test_a_body_that_is_not_json_is_400(emulator: Deployment) -> None:
    answer = await emulator.http.post(f"{emulator.addresses.engine}/v1/chat/completions", content=b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


@pytest.fixture(scope="module")
async def guarded(anyio_backend: str) -> AsyncIterator[Deployment]:
    async with deployed(engine_alone(api_key="secret")) as deployment:
        yield deployment


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}])
async def test_under_v1_the_key_is_asked_for(guarded: Deployment, headers: dict[str, str]) -> None:
    answer = await guarded.http.get(f"{guarded.addresses.engine}/v1/models", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


async def test_the_right_key_is_let_in(guarded: Deployment) -> None:
    headers = {"authorization": "Bearer secret"}
    answer = await guarded.http.get(f"{guarded.addresses.engine}/v1/models", headers=headers)
    assert answer.status_code == 200


async def test_outside_v1_no_key_is_asked_for(guarded: Deployment) -> None:
    assert (await guarded.http.get(f"{guarded.addresses.engine}/health")).status_code == 200


async def test_development_routes_are_404_without_dev_mode() -> None:
    async with deployed(engine_alone(dev_mode=False)) as emulator:
        engine = emulator.addresses.engine
        assert (await emulator.http.post(f"{engine}/reset_prefix_cache")).status_code == 404
        assert (await emulator.http.get(f"{engine}/server_info")).status_code == 404


async def server_info(emulator: Deployment) -> dict[str, Any]:
    url = f"{emulator.addresses.engine}/server_info"
    config: dict[str, Any] = (await emulator.http.get(url, params={"config_format": "json"})).json()["vllm_config"]
    return config


async def test_server_info_tells_the_connector_and_the_sizes(emulator: Deployment) -> None:
    config = await server_info(emulator)
    assert config["kv_transfer_config"] == {"kv_connector": "MooncakeStoreConnector", "kv_role": "kv_both"}
    assert config["cache_config"]["block_size"] == 16
    assert config["scheduler_config"]["max_num_batched_tokens"] == 2048


async def test_server_info_tells_when_there_is_no_connector(without_store: Deployment) -> None:
    assert (await server_info(without_store))["kv_transfer_config"] is None


async def test_the_fingerprint_is_the_same_with_and_without_a_connector(
    emulator: Deployment, without_store: Deployment
) -> None:
    answers = [(await engine.chat("Hello")).json() for engine in (emulator, without_store)]
    assert answers[0]["system_fingerprint"] == answers[1]["system_fingerprint"]
