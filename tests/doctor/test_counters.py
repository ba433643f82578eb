"""What kvkit doctor reads from live counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from kvkit.doctor.counters import CountersError, look
from tests.ports import free_ports

Serve = Callable[[str], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def start(body: str) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/metrics"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


TEXTS = {
    "counters.external.never_hit": 'vllm:external_prefix_cache_queries_total{engine="0"} 9000\n'
    'vllm:external_prefix_cache_hits_total{engine="0"} 0\n',
    "counters.store.failed_keys": 'vllm:mooncake_store_operation_failed_keys_total{operation="load_get"} 3\n',
    "counters.preemptions": "vllm:num_preemptions_total 2\n",
    "counters.lmcache.second_tier_never_hit": "lmcache_mp_lookup_requested_tokens_total 900\n",
    "counters.mooncake.store_full": "master_put_start_alloc_failures_total 4\n",
    "counters.mooncake.no_segment": "master_total_capacity_bytes 0\n",
}


@pytest.mark.parametrize(
    ("id", "text"), [pytest.param(id, text, id=id, marks=pytest.mark.planted(id)) for id, text in TEXTS.items()]
)
def test_counters_of_a_known_failure_are_named(serve: Serve, id: str, text: str) -> None:
    assert [finding.id for finding in look(serve(text)) if finding.status != "pass"] == [id]


def test_healthy_counters_pass(serve: Serve) -> None:
    (finding,) = look(serve("vllm:external_prefix_cache_queries_total 9\nvllm:external_prefix_cache_hits_total 8\n"))
    assert finding.status == "pass"


def test_another_server_is_refused(serve: Serve) -> None:
    with pytest.raises(CountersError, match="not as vLLM, LMCache or Mooncake"):
        list(look(serve("hello")))


def test_nobody_is_refused() -> None:
    (port,) = free_ports(1)
    with pytest.raises(CountersError, match="no counters"):
        list(look(f"http://127.0.0.1:{port}/metrics"))
