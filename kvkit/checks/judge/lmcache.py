"""Judgements on LMCache in effect: where it dials, what overrides its file, how it hashes, who can reach it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..lmcache_schema import SETUP_BY_NAME, ordered
from ..target import Target
from ..told import object_of
from .lmcache_file import File, file_of

HARMLESS = frozenset({"CONFIG_FILE", "TRACK_USAGE", "USE_EXPERIMENTAL", "LOG_LEVEL", "USE_UPSTREAM_MP"})
"""LMCACHE_ variables that set no key of the file."""

DEFAULT_MASTER = "127.0.0.1:50051"
BLOCK_SIZES = {"cuda": 16, "cpu": 128}


def _loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "localhost")


def _servers(processes: Any, target: Target) -> list[Any]:
    """The vLLM processes whose environment can be read: its workers overwrite theirs with their titles.

    Before a start there are none to judge: what runs then is about to be replaced.
    """
    if target.stage == "before":
        return []
    return [one for one in processes["vllm"] if not one["argv"][0].startswith("VLLM::")]


def _dialled(file: File) -> str:
    """Where the Mooncake client connects, which depends on LMCache's version."""
    if ordered(file.version) >= ordered(SETUP_BY_NAME):
        return str(file.extra.get("mooncake_master_server_addr") or DEFAULT_MASTER)
    if ordered(file.version) >= (0, 3, 10):
        return str(file.extra.get("master_server_address") or "")
    found = re.match(r"mooncakestore://([^/]+)", str(file.top.get("remote_url") or ""))
    return found[1] if found else str(file.extra.get("master_server_address") or "")


