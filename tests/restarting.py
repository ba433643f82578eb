"""Emulated engines beside a store of their own, and a command that restarts one as an operator's would."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kvkit.emulator import Addresses, running
from tests.benching import FAST, in_thread
from tests.ports import free_ports

CALL = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], b'')"


@dataclass
class Deployment:
    """An engine whose store is another process in all but name: it survives the engine, and can be stopped alone."""

    store: ExitStack
    store_addresses: Addresses
    addresses: Addresses
    """Those of the engine, and where the store's counters are."""
    restart_command: tuple[str, ...] = ()

    def stop_store(self) -> None:
        self.store.close()

    @contextmanager
    def second_engine(self) -> Iterator[str]:
        """The root address of another engine with the same store."""
        settings = replace(FAST, role="engine", store_address=self.store_addresses.store_rpc or "")
        with in_thread(running(settings)) as addresses:
            yield addresses.engine or ""


@contextmanager
def deployed() -> Iterator[Deployment]:
    with ExitStack() as everything:
        store = everything.enter_context(ExitStack())
        stored = store.enter_context(in_thread(running(replace(FAST, role="store"))))
        (port,) = free_ports(1)
        settings = replace(FAST, role="engine", port=port, store_address=stored.store_rpc or "")
        engine = everything.enter_context(ExitStack())
        started = engine.enter_context(in_thread(running(settings)))

        def restart() -> None:
            engine.close()
            engine.enter_context(in_thread(running(settings)))

        control = everything.enter_context(_calling(restart))
        yield Deployment(
            store=store,
            store_addresses=stored,
            addresses=replace(started, store_metrics=stored.store_metrics),
            restart_command=(sys.executable, "-c", CALL, control),
        )


@contextmanager
def _calling(what: Callable[[], None]) -> Iterator[str]:
    """An address; who posts to it has `what` called, and gets an answer when it is done."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            what()
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *_: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
