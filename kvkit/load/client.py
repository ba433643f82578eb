"""One streaming chat completion over the wire: stamps and bytes, read with as little between as possible.

httpx with aiohttp as its transport: stock httpx adds seconds to TTFT at a burst of 128 connections, because its pool
scans linearly (encode/httpx #3215). Measured requests are handed to the transport itself, ready made, and their reads
are stamped and kept as they come: nothing is encoded, merged or parsed while streams are open.
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from kvkit.config import Config
from kvkit.load.answer import BODY_HEAD, Exchange, Failure
from kvkit.results.record import ErrorKind
from kvkit.workload.request import Request

CONNECT_TIMEOUT_S = 30.0
"""An address that swallows packets is unreachable after this time, not only after the request's own limit."""

ANSWER_TIMEOUT_S = 120.0
"""For single questions. A measured request has its own limit."""

KEEPALIVE_S = 3.0
"""Idle connections are given up before the server does it (uvicorn: 5 s): a request on one that is just being closed
would fail, and a POST is never sent twice."""

_exchange: ContextVar[Exchange] = ContextVar("exchange")
"""The exchange that the requests of this task belong to."""


def open_http(api_key: str | None = None) -> httpx.AsyncClient:
    """A client with no connection limit, no retries, no redirects and no proxy from the environment.

    It sends the API key, if it gets one, and asks for no compression: a compressor holds events back.
    """
    return _Asking(
        transport=_open_transport(),
        headers=_headers(api_key),
        timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        trust_env=False,
        follow_redirects=False,
    )


class _Asking(httpx.AsyncClient):
    """Ends an exchange after its limit as a whole: a server that drips bytes keeps every single read within it."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        limit_s = request.extensions["timeout"]["read"]
        try:
            async with asyncio.timeout(limit_s):
                return await super().send(request, **options)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no whole answer within {limit_s:g} s", request=request) from None


def _headers(api_key: str | None) -> dict[str, str]:
    authorization = {"Authorization": f"Bearer {api_key}"} if api_key is not None else {}
    return {**authorization, "Accept-Encoding": "identity"}


def _open_transport() -> AiohttpTransport:
    return AiohttpTransport(client=_open_session, verify=_trusted_by_the_system())


@functools.cache
def _trusted_by_the_system() -> ssl.SSLContext:
    return ssl.create_default_context()


def _open_session() -> aiohttp.ClientSession:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(_connection_begins)
    tracing.on_connection_create_end.append(_connection_is_there)
    tracing.on_request_chunk_sent.append(_body_is_written)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=_trusted_by_the_system()),
        trace_configs=[tracing],
        trust_env=False,
    )


async def _connection_begins(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateStartParams
) -> None:
    context.began_s = time.monotonic()


async def _connection_is_there(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    if (exchange := _exchange.get(None)) is not None:
        exchange.connect_s = time.monotonic() - context.began_s


async def _body_is_written(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestChunkSentParams
) -> None:
    """Called just before the first byte is written: aiohttp keeps the head back and writes it together with the body.

    It "sends" the head much earlier in a burst: the bodies are written by tasks that come after all heads.
    """
    exchange = _exchange.get(None)
    if exchange is not None and not exchange.written:
        exchange.start_s = time.monotonic()
        exchange.written = True


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Whom to ask, and how."""

    base_url: str
    """Ends with `/v1`."""
    model: str
    """The served name."""
    temperature: float
    timeout_s: float
    """A request that has not ended by then has failed."""
    api_key: str = field(repr=False)

    @classmethod
    def of(cls, config: Config) -> Self:
        api = config.openai_api
        return cls(
            base_url=api.base_url,
            model=api.model_name,
            temperature=config.model.temperature,
            timeout_s=config.test.request_timeout_s,
            api_key=api.api_key.get_secret_value(),
        )


class ChatClient:
    """Sends workload requests to one model of one server, on connections of its own; closes them at its exit."""

    def __init__(self, settings: ChatSettings) -> None:
        self.settings = settings
        self._transport = _open_transport()
        self._url = httpx.URL(f"{settings.base_url}/chat/completions")
        self._headers = {
            **_headers(settings.api_key),
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    def encode(self, request: Request) -> httpx.Request:
        """The request as it goes over the wire. Encoded before a round, so that sending costs the loop little."""
        # Reads have no limit of their own: the whole exchange has one.
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        return httpx.Request(
            "POST",
            self._url,
            headers=self._headers,
            content=self._body(request),
            extensions={"timeout": timeout.as_dict()},
        )

    async def exchange(self, encoded: httpx.Request) -> Exchange:
        """Send one request and keep its stamps and bytes. Failures are kept too, never raised."""
        exchange = Exchange(start_s=time.monotonic())
        stamping = _exchange.set(exchange)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                await self._stream(encoded, exchange)
        except TimeoutError:
            exchange.failure = Failure("timeout", f"no end within {self.settings.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError) as error:
            # httpx-aiohttp maps a reset connection to a connect timeout: what was written decides, not the class.
            kind: ErrorKind = "broken_stream" if exchange.written else "unreachable"
            exchange.failure = Failure(kind, str(error) or type(error).__name__)
        finally:
            _exchange.reset(stamping)
        return exchange

    async def _stream(self, encoded: httpx.Request, exchange: Exchange) -> None:
        response = await self._transport.handle_async_request(encoded)
        try:
            exchange.status = response.status_code
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for read in response.stream:
                exchange.arrived(read, time.monotonic())
                if exchange.status != 200 and sum(map(len, exchange.reads)) >= BODY_HEAD:
                    break
        finally:
            await response.aclose()

    def _body(self, request: Request) -> bytes:
        return json.dumps(
            {
                "model": self.settings.model,
                "messages": [{"role": m.role, "content": m.content} for m in request.messages],
                "max_tokens": request.max_tokens,
                "temperature": self.settings.temperature,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()
