"""A server that says, byte for byte, what a test wrote down, in step with the client that reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CUT = b""
"""In place of a piece: the connection is reset here."""
STALL = b"\0stall"
"""In place of a piece: nothing more is sent, and the connection stays open."""


@dataclass
class ScriptedServer:
    """Answers every request with the same script. All stamps are of the monotonic clock of this process."""

    pieces: Sequence[bytes]
    head: bytes = HEAD
    before_piece: Callable[[], Awaitable[None]] | None = None
    """Awaited before each piece: a test makes the server wait here until the client has read the one before."""
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request has arrived."""
    received_s: list[float] = field(default_factory=list)
    """When each request had arrived."""
    sent_s: list[float] = field(default_factory=list)
    """Just before each piece of the last answer was written."""
    connections: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                self.received_s.append(time.monotonic())
                self.asked.set()
                await self._say(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter) -> None:
        self.sent_s = []
        writer.write(self.head)
        for piece in self.pieces:
            if self.before_piece is not None:
                await self.before_piece()
            if piece == CUT:
                writer.transport.abort()
                raise ConnectionAbortedError
            if piece == STALL:
                await asyncio.Event().wait()
            self.sent_s.append(time.monotonic())
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if b"chunked" in self.head else piece)
            await writer.drain()
        if b"chunked" in self.head:
            writer.write(b"0\r\n\r\n")
        else:
            raise ConnectionAbortedError  # the body's end is the connection's


@asynccontextmanager
async def serving(server: ScriptedServer) -> AsyncIterator[ScriptedServer]:
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()
