"""One streaming chat completion over the wire: stamps and bytes, read with as little between as possible.

httpx with aiohttp as its transport: stock httpx adds seconds to TTFT at a burst of 128 connections, because its pool
scans linearly (encode/httpx #3215).
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import time
from contextvars import ContextVar
from types import SimpleNamespace

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from kvkit.load.answer import Exchange, Failure, to_record
from kvkit.load.sse import EventReader
from kvkit.results.record import ErrorKind, Record
from kvkit.workload.request import Request

CONNECT_TIMEOUT_S = 30.0
"""An address that swallows packets is unreachable after this time, not only after the request's own limit."""

ANSWER_TIMEOUT_S = 120.0
"""For single questions. A measured request has its own limit."""

KEEPALIVE_S = 3.0
"""Idle connections are given up before the server does it (uvicorn: 5 s): a request on one that is just being closed
would fail, and a POST is never sent twice."""

_BODY_HEAD = 4096
"""Bytes of an answer that are kept for its words; more of an error page is not read."""

_exchange: ContextVar[Exchange] = ContextVar("exchange")
"""The exchange that the requests of this task belong to."""


def open_http(api_key: str | None = None) -> httpx.AsyncClient:
    """A client with no connection limit, no retries, no redirects and no proxy from the environment.

    It sends the API key, if it gets one, and asks for no compression: a compressor holds events back.
    """
    authorization = {"Authorization": f"Bearer {api_key}"} if api_key is not None else {}
    return httpx.AsyncClient(
        transport=AiohttpTransport(client=_open_session, verify=_trusted_by_the_system()),
        headers={**authorization, "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        trust_env=False,
        follow_redirects=False,
    )


@functools.cache
def _trusted_by_the_system() -> ssl.SSLContext:
    return ssl.create_default_context()


def _open_session() -> aiohttp.ClientSession:
    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(_stamp_start)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=_trusted_by_the_system()),
        trace_configs=[tracing],
        trust_env=False,
    )


async def _stamp_start(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    """Called when a connection is there and the first byte is about to be written: connecting is not part of TTFT."""
    if (exchange := _exchange.get(None)) is not None:
        exchange.start_s = time.monotonic()
        exchange.written = True


class ChatClient:
    """Sends workload requests to one model of one server.

    Args:
        http: from `open_http`.
        base_url: ends with `/v1`.
        model: the served name.
        temperature: sampling temperature of every request.
        timeout_s: a request that has not ended by then has failed.
        api_key: kept out of every error text.
    """

    def __init__(
        self, http: httpx.AsyncClient, *, base_url: str, model: str, temperature: float, timeout_s: float, api_key: str
    ) -> None:
        self._http = http
        self._url = f"{base_url}/chat/completions"
        self._model = model
        self._temperature = temperature
        self._timeout_s = timeout_s
        self._api_key = api_key

    async def send(self, request: Request, *, round_number: int, epoch_s: float, scheduled_s: float) -> Record:
        """Send one request and record what came back. Failures are recorded, never raised.

        Args:
            request: what to send.
            round_number: 1 is the cold start.
            epoch_s: the round's start on the monotonic clock.
            scheduled_s: when the request was to start, on the same clock.
        """
        exchange = await self.exchange(request)
        return to_record(
            request,
            exchange,
            round_number=round_number,
            epoch_s=epoch_s,
            scheduled_s=scheduled_s,
            secret=self._api_key,
        )

    async def exchange(self, request: Request) -> Exchange:
        """Send one request and keep its stamps and bytes."""
        body = self._body(request)
        exchange = Exchange(start_s=time.monotonic())
        stamping = _exchange.set(exchange)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._stream(body, exchange)
        except TimeoutError:
            exchange.failure = Failure("timeout", f"no end within {self._timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError) as error:
            # httpx-aiohttp maps a reset connection to a connect timeout: what was written decides, not the class.
            kind: ErrorKind = "broken_stream" if exchange.written else "unreachable"
            exchange.failure = Failure(kind, str(error) or type(error).__name__)
        finally:
            _exchange.reset(stamping)
        return exchange

    async def _stream(self, body: bytes, exchange: Exchange) -> None:
        reader = EventReader()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        # Reads have no limit of their own: the whole exchange has one.
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        async with self._http.stream("POST", self._url, content=body, headers=headers, timeout=timeout) as response:
            exchange.status = response.status_code
            async for read in response.aiter_raw():
                at_s = time.monotonic()
                if response.status_code == 200:
                    exchange.events += reader.feed(read, at_s)
                if len(exchange.body_head) < _BODY_HEAD:
                    exchange.body_head += read
                elif response.status_code != 200:
                    break

    def _body(self, request: Request) -> bytes:
        return json.dumps(
            {
                "model": self._model,
                "messages": [{"role": m.role, "content": m.content} for m in request.messages],
                "max_tokens": request.max_tokens,
                "temperature": self._temperature,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()
