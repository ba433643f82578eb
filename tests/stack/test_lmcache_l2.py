"""The LMCache plugin against a real Mooncake master and memory owner, driven as LMCache's controllers drive it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real_stack import RealStack
from tests.stack.conftest import MooncakeStore

pytestmark = pytest.mark.real

DRIVER = Path(__file__).with_name("l2_driver.py")
OBJECT_BYTES = 1 << 20


@pytest.fixture(scope="module")
def seen(real_stack: RealStack, mooncake_store: MooncakeStore) -> Iterator[dict[str, dict[str, Any]]]:
    """What the driver saw while the store served, and after its master was gone."""
    params = {
        "local_hostname": "127.0.0.1",
        "metadata_server": "P2PHANDSHAKE",
        "master_server_addr": mooncake_store.master,
        "protocol": "tcp",
    }
    driver = subprocess.Popen(
        [real_stack.python, str(DRIVER), json.dumps({"params": params})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(log := (real_stack.directory / "l2_driver.log").open("w+")),
        env=real_stack.environment,
        text=True,
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    try:
        served = driver.stdout.readline()
        mooncake_store.stop_master()
        driver.stdin.write("go\n")
        driver.stdin.flush()
        lost = driver.stdout.readline()
        driver.wait(60)
        log.seek(0)
        assert lost, log.read()[-3000:]
        log.seek(0)
        yield {"served": json.loads(served), "lost": json.loads(lost), "log": {"text": log.read()}}
    finally:
        driver.kill()
        driver.wait()
        log.close()


def test_it_stores_whole_objects(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["served"]["stored_bytes"] == 4 * OBJECT_BYTES


def test_storing_again_is_no_failure(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["served"]["stored_again"] == 4 * OBJECT_BYTES


def test_lookup_finds_what_was_stored_and_nothing_else(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["served"]["lookup"] == [1, 1, 0, 0]


def test_it_loads_the_very_bytes(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["served"]["load"] == [1, 1, 1, 1]
    assert seen["served"]["equal"]


def test_loading_an_unknown_key_is_a_miss(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["served"]["load_unknown"] == [0, 0]


def test_an_object_of_another_size_is_a_miss_not_data(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["served"]["load_into_larger"] == [0]


def test_without_a_master_everything_is_a_miss(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["lost"]["lookup"] == [0, 0, 0, 0]
    assert seen["lost"]["load"] == [0, 0, 0, 0]


def test_without_a_master_a_store_fails(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["lost"]["store"] == -1


def test_status_tells_whether_the_master_answers(seen: dict[str, dict[str, Any]]) -> None:
    assert (seen["served"]["healthy"], seen["lost"]["healthy"]) == (True, False)


def test_each_failure_is_named_in_lmcaches_log(seen: dict[str, dict[str, Any]]) -> None:
    assert "-900 (the master does not answer)" in seen["log"]["text"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"master_server_address": "h:1"}, "unknown master_server_address"),
        ({"global_segment_size": "1 GB"}, "global_segment_size: found '1 GB', expected int"),
        ({"protocol": "rdma"}, "rdma_devices: name them"),
        ({"protocol": "roce"}, "allowed: rdma, tcp"),
    ],
)
def test_wrong_parameters_are_refused_by_name(real_stack: RealStack, change: dict[str, Any], message: str) -> None:
    params = {"local_hostname": "a", "metadata_server": "P2PHANDSHAKE", "master_server_addr": "h:1", "protocol": "tcp"}
    code = (
        "import json, sys; from kvkit.lmcache_l2 import MooncakeL2Parameters as P; P.from_dict(json.loads(sys.argv[1]))"
    )
    done = subprocess.run(
        [real_stack.python, "-c", code, json.dumps(params | change)],
        env=real_stack.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert message in done.stderr
