"""Check a rendered lmcache_config.yaml before it replaces the one in use.

LMCache itself drops unknown keys with a warning or none at all, and turns a value of the wrong type into None or 0.

    check_lmcache_config.py FILE

Runs on the hosts with the Python of LMCache: standard library and PyYAML. Exit code 1: every fault on a line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Fits = Callable[[Any], bool]

ADDRESS = r"[^\s:/@]+:[0-9]+"


def matches(pattern: str) -> Fits:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def whole(least: int) -> Fits:
    return lambda value: type(value) is int and value >= least


def switch(value: Any) -> bool:
    return type(value) is bool


def size(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


TOP: dict[str, tuple[Fits, str]] = {
    "chunk_size": (whole(1), "tokens, a whole number above 0"),
    "local_cpu": (switch, "true or false, without quotes"),
    "max_local_cpu_size": (size, "GiB, a number above 0 (it is the staging buffer also when local_cpu is false)"),
    "remote_url": (matches(rf"mooncakestore://{ADDRESS}/"), "mooncakestore://HOST:PORT/"),
    "remote_serde": (matches("naive|cachegen"), "naive or cachegen"),
    "pre_caching_hash_algorithm": (matches("sha256_cbor"), "sha256_cbor, which is the same in every process"),
    "extra_config": (lambda value: isinstance(value, dict), "a mapping"),
}
EXTRA: dict[str, tuple[Fits, str]] = {
    "local_hostname": (matches(r"[^\s:/]+"), "this host's address"),
    "metadata_server": (
        matches(rf"P2PHANDSHAKE|https?://{ADDRESS}/metadata"),
        "P2PHANDSHAKE or http://HOST:PORT/metadata",
    ),
    "protocol": (matches("rdma|tcp"), "rdma or tcp"),
    "device_name": (matches(r"[\w,]*"), "comma-separated devices"),
    "mooncake_rdma_devices": (matches(r"[\w,]*"), "comma-separated devices"),
    "master_server_address": (matches(ADDRESS), "HOST:PORT"),
    "mooncake_master_server_addr": (matches(ADDRESS), "HOST:PORT"),
    "global_segment_size": (whole(0), "bytes, a whole number"),
    "local_buffer_size": (whole(1024), "bytes, a whole number from 1024"),
    "transfer_timeout": (whole(1), "seconds, a whole number above 0"),
    "save_chunk_meta": (switch, "true or false, without quotes"),
}
SAME = [("device_name", "mooncake_rdma_devices"), ("master_server_address", "mooncake_master_server_addr")]


def faults(found: dict[str, Any], expected: Mapping[str, tuple[Fits, str]], where: str) -> Iterator[str]:
    """Yield what is wrong with a mapping: unknown and missing keys, and values of another kind."""
    for key in sorted(found.keys() - expected.keys()):
        yield f"{where}{key}: not a key that LMCache reads; allowed: {', '.join(sorted(expected))}"
    for key, (fits, allowed) in expected.items():
        if key not in found:
            yield f"{where}{key}: missing; expected {allowed}"
        elif not fits(found[key]):
            yield f"{where}{key}: found {found[key]!r}, expected {allowed}"


def check(config: Any) -> list[str]:
    """All faults of a configuration, as lines."""
    if not isinstance(config, dict):
        return ["a mapping is expected"]
    lines = list(faults(config, TOP, ""))
    extra = config.get("extra_config")
    if isinstance(extra, dict):
        lines += faults(extra, EXTRA, "extra_config.")
        lines += [
            f"extra_config.{second}: found {extra.get(second)!r}, expected the same as {first}: {extra.get(first)!r}"
            for first, second in SAME
            if extra.get(first) != extra.get(second)
        ]
        if extra.get("protocol") == "rdma" and not extra.get("mooncake_rdma_devices"):
            lines.append("extra_config.mooncake_rdma_devices: empty with protocol rdma (Mooncake then takes TCP)")
    return lines


def main() -> int:
    path = Path(sys.argv[1])
    try:
        lines = check(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        lines = [f"not YAML: {error}"]
    for line in lines:
        print(f"{path.name}: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
