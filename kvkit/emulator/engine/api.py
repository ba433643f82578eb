"""The engine's HTTP interface: the routes of vLLM's OpenAI server that a load generator and an operator use."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import Any, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kvkit.emulator.engine import tokenizer
from kvkit.emulator.engine.chat import Completion
from kvkit.emulator.engine.core import Engine
from kvkit.emulator.engine.faults import FaultInjector
from kvkit.emulator.engine.protocol import (
    ApiError,
    ChatMessage,
    ChatRequest,
    FaultRequest,
    TokenizeRequest,
)
from kvkit.emulator.engine.request import Prompt
from kvkit.emulator.settings import EmulatorSettings, FaultKind

VERSION = "0.32.0+emulated"
"""The vLLM whose interface this is; the suffix keeps emulated results apart from real ones."""

CONNECTOR_CLASSES = {"mooncake-store": "MooncakeStoreConnector", "lmcache-mp": "LMCacheMPConnector"}

HTTP_FAULTS = {
    FaultKind.REFUSE: (503, "ServiceUnavailableError", "The engine is not ready."),
    FaultKind.HTTP_429: (429, "TooManyRequestsError", "Too many requests."),
    FaultKind.HTTP_500: (500, "InternalServerError", "Internal server error"),
}
UNAUTHORIZED = {"error": "Unauthorized"}

Body = TypeVar("Body", bound=BaseModel)


def engine_app(engine: Engine) -> ASGIApp:
    """The whole interface, with its key check if the settings have a key."""
    routes = EngineRoutes(engine)
    app = Starlette(routes=routes.all(), exception_handlers={ApiError: _answer_error})
    key = engine.settings.api_key
    return KeyCheck(app, key) if key else app


class KeyCheck:
    """Answers 401 under `/v1` unless the request carries the key, as vLLM does; other paths are open."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"].startswith("/v1") and not secrets.compare_digest(given, self._expected):
            await JSONResponse(UNAUTHORIZED, status_code=401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class EngineRoutes:
    """One method per route."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settings = engine.settings
        self._faults = FaultInjector(engine.settings.fault, engine.settings.fault_every)
        self._fingerprint = _fingerprint(engine.settings)
        self._started = int(time.time())

    def all(self) -> list[Route]:
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/health", self.health),
            Route("/version", self.version),
            Route("/metrics", self.metrics),
            Route("/emulator/fault", self.set_fault, methods=["POST"]),
        ]
        if self._settings.dev_mode:
            routes += [
                Route("/reset_prefix_cache", self.reset_prefix_cache, methods=["POST"]),
                Route("/server_info", self.server_info),
            ]
        return routes

    async def chat(self, http: Request) -> Response:
        request = await _body(http, ChatRequest)
        prompt = self._prompt(request)
        fault = self._faults.next()
        if fault is FaultKind.HTTP_401:
            return JSONResponse(UNAUTHORIZED, status_code=401)
        if fault in HTTP_FAULTS:
            raise ApiError(*HTTP_FAULTS[fault])
        accepted = await self._engine.submit(prompt, fault)
        completion = Completion(self._engine, accepted, self._fingerprint)
        if request.stream:
            include_usage = request.stream_options is not None and request.stream_options.include_usage
            return completion.stream(include_usage=include_usage, fault=fault)
        return JSONResponse(await completion.whole())

    async def tokenize(self, http: Request) -> Response:
        request = await _body(http, TokenizeRequest)
        self._check_model(request.model)
        if request.messages is not None:
            tokens = _encode_chat(request.messages, add_generation_prompt=request.add_generation_prompt)
        elif request.prompt is not None:
            tokens = tokenizer.encode(request.prompt)
        else:
            raise ApiError(400, "Bad Request", "Either `prompt` or `messages` is required.")
        return JSONResponse(
            {
                "count": len(tokens),
                "max_model_len": self._settings.max_model_len,
                "tokens": tokens,
                "token_strs": None,
            }
        )

    async def models(self, _: Request) -> Response:
        card = {
            "id": self._settings.model,
            "object": "model",
            "created": self._started,
            "owned_by": "vllm",
            "root": self._settings.model,
            "parent": None,
            "max_model_len": self._settings.max_model_len,
            "permission": [],
        }
        return JSONResponse({"object": "list", "data": [card]})

    async def health(self, _: Request) -> Response:
        return Response(status_code=503 if self._engine.stopping.is_set() else 200)

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def metrics(self, _: Request) -> Response:
        return Response(self._engine.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def reset_prefix_cache(self, http: Request) -> Response:
        reset_external = http.query_params.get("reset_external", "false").lower() in ("true", "1")
        return JSONResponse({"success": await self._engine.reset_prefix_cache(reset_external=reset_external)})

    async def server_info(self, http: Request) -> Response:
        config = _vllm_config(self._settings)
        as_json = http.query_params.get("config_format") == "json"
        return JSONResponse({"vllm_config": config if as_json else str(config), "vllm_env": {}, "system_env": {}})

    async def set_fault(self, http: Request) -> Response:
        request = await _body(http, FaultRequest)
        self._faults.set(request.kind, request.every)
        return JSONResponse(request.model_dump(mode="json"))

    def _prompt(self, request: ChatRequest) -> Prompt:
        """Check a request against the model and tokenize it."""
        self._check_model(request.model)
        if request.stream_options and not request.stream:
            raise ApiError(
                400, "BadRequestError", "Stream options can only be defined when `stream=True`.", "stream_options"
            )
        tokens = _encode_chat(request.messages, add_generation_prompt=True)
        room = self._settings.max_model_len - len(tokens)
        if room < 1:
            raise ApiError(
                400,
                "BadRequestError",
                f"This model's maximum context length is {self._settings.max_model_len} tokens. However, your "
                f"prompt contains {len(tokens)} input tokens, which exceeds this limit even without any output "
                f"tokens. Please reduce the length of the input prompt.",
                "input_tokens",
            )
        return Prompt(
            tokens=tokens,
            max_tokens=min(room, request.requested_tokens or room),
            ignore_eos=request.ignore_eos,
            cache_salt=request.cache_salt or "",
        )

    def _check_model(self, model: str | None) -> None:
        if model and model != self._settings.model:
            raise ApiError(
                404,
                "NotFoundError",
                f"The model `{model}` does not exist. Valid aliases: {self._settings.model}.",
                "model",
            )


async def _body(http: Request, model: type[Body]) -> Body:
    """The request's body.

    Raises:
        ApiError: it is not JSON, or a field is missing or wrong.
    """
    try:
        return model.model_validate_json(await http.body())
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise ApiError(400, "Bad Request", problems) from error


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status)


def _encode_chat(messages: list[ChatMessage], *, add_generation_prompt: bool) -> list[int]:
    pairs = ((message.role, message.text) for message in messages)
    return tokenizer.encode_chat(pairs, add_generation_prompt=add_generation_prompt)


def _fingerprint(settings: EmulatorSettings) -> str:
    """Equal for engines that give the same answers: the connector is not part of it."""
    shape = json.dumps([settings.model, settings.max_model_len, settings.block_size])
    return f"vllm-{VERSION}-{hashlib.sha256(shape.encode()).hexdigest()[:8]}"


def _vllm_config(settings: EmulatorSettings) -> dict[str, Any]:
    """The parts of vLLM's resolved configuration that say how a result came about."""
    connector = CONNECTOR_CLASSES.get(settings.connector)
    return {
        "model_config": {"model": settings.model, "max_model_len": settings.max_model_len},
        "cache_config": {
            "block_size": settings.block_size,
            "num_gpu_blocks": settings.device_blocks,
            "enable_prefix_caching": True,
        },
        "scheduler_config": {
            "max_num_batched_tokens": settings.max_batched_tokens,
            "max_num_seqs": settings.max_num_seqs,
        },
        "parallel_config": {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "data_parallel_size": 1},
        "kv_transfer_config": {"kv_connector": connector, "kv_role": "kv_both"} if connector else None,
    }
