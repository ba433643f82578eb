"""Logs of any content: diagnosed, or refused by the one error, naming the file."""

from __future__ import annotations

import gzip
from pathlib import Path

from hypothesis import example, given

from kvkit.doctor.logs import LogError, read
from kvkit.report.doctor import diagnoses_as_json
from tests.fuzz.bounds import bounded
from tests.fuzz.mutation import NASTY, mutated

LOG = b"""\
(EngineCore pid=1) INFO 11-22 20:00:00 [factory.py:51] Creating v1 connector with name: LMCacheConnectorV1
\x1b[32mINFO\x1b[0m LMCache initialized for role KVConnectorRole.WORKER with version 0.5.6
Reqid: r-1, Total tokens 1024, Inference Engine computed tokens: 0, LMCache hit tokens: 768, need to load: 768
ERROR Failed to put key kvcache into remote backend: timeout after 10 s
E1122 transfer_engine.cpp:12] No suitable GID found, device mlx5_0; protocol: rdma
WARNING No supported cpu connector found
"""
BAIT = (b"LMCache hit tokens: ", b"protocol: rdma", b"need to load: ", b" " * 3000, b"'" * 3000, b"a," * 2000, b"\x1b[")

logs = mutated((LOG,), (*NASTY, *BAIT))


def diagnosed(path: Path) -> None:
    with bounded():
        try:
            diagnoses_as_json(read(path))
        except LogError as error:
            assert str(path) in str(error)


@given(log=logs)
@example(log=LOG.replace(b"768", b"7" * 5000))
def test_any_log_is_diagnosed(folder: Path, log: bytes) -> None:
    path = folder / "vllm.log"
    path.write_bytes(log)
    diagnosed(path)


@given(packed=mutated((gzip.compress(LOG, mtime=0), gzip.compress(LOG * 50, 1, mtime=0))))
def test_any_packed_log_is_diagnosed_or_refused(folder: Path, packed: bytes) -> None:
    path = folder / "vllm.log.gz"
    path.write_bytes(packed)
    diagnosed(path)
