"""The check that a rendered lmcache_config.yaml passes before it replaces the one in use."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import PROJECT

CHECK = PROJECT / "roles/lmcache/files/check_lmcache_config.py"
SOUND: dict[str, Any] = {
    "chunk_size": 256,
    "local_cpu": False,
    "max_local_cpu_size": 100,
    "remote_url": "mooncakestore://10.0.0.9:50051/",
    "remote_serde": "naive",
    "pre_caching_hash_algorithm": "sha256_cbor",
    "extra_config": {
        "local_hostname": "10.0.0.1",
        "metadata_server": "http://10.0.0.9:8080/metadata",
        "protocol": "rdma",
        "device_name": "mlx5_0,mlx5_1",
        "mooncake_rdma_devices": "mlx5_0,mlx5_1",
        "master_server_address": "10.0.0.9:50051",
        "mooncake_master_server_addr": "10.0.0.9:50051",
        "global_segment_size": 107374182400,
        "local_buffer_size": 2147483648,
        "transfer_timeout": 10,
        "save_chunk_meta": False,
    },
}


def check(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "lmcache_config.yaml"
    path.write_text(text)
    return subprocess.run([sys.executable, CHECK, path], capture_output=True, text=True, check=False)


def changed(key: str, value: Any) -> str:
    config = copy.deepcopy(SOUND)
    section = config["extra_config"] if key in config["extra_config"] else config
    section[key] = value
    return yaml.safe_dump(config)


def test_a_sound_configuration_passes(tmp_path: Path) -> None:
    done = check(yaml.safe_dump(SOUND), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "global_segment_size",
            "64MB",
            "extra_config.global_segment_size: found '64MB', expected bytes, a whole number",
        ),
        ("local_cpu", "yes", "local_cpu: found 'yes', expected true or false, without quotes"),
        ("max_local_cpu_size", 0, "max_local_cpu_size: found 0, expected GiB, a number above 0"),
        ("metadata_server", "http://10.0.0.9:8080", "expected P2PHANDSHAKE or http://HOST:PORT/metadata"),
        ("pre_caching_hash_algorithm", "builtin", "pre_caching_hash_algorithm: found 'builtin', expected sha256_cbor"),
        ("mooncake_master_server_addr", "127.0.0.1:50051", "expected the same as master_server_address"),
        ("chunk_sise", 256, "chunk_sise: not a key that LMCache reads"),
    ],
)
def test_a_fault_is_named_with_what_is_allowed(key: str, value: Any, said: str, tmp_path: Path) -> None:
    done = check(changed(key, value), tmp_path)
    assert done.returncode == 1
    assert said in done.stderr


def test_rdma_needs_devices(tmp_path: Path) -> None:
    config = copy.deepcopy(SOUND)
    config["extra_config"] |= {"device_name": "", "mooncake_rdma_devices": ""}
    assert "empty with protocol rdma" in check(yaml.safe_dump(config), tmp_path).stderr


def test_what_is_not_yaml_is_told_without_a_traceback(tmp_path: Path) -> None:
    done = check("chunk_size: [256", tmp_path)
    assert done.stderr.startswith("lmcache_config.yaml: not YAML")
