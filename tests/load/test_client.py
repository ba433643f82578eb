"""The streaming client against a server whose every byte is known."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Sequence
from types import SimpleNamespace

import httpx
import pytest

from kvkit.load import client as client_module
from kvkit.load.answer import Exchange, read_answer, to_record
from kvkit.load.client import ChatClient, ChatSettings
from kvkit.results.record import Record
from kvkit.workload.request import Message, Request
from tests.load import chunks
from tests.load.chunks import DONE, delta, role, usage
from tests.load.scripted import STALL, ScriptedServer, serving

KEY = "sk-very-secret"
REQUEST = Request("r-1", "group", (Message("user", "hello"),), prompt_tokens=100, max_tokens=3)


async def ask(url: str, *, timeout_s: float = 20.0, times: int = 1) -> list[Record]:
    """Send the request, one after the other, on a round that began at 0 of the clock."""
    async with ChatClient(ChatSettings(url, model="m", temperature=0.5, timeout_s=timeout_s, api_key=KEY)) as chat:
        return [to_record_of(await chat.exchange(chat.encode(REQUEST))) for _ in range(times)]


def to_record_of(exchange: Exchange) -> Record:
    answer = read_answer(exchange)
    return to_record(REQUEST, exchange, answer, round_number=1, epoch_s=0.0, scheduled_s=0.0, secret=KEY)


def answer_to(pieces: Sequence[bytes], *, head: bytes | None = None, timeout_s: float = 20.0) -> Record:
    async def scenario() -> Record:
        server = ScriptedServer(pieces) if head is None else ScriptedServer(pieces, head)
        async with serving(server):
            return (await ask(server.url, timeout_s=timeout_s))[0]

    return asyncio.run(scenario())


def test_every_stamp_lies_between_the_sending_of_its_event_and_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends an event only when the client has read the one before: no clock threshold is needed."""
    pieces = [role(), delta(content=""), delta(content="a"), delta("stop", content="b"), usage(completion=3), DONE]

    async def scenario() -> tuple[ScriptedServer, Record]:
        stamped, arrived = asyncio.Semaphore(1), Exchange.arrived

        def tell(exchange: Exchange, read: bytes, at_s: float) -> None:
            arrived(exchange, read, at_s)
            stamped.release()

        async def wait() -> None:
            await stamped.acquire()

        monkeypatch.setattr(Exchange, "arrived", tell)
        async with serving(ScriptedServer(pieces, before_piece=wait)) as server:
            return server, (await ask(server.url))[0]

    server, seen = asyncio.run(scenario())
    _role, token_1, token_2, token_3, sent_usage, _done = server.sent_s
    assert seen.ok
    assert seen.start_s <= server.received_s[0]
    assert seen.ttft_s is not None
    assert seen.first_text_s is not None
    assert seen.e2e_s is not None
    assert token_1 <= seen.start_s + seen.ttft_s <= token_2
    assert token_2 <= seen.start_s + seen.first_text_s <= token_3
    assert token_3 <= seen.start_s + seen.e2e_s <= sent_usage
    assert len(seen.itl_s) == 2
    assert sum(seen.itl_s) == pytest.approx(seen.e2e_s - seen.ttft_s)
    assert seen.completion_tokens == 3


def test_what_is_sent() -> None:
    async def scenario() -> bytes:
        async with serving(ScriptedServer(chunks.good())) as server:
            await ask(server.url)
            return server.requests[0]

    head, _, body = asyncio.run(scenario()).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}".encode() in head.lower()
    assert b"accept-encoding: identity" in head.lower()
    assert json.loads(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 3,
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_connection_is_used_again_and_only_the_first_request_has_set_it_up() -> None:
    async def scenario() -> tuple[int, list[Record]]:
        async with serving(ScriptedServer(chunks.good())) as server:
            records = await ask(server.url, times=3)
            return server.connections, records

    connections, records = asyncio.run(scenario())
    assert connections == 1
    assert [record.connect_s is None for record in records] == [False, True, True]
    assert all(record.ok for record in records)


def test_setting_up_the_connection_is_no_part_of_ttft(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on by a second whenever somebody looks at it."""
    clock = itertools.count()
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    seen = answer_to([b"".join(chunks.good())])
    # 0: asked for; 1 to 2: connecting; 3: the first byte is written; 4: the only read
    assert (seen.connect_s, seen.start_s, seen.ttft_s) == (1.0, 3.0, 1.0)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert answer_to(chunks.good()).ok


def test_a_stream_without_length_that_ends_before_done_is_broken() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    assert answer_to([role(), delta(content="a")], head=head).error_kind == "broken_stream"


def test_a_stream_that_stalls_ends_at_the_time_limit_and_keeps_its_stamps() -> None:
    seen = answer_to([role(), delta(content="a"), STALL], timeout_s=2.0)
    assert (seen.ok, seen.error_kind) == (False, "timeout")
    assert seen.error == "no end within 2 s"
    assert seen.ttft_s is not None


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_an_http_error_is_counted_by_its_status(status: int) -> None:
    body = json.dumps({"error": {"message": f"the key {KEY} is wrong"}}).encode()
    head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    seen = answer_to([body], head=head)
    assert (seen.ok, seen.failure, seen.http_status) == (False, f"http_{status}", status)
    assert seen.error == "the key *** is wrong"


def test_a_redirect_is_not_followed() -> None:
    head = b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:9/v1\r\nContent-Length: 0\r\n\r\n"
    assert answer_to([], head=head).failure == "http_307"


def test_an_answer_that_is_not_http_is_a_broken_stream() -> None:
    assert answer_to([b"220 mail.example.org ESMTP\r\n\r\n"], head=b"SSH-2.0-").error_kind == "broken_stream"


def test_a_port_where_nothing_listens_is_unreachable() -> None:
    with socket.socket() as bound_but_silent:
        bound_but_silent.bind(("127.0.0.1", 0))
        port = bound_but_silent.getsockname()[1]
        seen = asyncio.run(ask(f"http://127.0.0.1:{port}/v1"))[0]
    assert (seen.ok, seen.error_kind, seen.http_status) == (False, "unreachable", None)
    assert str(port) in (seen.error or "")


def test_a_host_without_an_address_is_unreachable() -> None:
    assert asyncio.run(ask("http://no-such-host.invalid/v1"))[0].error_kind == "unreachable"


def test_an_answer_that_drips_for_ever_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its reads is within the limit."""
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT_S", 0.3)

    async def scenario() -> None:
        async def between() -> None:
            await asyncio.sleep(0.02)

        server = ScriptedServer([b"{"] * 1000, before_piece=between)
        async with serving(server), client_module.open_http() as http:
            await http.post(server.url, content=b"{}")

    with pytest.raises(httpx.ReadTimeout, match=r"no whole answer within 0\.3 s"):
        asyncio.run(scenario())