@check(
    "lmcache.master.address",
    looks_at="The address that LMCache's Mooncake client really dials, against that of the store.",
    why="Which key decides changed twice between versions; a client that dials another master finds nothing there, "
    "or nobody, and its lookups count as hits all the same.",
    mend="Set mooncake_master_server_addr and master_server_address to the store's HOST:PORT.",
    needs=("stack",),
)
def master_address(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    if file is None or not target.mooncake_host or not target.mooncake_rpc_port:
        return
    wanted, dialled = f"{target.mooncake_host}:{target.mooncake_rpc_port}", _dialled(file)
    by_name = ordered(file.version) >= ordered(SETUP_BY_NAME)
    if by_name and file.extra.get("master_server_address") and not file.extra.get("mooncake_master_server_addr"):
        yield skipped("see lmcache.key.ignored", file.path)
    elif dialled == wanted:
        yield passed(dialled, file.path)
    else:
        yield failed(f"LMCache {file.version} dials {dialled or 'nothing'}", wanted, "", file.path)


@check(
    "lmcache.protocol",
    looks_at="The protocol in LMCache's file, against the one that was asked for.",
    why="LMCache's default in code is tcp, in its documentation rdma. One pool cannot mix both.",
    mend="Set extra_config.protocol, on every host the same.",
    needs=("stack",),
)
def protocol(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    if file is None:
        return
    found = file.extra.get("protocol", "tcp")
    if found == target.protocol:
        yield passed(str(found), file.path)
    else:
        yield failed(f"{found}", target.protocol, "", file.place("extra_config.protocol"))


@check(
    "lmcache.env.overrides",
    looks_at="LMCACHE_ variables and MOONCAKE_CONFIG_PATH in the environment of the running vLLM.",
    why="The environment wins over the file: LMCACHE_EXTRA_CONFIG replaces the whole extra_config, and a "
    "MOONCAKE_CONFIG_PATH that another connector needed replaces it too. What is in the file is then not in effect.",
    mend="Unset the variable in the unit or start script, and restart vLLM.",
    needs=("stack", "processes"),
)
def env_overrides(sections: Any, target: Target) -> Iterator[Verdict]:
    stack, processes = sections
    file = file_of(stack, target)
    for one in _servers(processes, target) if file else ():
        subject = f"vLLM process {one['pid']}"
        own = {name[8:]: value for name, value in one["environ"].items() if name.startswith("LMCACHE_")}
        changed = [f"LMCACHE_{name}" for name in own if name not in HARMLESS]
        total = [name for name in ("LMCACHE_EXTRA_CONFIG", "MOONCAKE_CONFIG_PATH") if name in one["environ"]]
        if total:
            yield failed(f"{', '.join(total)} is set", "extra_config of the file in effect", "", subject)
        elif changed:
            yield warned(f"{', '.join(sorted(changed))} set", "the file alone", "", subject)
        else:
            yield passed("no variable overrides the file", subject)


@check(
    "lmcache.config.in_effect",
    looks_at="LMCACHE_CONFIG_FILE in the environment of the running vLLM.",
    why="A variable that was set and not exported, or that names an older file, leaves LMCache with other settings "
    "than those that were rendered and checked.",
    mend="Export LMCACHE_CONFIG_FILE with the path of the file in the unit or start script, and restart vLLM.",
    needs=("processes",),
)
def config_in_effect(processes: Any, target: Target) -> Iterator[Verdict]:
    if target.connector != "lmcache-inprocess" or not target.lmcache_config:
        return
    for one in _servers(processes, target):
        subject = f"vLLM process {one['pid']}"
        if not any("kv_connector" in argument for argument in one["argv"]):
            yield skipped("started without a connector", subject)
            continue
        found = one["environ"].get("LMCACHE_CONFIG_FILE", "")
        if found == target.lmcache_config:
            yield passed(found, subject)
        else:
            yield failed(found or "not set", target.lmcache_config, "", subject)


@check(
    "lmcache.chunk_size.block_size",
    looks_at="LMCache's chunk size against the block size of vLLM (16 tokens on GPUs, 128 on CPUs, or --block-size).",
    why="Chunks are made of whole blocks: LMCache's server refuses other sizes, and prompts shorter than one chunk "
    "never hit.",
    mend="Choose a chunk_size that is a multiple of the block size, the same on every host.",
    needs=("processes", "vllm"),
)
def chunk_size(sections: Any, target: Target) -> Iterator[Verdict]:
    processes, vllm = sections
    if not target.connector.startswith("lmcache") or not target.chunk_size:
        return
    block = _block_size(processes, target) or vllm.get("block_size") or BLOCK_SIZES[target.device]
    if target.chunk_size % block:
        yield failed(f"chunk_size {target.chunk_size}, block size {block}", f"a multiple of {block}", "")
    else:
        yield passed(f"chunk_size {target.chunk_size}, block size {block}")


def _block_size(processes: Any, target: Target) -> int:
    for one in _servers(processes, target):
        for argument, following in zip(one["argv"], [*one["argv"][1:], ""]):
            name, _, value = argument.partition("=")
            if name == "--block-size" and (value or following).isdigit():
                return int(value or following)
    return 0


@check(
    "lmcache.hash.algorithm",
    looks_at="pre_caching_hash_algorithm in LMCache's file.",
    why="The default, builtin, is Python's own hash: another one in every process, so nothing that one process "
    "stored is found by another, or after a restart.",
    mend="pre_caching_hash_algorithm: sha256_cbor, and PYTHONHASHSEED=0 for every process.",
    needs=("stack",),
)
def hash_algorithm(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    if file is None:
        return
    found = file.top.get("pre_caching_hash_algorithm", "builtin")
    if found == "builtin":
        yield failed("builtin", "sha256_cbor", "", file.place("pre_caching_hash_algorithm"))
    elif found == "sha256_cbor_64bit":
        yield warned(f"{found}, a name that vLLM gave up", "sha256_cbor", "", file.place("pre_caching_hash_algorithm"))
    else:
        yield passed(str(found), file.path)


@check(
    "lmcache.hash.seed",
    looks_at="PYTHONHASHSEED in the environment of the running vLLM (/proc/PID/environ).",
    why="Without the same seed everywhere Python's hashes differ from process to process, and with the builtin "
    "algorithm or xxhash no key is ever found again. The template says nothing about the process that runs.",
    mend="Environment=PYTHONHASHSEED=0 in the unit of every vLLM process, then restart them.",
    needs=("processes",),
)
def hash_seed(processes: Any, target: Target) -> Iterator[Verdict]:
    for one in _servers(processes, target) if target.uses_store else ():
        subject = f"vLLM process {one['pid']}"
        if not one["environ"]:
            yield unknown("its environment cannot be read: run as its user or as root", subject=subject)
        elif one["environ"].get("PYTHONHASHSEED", "random") == "random":
            yield failed(one["environ"].get("PYTHONHASHSEED", "not set"), "PYTHONHASHSEED=0", "", subject)
        else:
            yield passed(f"PYTHONHASHSEED={one['environ']['PYTHONHASHSEED']}", subject)


@check(
    "lmcache.remote_code",
    looks_at="Where LMCache's HTTP and internal API servers listen, and whether they run scripts.",
    why="They have no authentication: whoever reaches them clears caches, reads configurations, and with the script "
    "API runs code as the engine's user.",
    mend="--host 127.0.0.1 for `lmcache server`, internal_api_server_host: 127.0.0.1, run_script_api_enabled: "
    "false; or a firewall.",
    needs=("stack", "network", "processes"),
)
def remote_code(sections: Any, target: Target) -> Iterator[Verdict]:
    stack, network, processes = sections
    pids = {one["pid"] for one in processes["lmcache"]}
    # Its Mooncake client listens too, for the peers, and must.
    own = (target.lmcache_port, target.lmcache_http_port)
    for one in network["listening"]:
        if one["pid"] in pids and one["port"] in own:
            subject = f"{one['address']}:{one['port']}"
            if _loopback(one["address"]):
                yield passed("on the loopback only", subject)
            else:
                yield warned("LMCache's server listens for the network", "127.0.0.1, or a firewall", "", subject)
    file = file_of(stack, target)
    if file is None or not file.top.get("internal_api_server_enabled"):
        return
    address = str(file.top.get("internal_api_server_host", "127.0.0.1"))
    place = file.place("internal_api_server_host")
    if _loopback(address):
        yield passed("on the loopback only", place)
    elif file.top.get("run_script_api_enabled"):
        yield failed(f"{address}, and it runs scripts", "127.0.0.1", "", place)
    else:
        yield warned(address, "127.0.0.1", "", place)


@check(
    "lmcache.server.health",
    looks_at="GET /healthcheck and /status of LMCache's server, and the health of its second tier.",
    why="vLLM goes on without a server that is unhealthy ('entering degraded mode'), and a second tier that is lost "
    "turns every hit in the store into a miss.",
    mend="Read the server's log; restart it after the store, then vLLM.",
    needs=("lmcache",),
)
def server_health(lmcache: Any, target: Target) -> Iterator[Verdict]:
    health, status = lmcache["health"], lmcache["status"]
    if health is None:
        return
    if not health["status"]:
        yield skipped("nobody answers: see network.port.refused")
        return
    told = object_of(status["body"])
    if health["status"] != 200:
        yield failed(f"HTTP {health['status']}", "healthy", "")
    elif told.get("is_healthy") is False:
        yield failed(f"unhealthy: {status['body'][:160]}", "is_healthy true", "")
    else:
        yield passed("healthy")


CHECKS: tuple[Check, ...] = (
    master_address,
    protocol,
    env_overrides,
    config_in_effect,
    chunk_size,
    hash_algorithm,
    hash_seed,
    remote_code,
    server_health,
)
