"""What the roles write for each connector and profile, and what they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import PROJECT, Played, play

PROFILES = PROJECT / "templates" / "profiles"
OWN = {
    "chunk_size": 128,
    "global_segment_size": 1 << 20,
    "l1_size_gb": 1,
    "local_buffer_size": 1 << 16,
    "local_cpu": False,
    "max_local_cpu_size": 2.5,
    "transfer_timeout": 7,
}
FAR_TOO_LARGE = 1 << 50
HOSTS: dict[str, dict[str, Any]] = {
    "writes_inprocess": {"kv_connector": "lmcache-inprocess"},
    "writes_mp": {"kv_connector": "lmcache-mp"},
    "writes_mooncake": {"kv_connector": "mooncake-store"},
    "writes_managed": {"kv_connector": "mooncake-store", "mooncake_managed": True},
    "on_a_cpu": {"kv_connector": "lmcache-inprocess", "kv_device": "cpu"},
    "too_large": {
        "lmcache_profiles": {"own": OWN | {"global_segment_size": FAR_TOO_LARGE}},
        "kv_connector": "mooncake-store",
        "vllm_tensor_parallel_size": 8,
    },
    "bytes_as_text": {"lmcache_profiles": {"own": OWN | {"global_segment_size": "64MB"}}},
    "unknown_profile": {"kv_profile": "7b"},
    "on_loopback": {"lmcache_local_hostname": "127.0.0.1"},
    "bad_metadata": {"mooncake_metadata_server": "http://10.0.0.9:8080"},
    "no_devices": {"mooncake_protocol": "rdma"},
    "cache_without_connector": {"kv_connector": "none", "wanted_mode": "with-cache"},
    "second_way": {"vllm_extra_args": ["--kv-transfer-config", "{}"]},
    "no_commands": {"vllm_service_manager": "external"},
}
EVERYWHERE: dict[str, Any] = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "lmcache_python": "{{ ansible_playbook_python }}",
    "kv_engine": "vllm",
    "kv_device": "cuda",
    "kv_connector": "lmcache-inprocess",
    "kv_profile": "own",
    "lmcache_profiles": {"own": OWN},
    "lmcache_local_hostname": "10.0.0.1",
    "mooncake_host": "10.0.0.9",
    "mooncake_rpc_port": 50052,
    "vllm_model_name": "model",
    "vllm_service_manager": "supervisord",
}


def inventory(hosts: Mapping[str, Any], folder: Path) -> Path:
    path = folder / "hosts.yml"
    state = {"kv_state_dir": f"{folder}/{{{{ inventory_hostname }}}}", "kv_cache_dir": str(folder / "cache")}
    group = {"hosts": hosts, "vars": EVERYWHERE | state}
    path.write_text(yaml.safe_dump({"vllm": group, "mooncake_master": {"hosts": {name: {} for name in hosts}}}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@pytest.fixture(scope="module")
def played(folder: Path) -> Played:
    return play("../tests/roles/playbooks/settings", inventory(HOSTS, folder))


@pytest.fixture
def lmcache_config(played: Played, folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / "writes_inprocess/config/lmcache_config.yaml").read_text())
    return loaded


def message(played: Played, host: str) -> str:
    """What was said to a host that was refused."""
    found = re.findall(rf"^fatal: \[{host}\]: FAILED! => (.*?)(?=^\S|\Z)", played.output, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{host} was not refused:\n{played.output[-3000:]}"
    return " ".join(found[0].split())


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("72b", {"chunk_size": 256, "global_segment_size": 107374182400, "local_buffer_size": 2147483648}),
        ("671b", {"chunk_size": 512, "global_segment_size": 214748364800, "local_buffer_size": 4294967296}),
    ],
)
def test_the_profiles_hold_the_guides_sizes(profile: str, expected: dict[str, int]) -> None:
    loaded = yaml.safe_load((PROFILES / f"{profile}.yml").read_text())
    assert {key: loaded[key] for key in expected} == expected


@pytest.mark.parametrize(("profile", "seconds"), [("72b", 10), ("671b", 20)])
def test_the_profiles_hold_the_guides_timeout(profile: str, seconds: int) -> None:
    assert yaml.safe_load((PROFILES / f"{profile}.yml").read_text())["transfer_timeout"] == seconds


@pytest.mark.playbook
class TestWritten:
    def test_sizes_come_from_the_profile(self, lmcache_config: dict[str, Any]) -> None:
        assert (lmcache_config["chunk_size"], lmcache_config["max_local_cpu_size"]) == (128, 2.5)
        assert lmcache_config["extra_config"]["local_buffer_size"] == 1 << 16

    def test_both_spellings_name_the_master(self, lmcache_config: dict[str, Any]) -> None:
        extra = lmcache_config["extra_config"]
        assert extra["master_server_address"] == extra["mooncake_master_server_addr"] == "10.0.0.9:50052"

    def test_both_spellings_name_the_devices(self, lmcache_config: dict[str, Any]) -> None:
        extra = lmcache_config["extra_config"]
        assert extra["device_name"] == extra["mooncake_rdma_devices"] == ""

    def test_the_hash_is_the_same_in_every_process(self, lmcache_config: dict[str, Any]) -> None:
        assert lmcache_config["pre_caching_hash_algorithm"] == "sha256_cbor"

    def test_the_server_gets_the_second_tier(self, played: Played, folder: Path) -> None:
        written = json.loads((folder / "writes_mp/config/lmcache_l2_adapter.json").read_text())
        assert written["adapter_params"]["master_server_addr"] == "10.0.0.9:50052"

    def test_the_plugin_lies_beside_it(self, played: Played, folder: Path) -> None:
        copied = folder / "writes_mp/plugin/kvkit/lmcache_l2.py"
        assert copied.read_text() == (PROJECT / "kvkit/lmcache_l2.py").read_text()

    def test_vllms_own_connector_gets_its_file(self, played: Played, folder: Path) -> None:
        written = json.loads((folder / "writes_mooncake/config/mooncake_store.json").read_text())
        assert (written["mode"], written["global_segment_size"]) == ("embedded", 1 << 20)

    def test_engines_give_no_memory_to_a_store_with_an_owner(self, played: Played, folder: Path) -> None:
        written = json.loads((folder / "writes_managed/config/mooncake_store.json").read_text())
        assert (written["mode"], written["global_segment_size"]) == ("standalone-store", 0)


@pytest.mark.playbook
class TestRefused:
    def test_lmcache_in_the_process_on_a_cpu(self, played: Played) -> None:
        assert "every request would wait out a lookup of 3 s" in message(played, "on_a_cpu")

    def test_more_than_70_percent_of_the_memory(self, played: Played) -> None:
        said = message(played, "too_large")
        assert f"global_segment_size {FAR_TOO_LARGE} bytes × 8 processes = 8388608.0 GiB" in said
        assert re.search(r"70 % of the available [\d.]+ GiB is [\d.]+ GiB", said)

    def test_a_size_that_mooncake_would_read_as_0(self, played: Played) -> None:
        assert "sizes in whole bytes" in message(played, "bytes_as_text")

    def test_a_profile_that_nobody_knows(self, played: Played) -> None:
        assert "known are 671b, 72b, own, rehearsal" in message(played, "unknown_profile")

    def test_loopback_among_several_hosts(self, played: Played) -> None:
        assert f"there are {len(HOSTS)} vLLM hosts" in message(played, "on_loopback")

    def test_a_metadata_server_without_its_path(self, played: Played) -> None:
        assert "the path is needed" in message(played, "bad_metadata")

    def test_rdma_without_devices(self, played: Played) -> None:
        assert "fall back to TCP in silence" in message(played, "no_devices")

    def test_the_cache_without_a_connector(self, played: Played) -> None:
        assert "kv_connector is none" in message(played, "cache_without_connector")

    def test_a_second_way_to_choose_the_connector(self, played: Played) -> None:
        assert "set kv_connector" in message(played, "second_way")

    def test_an_external_engine_without_commands(self, played: Played) -> None:
        assert "lacks start, stop or status of baseline and with-cache" in message(played, "no_commands")
