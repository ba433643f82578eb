"""A chat completion on the wire: the chunks of a stream, or the whole, field by field as vLLM 0.32 writes them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Send

from kvkit.emulator.engine.core import Engine
from kvkit.emulator.engine.protocol import ApiError, error_body
from kvkit.emulator.engine.request import EngineRequest, Output
from kvkit.emulator.settings import FaultKind

DONE = "data: [DONE]\n\n"

AFTER_FIRST_TOKEN = (FaultKind.BROKEN_STREAM, FaultKind.ERROR_EVENT, FaultKind.STALL)


class StreamCutError(Exception):
    """The connection is to be closed although the response has not ended."""


class EventStream(StreamingResponse):
    """A stream of events that can be cut, and that says when it is over: at its end, or when the client has gone."""

    def __init__(self, events: AsyncIterator[str], over: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._over = over

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except StreamCutError:
            return  # uvicorn closes the connection of a response that never ended
        finally:
            self._over()


class Completion:
    """The answer to one request, in both of its forms."""

    def __init__(self, engine: Engine, request: EngineRequest, fingerprint: str) -> None:
        self._engine = engine
        self._request = request
        self._fingerprint = fingerprint
        self._created = int(time.time())

    def stream(self, *, include_usage: bool, fault: FaultKind) -> EventStream:
        """The answer as a stream. A client that leaves aborts the request."""
        events = self._events(include_usage=include_usage, fault=fault)
        return EventStream(events, over=lambda: self._engine.end(self._request, "abort"))

    async def _events(self, *, include_usage: bool, fault: FaultKind) -> AsyncIterator[str]:
        """The role, the tokens, the usage if it is asked for, `[DONE]`."""
        output = await self._request.outputs.get()
        yield self._role_chunk()
        while output.text is not None:
            yield self._token_chunk(output, with_fingerprint=not include_usage)
            if fault in AFTER_FIRST_TOKEN:
                output = await self._fail(fault)
            elif output.finish_reason:
                break
            else:
                output = await self._request.outputs.get()
        if output.finish_reason == "abort":
            raise StreamCutError
        if output.finish_reason == "error":
            yield _event(error_body(500, "InternalServerError", "Internal server error"))
        elif include_usage and fault is not FaultKind.NO_USAGE:
            yield self._usage_chunk()
        yield DONE

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece.

        Raises:
            ApiError: the request ended without one.
        """
        text = ""
        finish_reason = None
        while finish_reason is None:
            output = await self._request.outputs.get()
            text += output.text or ""
            finish_reason = output.finish_reason
        if finish_reason in ("abort", "error"):
            raise ApiError(500, "InternalServerError", "Internal server error")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None, "reasoning": None},
            "logprobs": None,
            "finish_reason": finish_reason,
            "stop_reason": None,
            "token_ids": None,
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "system_fingerprint": self._fingerprint,
            "usage": self._usage(),
        }

    async def _fail(self, fault: FaultKind) -> Output:
        """What the fault puts in the place of the second token."""
        if fault is FaultKind.ERROR_EVENT:
            self._engine.end(self._request, "error")
            return Output(None, "error")
        if fault is FaultKind.STALL:
            await self._engine.stopping.wait()
        return Output(None, "abort")

    def _role_chunk(self) -> str:
        delta = {"role": "assistant", "content": ""}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return _event({**self._chunk([choice]), "prompt_token_ids": None, "prompt_text": None})

    def _token_chunk(self, output: Output, *, with_fingerprint: bool) -> str:
        choice = {
            "index": 0,
            "delta": {"content": output.text},
            "logprobs": None,
            "finish_reason": output.finish_reason,
            **({"stop_reason": None} if output.finish_reason else {}),
            "token_ids": None,
        }
        chunk = self._chunk([choice])
        if output.finish_reason and with_fingerprint:
            chunk["system_fingerprint"] = self._fingerprint
        return _event(chunk)

    def _usage_chunk(self) -> str:
        return _event({**self._chunk([]), "usage": self._usage(), "system_fingerprint": self._fingerprint})

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk"), "choices": choices}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._request.request_id,
            "object": kind,
            "created": self._created,
            "model": self._engine.settings.model,
        }

    def _usage(self) -> dict[str, Any]:
        request = self._request
        full_blocks = len(request.hashes) * self._engine.settings.block_size
        return {
            "prompt_tokens": request.prompt_tokens,
            "total_tokens": request.total_tokens,
            "completion_tokens": request.generated,
            "prompt_tokens_details": {
                "cached_tokens": request.cached_tokens,
                "created_cache_tokens": max(0, full_blocks - request.cached_tokens),
            },
        }


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
