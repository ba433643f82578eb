"""Serves an emulated deployment: binds its ports, runs its servers in one event loop, ends them together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import uvicorn
from starlette.types import ASGIApp

from kvkit.emulator.engine.api import engine_app
from kvkit.emulator.engine.core import Engine
from kvkit.emulator.errors import EmulatorError
from kvkit.emulator.settings import EmulatorSettings, Role
from kvkit.emulator.store.api import metadata_app, metrics_app, rpc_app
from kvkit.emulator.store.tier import Tier

Port = Literal["engine", "store_rpc", "store_metrics", "store_metadata"]

STORE_PORTS: tuple[Port, ...] = ("store_rpc", "store_metrics", "store_metadata")
PORTS_OF_ROLE: Mapping[Role, tuple[Port, ...]] = {
    "all": ("engine", *STORE_PORTS),
    "engine": ("engine",),
    "store": STORE_PORTS,
}

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

SHUTDOWN_LIMIT_S = 5
"""Connections that have not ended by then are cut."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running deployment answers; `None` for what its role does not serve."""

    engine: str | None = None
    """`http://host:port`; the OpenAI interface lies under `/v1`."""
    store_rpc: str | None = None
    """`host:port`, for `store_address` of other engines."""
    store_metrics: str | None = None
    """`http://host:port` of the master's metrics port."""
    store_metadata: str | None = None
    """`http://host:port` of the metadata server."""

    def describe(self) -> str:
        """One line per server, for people and for logs."""
        lines = {
            "Emulated engine": self.engine and f"{self.engine}/v1",
            "Emulated Mooncake store": self.store_rpc,
            "  metrics": self.store_metrics and f"{self.store_metrics}/metrics",
            "  metadata": self.store_metadata and f"{self.store_metadata}/metadata",
        }
        return "\n".join(f"{name}: {address}" for name, address in lines.items() if address)


def serve(settings: EmulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT; says on standard output where, once everything answers.

    Raises:
        EmulatorError: a port is taken, or the engine finds no store.
    """
    asyncio.run(_serve(settings))


async def _serve(settings: EmulatorSettings) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in END_SIGNALS:
        loop.add_signal_handler(number, ended.set)
    async with running(settings) as addresses:
        print(addresses.describe(), flush=True)
        await ended.wait()


@contextlib.asynccontextmanager
async def running(settings: EmulatorSettings) -> AsyncIterator[Addresses]:
    """Serve while the block runs; yields the addresses, with the ports that the system chose where 0 was set.

    Raises:
        EmulatorError: a port is taken, or the engine finds no store.
    """
    with contextlib.ExitStack() as bound:
        listeners = {port: bound.enter_context(_listener(settings, port)) for port in PORTS_OF_ROLE[settings.role]}
        async with contextlib.AsyncExitStack() as stack:
            servers = await stack.enter_async_context(_Servers())
            if "store_rpc" in listeners:
                await servers.start(_store_apps(settings, listeners))
                settings = dataclasses.replace(settings, store_address=_authority(listeners["store_rpc"]))
            if "engine" in listeners:
                engine = await stack.enter_async_context(_stepping(settings))
                await servers.start([(engine_app(engine), listeners["engine"])])
            yield Addresses(
                engine=_url(listeners.get("engine")),
                store_rpc=_authority(listeners["store_rpc"]) if "store_rpc" in listeners else None,
                store_metrics=_url(listeners.get("store_metrics")),
                store_metadata=_url(listeners.get("store_metadata")),
            )


def _store_apps(
    settings: EmulatorSettings, listeners: Mapping[Port, socket.socket]
) -> list[tuple[ASGIApp, socket.socket]]:
    tier = Tier(settings.external_capacity_bytes)
    segment = _authority(listeners["store_rpc"])
    return [
        (rpc_app(tier), listeners["store_rpc"]),
        (metrics_app(tier, segment), listeners["store_metrics"]),
        (metadata_app(), listeners["store_metadata"]),
    ]


@contextlib.asynccontextmanager
async def _stepping(settings: EmulatorSettings) -> AsyncIterator[Engine]:
    """An engine at work. It stops before the servers do: its streams end, and it asks the store no more."""
    engine = Engine(settings)
    await engine.connect()
    steps = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        steps.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await steps


class _Server(uvicorn.Server):
    """A server among several in one loop: it leaves the signals alone and says when it answers."""

    def __init__(self, app: ASGIApp) -> None:
        # A connection that a client leaves or that a fault cuts is no news: uvicorn's own log stays silent.
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
        )
        super().__init__(config)
        self.answering = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.answering.set()


class _Servers:
    """Servers that start in any order and end together."""

    def __init__(self) -> None:
        self._running: list[tuple[_Server, asyncio.Task[None]]] = []

    async def start(self, apps: list[tuple[ASGIApp, socket.socket]]) -> None:
        """Answer on bound sockets from now on."""
        for app, listener in apps:
            server = _Server(app)
            self._running.append((server, asyncio.create_task(server.serve(sockets=[listener]))))
            await server.answering.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server, _task in self._running:
            server.should_exit = True
        await asyncio.gather(*(task for _server, task in self._running))


def _listener(settings: EmulatorSettings, port: Port) -> socket.socket:
    """The bound socket of one port.

    Raises:
        EmulatorError: the address cannot be had.
    """
    host, number = {
        "engine": (settings.host, settings.port),
        "store_rpc": (settings.store_host, settings.store_rpc_port),
        "store_metrics": (settings.store_host, settings.metrics_port),
        "store_metadata": (settings.store_host, settings.metadata_port),
    }[port]
    try:
        listener = socket.create_server((host, number))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise EmulatorError(
            f"Cannot listen on {host}:{number} ({port.replace('_', ' ')} port): {reason}. "
            f"Stop what uses it, choose another port, or 0 for any free one."
        ) from error
    # Inherited by every connection. asyncio sets it only on sockets whose protocol is named, and with Nagle's
    # algorithm an event waits for the acknowledgement of the one before it: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket | None) -> str | None:
    return f"http://{_authority(listener)}" if listener else None


def _authority(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"
