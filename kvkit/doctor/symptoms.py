"""The failures that a log tells: which line, what it means, how to mend it.

Read in the sources of LMCache, Mooncake and vLLM, and seen running. Lines that look like proof and are none ("LMCache
initialized", "Connected to remote storage", "Mooncake store setup completed successfully", "Stored N") are no
evidence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvkit.checks.finding import FAIL, WARN


@dataclass(frozen=True)
class Symptom:
    """A known failure; `looks_at`, `why` and `mend` as those of a check."""

    id: str
    pattern: re.Pattern[str]
    looks_at: str
    why: str
    mend: str
    status: str = FAIL
    least: int = 1
    """How many such lines make it a fault: one at start-up can be harmless."""


def _symptom(id: str, pattern: str, why: str, mend: str, *, status: str = FAIL, least: int = 1) -> Symptom:
    shown = pattern.replace("\\", "").replace("|", " | ")
    return Symptom(id, re.compile(pattern), f"Lines with: {shown}", why, mend, status, least)


SYMPTOMS: tuple[Symptom, ...] = (
    _symptom(
        "log.lmcache.degraded",
        r"System will operate in degraded mode|Skipping post_init due to previous",
        "LMCache did not come up; vLLM serves on without it, and requests may wait for a lookup.",
        "Read the error above the line; on a CPU choose another connector, else mend the store and restart vLLM.",
    ),
    _symptom(
        "log.lmcache.unhealthy",
        r"LMCache (is unhealthy, skipping|server is unhealthy)|timed out\. Marking unhealthy|LOOKUP to \S+ timed out",
        "LMCache skips its work: nothing is stored or loaded any more; vLLM may hang in a request that waits for it.",
        "See whether the LMCache server and the store still run, restart them, then vLLM.",
    ),
    _symptom(
        "log.lmcache.no_device_connector",
        r"No supported \w+ connector found",
        "LMCache inside vLLM has no connector for this device: vLLM serves in degraded mode, and hits stay 0.",
        "Choose kv_connector=lmcache-mp or mooncake-store on CPUs.",
    ),
    _symptom(
        "log.lmcache.remote_connection",
        r"Failed to initialize/re-establish remote connection|Connection is None in \w+",
        "LMCache has no connection to the store; the next line still says 'Connected to remote storage'.",
        "Correct the master's address (both spellings) and the metadata server, then restart vLLM.",
    ),
    _symptom(
        "log.lmcache.mooncake_missing",
        r"Please install mooncake by following|requires the C\+\+ Mooncake extension",
        "Mooncake's client, or LMCache's extension for it, is not installed.",
        "Install mooncake-transfer-engine into vLLM's environment; for lmcache-mp use the plugin adapter of the kit.",
    ),
    _symptom(
        "log.lmcache.unknown_key",
        r"Unknown configuration key",
        "LMCache dropped a key of its file: what it was to set keeps its default.",
        "kvkit preflight --lmcache-config FILE names the key and the right one.",
    ),
    _symptom(
        "log.lmcache.value_dropped",
        r"Failed to convert value for",
        "LMCache could not read a value and took None instead.",
        "Write the value in the key's own unit and type; kvkit preflight --lmcache-config FILE names the line.",
    ),
    _symptom(
        "log.lmcache.hash_seed",
        r"Using builtin hash without PYTHONHASHSEED|PYTHONHASHSEED not set",
        "Keys differ from process to process: nothing that another process stored is found.",
        "PYTHONHASHSEED=0 for every process, and pre_caching_hash_algorithm: sha256_cbor.",
    ),
    _symptom(
        "log.lmcache.not_retrieved",
        r"it can't be retrieved|number of retrieved tokens is less than the expected|Retrieved 0 out of [1-9]",
        "Lookups hit, and the blocks could not be loaded: tokens are computed again, or the request fails.",
        "Look for the error of the transfer in the lines of Mooncake (E... file.cpp) around it, and at the segment's "
        "owner.",
    ),
    _symptom(
        "log.lmcache.memory_pressure",
        r"Local cpu memory under pressure|Insufficient /dev/shm capacity",
        "LMCache's own memory is too small: it stores only a part of what was computed.",
        "Raise max_local_cpu_size, the first tier (--l1-size-gb) or /dev/shm.",
        status=WARN,
    ),
    _symptom(
        "log.lmcache.put_timeout",
        r"Timeout during batch_put_from|Timeout when putting key",
        "Puts take longer than transfer_timeout (1 s by default): blocks are computed and not shared.",
        "Raise transfer_timeout to 10, and see why the store is slow.",
    ),
    _symptom(
        "log.mooncake.client_not_available",
        r"Client not available|Failed to create client after|Failed to ping master",
        "Mooncake's client does not reach its master. LMCache ignores that setup failed, and a lookup then answers "
        "-600, which counts as a hit.",
        "Correct mooncake_master_server_addr; see that the master runs and its RPC port is open from here.",
    ),
    _symptom(
        "log.mooncake.get_failed",
        r"batch_get_into failed for key|TRANSFER_FAIL|code=-(704|800|900)\b",
        "A block that the master knows could not be read from its owner.",
        "Open ports 15000-17000 between the hosts; see whether the owner of the segment lives.",
    ),
    _symptom(
        "log.mooncake.store_full",
        r"NO_AVAILABLE_HANDLE|code=-200\b",
        "The store has no room: what is computed is not stored.",
        "Raise global_segment_size, add an owner, or remove keys of earlier runs.",
        status=WARN,
    ),
    _symptom(
        "log.mooncake.metadata",
        r"Failed to set location of|http=\d+ body: metadata not found",
        "Segments cannot be registered with the metadata server. Once at a start, for a client's own key, is harmless.",
        "Write http://HOST:PORT/metadata with the path, start the master with --enable_http_metadata_server=true, or "
        "use P2PHANDSHAKE.",
        least=2,
    ),
    _symptom(
        "log.mooncake.no_rdma_device",
        r"No RDMA devices found|Found 0 HCAs|No available RNIC|Failed to install RDMA transport",
        "No RDMA device can be used; unless one was named, Mooncake takes TCP without another word.",
        "kvkit preflight names what is wrong with the devices; export MC_FORCE_HCA=1 so that it fails instead.",
    ),
    _symptom(
        "log.mooncake.gid",
        r"No suitable GID found|GID is NULL",
        "The port has no GID that can be routed: the device is left out.",
        "Give the netdev an IPv4 address and set MC_GID_INDEX to its RoCE v2 entry.",
    ),
    _symptom(
        "log.mooncake.port_not_active",
        r"Device \S+ port not active",
        "The RDMA port is down.",
        "Check cable, switch port, and on InfiniBand the subnet manager.",
    ),
    _symptom(
        "log.mooncake.queue_pair",
        r"Failed to modify QP to RTR",
        "Two peers cannot connect: other MTU, GID or partition.",
        "Compare the active MTU, MC_GID_INDEX and pkeys of both hosts (fleet.mtu.active, rdma.gid.index).",
    ),
    _symptom(
        "log.mooncake.register_memory",
        r"Failed to register memory|CREATE_MKEY failed|Cannot allocate memory.*mr",
        "Memory could not be pinned for RDMA: 'the application will still enter a fake normal state'.",
        "LimitMEMLOCK=infinity, a segment below max_mr_size, and no leaked resources (rdma resource show).",
    ),
    _symptom(
        "log.mooncake.protocol",
        r"unsupported_protocol protocol=|NotSupportedTransport",
        "The protocol is unknown, or rdma and tcp clients share one pool.",
        "One of rdma and tcp, the same on every host.",
    ),
    _symptom(
        "log.mooncake.admin_port",
        r"Failed to start master admin server",
        "The master's metrics port is taken: the master exits, and clients see timeouts.",
        "Stop what listens there, or choose another --metrics_port.",
    ),
    _symptom(
        "log.vllm.load_failed",
        r"failed to load \d+ tokens across \d+ blocks|KV load failure|kv_load_failure",
        "The connector promised tokens that it could not load; with the policy fail the request ends with an error.",
        'Set "kv_load_failure_policy": "recompute", and mend what the lines of Mooncake around it name.',
    ),
    _symptom(
        "log.vllm.engine_dead",
        r"EngineCore failed to start|Engine core initialization failed|EngineDeadError|WorkerProc init\w+ failed",
        "The engine is dead; the API server may end with exit code 0.",
        "Read the first error above; give the unit Restart=always or no.",
    ),
    _symptom(
        "log.vllm.hung_worker",
        r"No available shared memory broadcast block found in \d+ seconds",
        "A worker hangs: with lmcache-mp because the LMCache server ended, or its transfer mode is not the engine's.",
        "See whether the LMCache server runs, with --supported-transfer-mode auto, and restart vLLM; else use py-spy.",
    ),
    _symptom(
        "log.vllm.memory_taken",
        r"Free memory on device \S+ .* is less than desired",
        "An earlier engine's worker still holds GPU memory.",
        "End it: nvidia-smi --query-compute-apps=pid,used_memory --format=csv.",
    ),
    _symptom(
        "log.vllm.store_setup",
        r"Initialize MooncakeDistributedStore failed|environment variable 'MOONCAKE_CONFIG_PATH' is not set",
        "MooncakeStoreConnector could not set up its store.",
        "Set MOONCAKE_CONFIG_PATH to its JSON file and check the master's address in it.",
    ),
    _symptom(
        "log.vllm.hma_off",
        r"Turning off hybrid kv cache manager",
        "The connector switches the hybrid KV cache manager off, and a baseline keeps it: the modes differ in more "
        "than the cache.",
        "--disable-hybrid-kv-cache-manager in both modes.",
        status=WARN,
    ),
    _symptom(
        "log.vllm.module_moved",
        r"No module named 'lmcache\.integration\.vllm\.vllm_v1_adapter'|cannot import name 'CudaIPCWrapper'",
        "This LMCache and this vLLM do not go together.",
        "LMCache 0.5.6 with vLLM 0.32, without use_native; or the connector module that LMCache names.",
    ),
)

EVIDENCE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("LMCache loaded tokens", re.compile(r"Retrieved ([1-9]\d*) (?:out of|tokens)")),
    ("LMCache's second tier hit", re.compile(r"retained keys \(\d+ L1, ([1-9]\d*) L2\)")),
    ("vLLM loaded from Mooncake", re.compile(r"Mooncake load tier summary: .*memory_keys=([1-9]\d*)")),
    ("Mooncake's client is connected", re.compile(r"(Successfully created client on port \d+|Mounting segment: \d+)")),
)
"""What really shows that the store is in use; each pattern's first group is told."""

