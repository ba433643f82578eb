"""What kvkit doctor reads from logs: one line of each known failure, and logs in which nothing is wrong."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvkit.cli import app
from kvkit.doctor.logs import diagnose, read
from kvkit.ending import Ending

GLOG = "E1122 15:05:09.851833 4242 "

LINES = {
    "log.lmcache.degraded": "\x1b[33m[2026-11-22 15:05:09,851] LMCache ERROR:\x1b[0m Failed to initialize "
    "LMCacheManager components: boom. System will operate in degraded mode (recompute). (manager.py:1:m)",
    "log.lmcache.unhealthy": "\x1b[33;20m[2026-11-25 23:13:41,391] LMCache WARNING:\x1b[0m LMCache server is "
    "unhealthy — entering degraded mode \x1b[3m(vllm_multi_process_adapter.py:614:m)\x1b[0m",
    "log.lmcache.no_device_connector": "RuntimeError: No supported cpu connector found.",
    "log.lmcache.remote_connection": "LMCache ERROR: Failed to initialize/re-establish remote connection: timeout",
    "log.lmcache.mooncake_missing": "ImportError: Please install mooncake by following the instructions",
    "log.lmcache.unknown_key": "LMCache WARNING: Unknown configuration key: bogus (source: file: /etc/l.yaml)",
    "log.lmcache.value_dropped": "Failed to convert value for max_local_cpu_size='20 GB': could not convert",
    "log.lmcache.hash_seed": "LMCache WARNING: Using builtin hash without PYTHONHASHSEED set.",
    "log.lmcache.not_retrieved": "LMCache INFO: [req_id=a] Retrieved 0 out of 256 required tokens",
    "log.lmcache.memory_pressure": "Local cpu memory under pressure so choosing to store only 3 chunks",
    "log.lmcache.put_timeout": "Timeout during batch_put_from; some decoders may redo prefill.",
    "log.mooncake.client_not_available": GLOG + "master_client.cpp:361] Client not available",
    "log.mooncake.get_failed": "batch_get_into failed for key k (code=-704)",
    "log.mooncake.store_full": "Detected Mooncake CPU/disk offloading pressure (NO_AVAILABLE_HANDLE)",
    "log.mooncake.no_rdma_device": GLOG + "topology.cpp:99] No RDMA devices found, check your device installation",
    "log.mooncake.gid": GLOG + "rdma_context.cpp:9] GID is NULL, please check your GID index",
    "log.mooncake.port_not_active": GLOG + "rdma_context.cpp:9] Device mlx5_1 port not active",
    "log.mooncake.queue_pair": GLOG + "rdma_endpoint.cpp:9] Failed to modify QP to RTR, check mtu, gid, peer lid",
    "log.mooncake.register_memory": GLOG + "rdma_context.cpp:9] Failed to register memory 0x7f",
    "log.mooncake.protocol": GLOG + "client.cpp:9] unsupported_protocol protocol=foo",
    "log.mooncake.admin_port": "Failed to start master admin server on 127.0.0.1:9004: Address already in use",
    "log.vllm.load_failed": "Request chatcmpl-1 failed to load 5760 tokens across 45 blocks",
    "log.vllm.engine_dead": "ERROR 11-22 core.py:9] EngineCore failed to start.",
    "log.vllm.hung_worker": "No available shared memory broadcast block found in 60 seconds",
    "log.vllm.memory_taken": "Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU",
    "log.vllm.store_setup": "RuntimeError: Initialize MooncakeDistributedStore failed.",
    "log.vllm.hma_off": "WARNING Turning off hybrid kv cache manager because `--kv-transfer-config` selects",
    "log.vllm.module_moved": "ModuleNotFoundError: No module named 'lmcache.integration.vllm.vllm_v1_adapter'",
}

LYING = (
    "LMCache INFO: LMCache initialized for role KVConnectorRole.WORKER with version 0.5.6",
    "LMCache INFO: Connected to remote storage at mooncakestore://10.0.0.1:50051/",
    "LMCache INFO: Mooncake store setup completed successfully",
    "[req_id=1] Stored 256 out of total 300 tokens.",
)
"""They are printed in degraded mode too."""

HEALTHY = {
    "in-process": (
        "I1122 15:05:09.8 1 real_client.cpp:900] Successfully created client on port 12345 after 1 attempt(s)",
        "Reqid: 1, Total tokens 3000, Inference Engine computed tokens: 0, LMCache hit tokens: 2816, need to load: 99",
        "[req_id=1] Retrieved 2816 out of 2816 required tokens (from 3000 total tokens).",
    ),
    "multiprocess": (
        "http=404 body: metadata not found",
        "Prefetch request completed (L1+L2): 33/33 retained keys (0 L1, 33 L2) in 20 ms",
        "Retrieved 8448 tokens in 0.2 seconds",
    ),
    "mooncake-store": ("Mooncake load tier summary: req_id=1 memory_keys=45 disk_keys=0",),
}


def bad(lines: Iterator[str] | tuple[str, ...] | list[str]) -> list[str]:
    return [one.finding.id for one in diagnose(lines, "log") if one.finding.status != "pass"]


@pytest.mark.parametrize(
    ("id", "line"), [pytest.param(id, line, id=id, marks=pytest.mark.planted(id)) for id, line in LINES.items()]
)
def test_a_line_of_a_known_failure_is_named(id: str, line: str) -> None:
    assert bad(["INFO a line before", line, "INFO a line after"]) == [id]


@pytest.mark.planted("log.mooncake.metadata")
def test_a_missing_own_key_is_harmless_once() -> None:
    line = "http=404 body: metadata not found"
    assert bad([line]) == []
    assert bad([line, line]) == ["log.mooncake.metadata"]


@pytest.mark.planted("log.mooncake.tcp_fallback")
def test_tcp_is_a_fault_where_rdma_was_asked_for() -> None:
    tcp = "I1122 tcp_transport.cpp:9] TcpTransport: listen on port 15130"
    assert bad([tcp]) == []
    assert bad(["MooncakeStoreConfig(setup_config={'protocol': 'rdma'})", tcp]) == ["log.mooncake.tcp_fallback"]


def requests(hits: int, loads: int) -> list[str]:
    told = f"LMCache hit tokens: {hits}, need to load: {loads}"
    return [f"Reqid: 1, Total tokens 900, Inference Engine computed tokens: 0, {told}"] * 8


@pytest.mark.planted("log.lmcache.never_hit")
def test_requests_that_never_hit() -> None:
    assert bad(requests(0, 0)) == ["log.lmcache.never_hit"]


@pytest.mark.planted("log.vllm.device_cache_only")
def test_hits_that_vllm_had_already() -> None:
    assert bad(requests(768, -16)) == ["log.vllm.device_cache_only"]


def test_the_older_form_of_the_line_is_read_too() -> None:
    assert bad(["Reqid: 1, Total tokens 900, LMCache hit tokens: 0, need to load: 0"] * 8) == ["log.lmcache.never_hit"]


@pytest.mark.parametrize("lines", HEALTHY.values(), ids=HEALTHY.keys())
def test_a_healthy_log_shows_evidence_and_no_failure(lines: tuple[str, ...]) -> None:
    found = list(diagnose(lines, "log"))
    assert {one.finding.status for one in found} == {"pass"}


def test_lines_that_lie_are_no_evidence() -> None:
    assert list(diagnose(LYING, "log")) == []


def test_each_symptom_shows_its_first_lines_and_how_many_there_are() -> None:
    (one,) = diagnose([LINES["log.mooncake.client_not_available"]] * 1000, "log")
    assert [number for number, _line in one.lines] == [1, 2, 3]
    assert one.finding.seen.startswith("1000 lines, 1 to 1000")


def test_a_large_log_is_read_in_constant_memory() -> None:
    lines = (LINES["log.lmcache.unhealthy"] + f" {number}" for number in range(20_000))
    tracemalloc.start()
    try:
        list(diagnose(lines, "log"))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18


class TestCommand:
    def test_a_fail_ends_with_2(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        log = tmp_path / "vllm.log"
        log.write_text(LINES["log.lmcache.degraded"])
        assert app(["doctor", "--log", str(log)], result_action="return_value") == Ending.INVALID
        assert "log.lmcache.degraded" in capsys.readouterr().out

    def test_a_packed_log_is_read(self, tmp_path: Path) -> None:
        log = tmp_path / "vllm.log.gz"
        log.write_bytes(gzip.compress(LINES["log.vllm.engine_dead"].encode()))
        assert [one.finding.id for one in read(log)] == ["log.vllm.engine_dead"]

    def test_a_missing_log_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        missing = tmp_path / "nowhere.log"
        assert app(["doctor", "--log", str(missing)], result_action="return_value") == Ending.WRONG_INPUT
        assert f"{missing}: cannot be read" in capsys.readouterr().err

    def test_nothing_to_read_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert app(["doctor"], result_action="return_value") == Ending.WRONG_INPUT
        assert "--log FILE" in capsys.readouterr().err
