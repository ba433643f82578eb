"""What an engine tells before anything is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from kvkit.observe.engine import (
    EngineFacts,
    EngineRefusedError,
    EngineUnreachableError,
    ServedModel,
    look_at_engine,
)

MODELS = {"data": [{"id": "a", "max_model_len": 4096}, {"id": "b", "max_model_len": None}]}


def look(routes: dict[str, httpx.Response]) -> EngineFacts:
    def server(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        return routes.get(request.url.path, httpx.Response(404, json={"detail": "Not Found"}))

    async def story() -> EngineFacts:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
            return await look_at_engine(http, "http://host:8000/v1")

    return asyncio.run(story())


def server_info(**sections: Any) -> httpx.Response:
    return httpx.Response(200, json={"vllm_config": sections, "vllm_env": {"VLLM_HOST_IP": "10.0.0.1"}})


def test_served_models_and_their_lengths() -> None:
    facts = look({"/v1/models": httpx.Response(200, json=MODELS)})
    assert facts.models == (ServedModel("a", 4096), ServedModel("b", None))
    assert facts.model("a") == ServedModel("a", 4096)
    assert facts.model("c") is None


def test_version_connector_and_flags_of_a_vllm_in_dev_mode() -> None:
    facts = look(
        {
            "/v1/models": httpx.Response(200, json=MODELS),
            "/version": httpx.Response(200, json={"version": "0.32.0"}),
            "/server_info": server_info(
                model_config={"dtype": "bfloat16", "hf_token": "hf_secret"},
                cache_config={"block_size": 128},
                kv_transfer_config={"kv_connector": "LMCacheMPConnector", "kv_ip": "10.0.0.1"},
            ),
        }
    )
    assert (facts.version, facts.connector) == ("0.32.0", "LMCacheMPConnector")
    assert facts.flags == {
        "model_config": {"dtype": "bfloat16"},
        "cache_config": {"block_size": 128},
        "kv_transfer_config": {"kv_connector": "LMCacheMPConnector"},
    }


def test_an_engine_that_says_it_has_no_connector() -> None:
    facts = look({"/v1/models": httpx.Response(200, json=MODELS), "/server_info": server_info(kv_transfer_config=None)})
    assert facts.connector == "none"


@pytest.mark.parametrize(
    "models", [httpx.Response(404), httpx.Response(200, text="hello"), httpx.Response(200, json=5)]
)
def test_what_is_not_told_is_unknown(models: httpx.Response) -> None:
    assert look({"/v1/models": models}) == EngineFacts(None, None, None, None)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_but_not_shown(status: int) -> None:
    with pytest.raises(EngineRefusedError, match=f"HTTP {status}: the engine refuses openai_api.api_key"):
        look({"/v1/models": httpx.Response(status)})


@pytest.mark.parametrize("problem", [httpx.ConnectError("connection refused"), UnicodeError("label too long")])
def test_an_address_without_a_server_is_named(problem: Exception) -> None:
    def nobody(_request: httpx.Request) -> httpx.Response:
        raise problem

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(nobody)) as http:
            await look_at_engine(http, "http://host:8000/v1")

    with pytest.raises(EngineUnreachableError, match=rf"http://host:8000/v1/models: no answer \({problem}\)"):
        asyncio.run(story())