NEVER_HIT = Symptom(
    "log.lmcache.never_hit",
    re.compile(r"LMCache hit tokens: (\d+), need to load: (-?\d+)"),
    "The hit tokens that LMCache tells of each request ('LMCache hit tokens: N').",
    "Many requests were looked up, tokens were stored, and none ever hit: other hashes, another store, or prompts that "
    "share nothing.",
    "Same PYTHONHASHSEED and hash algorithm everywhere; prompts longer than one chunk; kvkit preflight.",
)
ONLY_DEVICE_HITS = Symptom(
    "log.vllm.device_cache_only",
    NEVER_HIT.pattern,
    "Requests whose hits vLLM's own prefix cache had already ('need to load' at or below 0).",
    "LMCache hits, and nothing is loaded: vLLM's own prefix cache serves every one. The shared cache has no part in "
    "the TTFT that is measured.",
    "Clear the device cache between rounds (--isolation device), or use a working set larger than it.",
    WARN,
)
"""Told from many lines together, not from one."""

TCP_FALLBACK = Symptom(
    "log.mooncake.tcp_fallback",
    re.compile(r"TcpTransport: listen on port"),
    "TcpTransport in a log whose configuration asks for rdma.",
    "rdma was asked for, and Mooncake took TCP.",
    "Mend the devices (kvkit preflight), name them in mooncake_rdma_devices, export MC_FORCE_HCA=1.",
)

TOGETHER: tuple[Symptom, ...] = (NEVER_HIT, ONLY_DEVICE_HITS, TCP_FALLBACK)
