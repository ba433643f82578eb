"""An engine that stamps itself: streams tokens at a steady pace, and tells when requests came and first tokens went.

    python benchmarks/stamping_server.py --core 0

Prints its port. A request's content is `<id> <seconds between tokens>`, its `max_tokens` the number of tokens.
`GET /stamps` gives `{id: [first byte of the request read, first token written]}`, seconds of CLOCK_MONOTONIC, which all
processes of a machine share, and forgets them. A bare protocol: whoever reads it is slower.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from typing import Any

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(event: bytes) -> bytes:
    return b"%x\r\ndata: %s\n\n\r\n" % (len(event) + 8, event)


def delta(fields: dict[str, str], finish_reason: str | None = None) -> bytes:
    """As long as vLLM's."""
    data = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "model",
        "choices": [{"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish_reason}],
    }
    return chunk(json.dumps(data).encode())


ROLE = delta({"role": "assistant", "content": ""})
TOKEN = delta({"content": " word"})
LAST_TOKEN = delta({"content": " word"}, "length")


def ending(tokens: int) -> bytes:
    usage = {"prompt_tokens": 1, "completion_tokens": tokens}
    return chunk(json.dumps({"choices": [], "usage": usage}).encode()) + chunk(b"[DONE]") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    def __init__(self, stamps: dict[str, list[float]]) -> None:
        self._stamps = stamps
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._received_s = time.monotonic()
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended:
            return
        if head.startswith(b"GET"):
            self._received = b""
            self._tell_stamps()
        elif len(body) == int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            self._received = b""
            self._answer(json.loads(body))

    def _tell_stamps(self) -> None:
        body = json.dumps(self._stamps).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        self._stamps.clear()

    def _answer(self, request: dict[str, Any]) -> None:
        self._id, gap = request["messages"][0]["content"].split()
        self._gap_s = float(gap)
        self._tokens = self._left = int(request["max_tokens"])
        self._transport.write(HEAD + ROLE)
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + self._gap_s
        self._loop.call_at(self._due_s, self._send_token)

    def _send_token(self) -> None:
        if self._transport.is_closing():
            return
        if self._left == self._tokens:
            self._stamps[self._id] = [self._received_s, time.monotonic()]
        self._left -= 1
        if self._left:
            self._transport.write(TOKEN)
            self._due_s += self._gap_s
            self._loop.call_at(self._due_s, self._send_token)
        else:
            self._transport.write(LAST_TOKEN + ending(self._tokens))


async def serve(core: int) -> None:
    os.sched_setaffinity(0, {core})
    stamps: dict[str, list[float]] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stamps), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().core))
