"""Facts of healthy hosts, whole: every section, as the gatherers would fill them. Faults are planted into them."""

from __future__ import annotations

import copy
import json
from typing import Any

from kvkit.checks.target import Target

GIB = 1 << 30
CONFIG = "/var/lib/kvkit/config/lmcache_config.yaml"

DOCUMENT: dict[str, Any] = {
    "chunk_size": 256,
    "local_cpu": False,
    "max_local_cpu_size": 20,
    "remote_url": "mooncakestore://10.0.0.1:50051/",
    "remote_serde": "naive",
    "pre_caching_hash_algorithm": "sha256_cbor",
    "extra_config": {
        "local_hostname": "10.0.0.11",
        "metadata_server": "http://10.0.0.1:8080/metadata",
        "protocol": "rdma",
        "device_name": "mlx5_0",
        "mooncake_rdma_devices": "mlx5_0",
        "master_server_address": "10.0.0.1:50051",
        "mooncake_master_server_addr": "10.0.0.1:50051",
        "global_segment_size": 40 * GIB,
        "local_buffer_size": 2 * GIB,
        "transfer_timeout": 10,
        "save_chunk_meta": False,
    },
}

CONNECTORS = {
    "lmcache-inprocess": "LMCacheConnectorV1",
    "lmcache-mp": "LMCacheMPConnector",
    "mooncake-store": "MooncakeStoreConnector",
}


def rdma_port(layer: str = "Ethernet", rate: float = 400.0) -> dict[str, Any]:
    """As `rate` of a ConnectX-7 and the GID table of a RoCE port tell it."""
    roce = layer == "Ethernet"
    gids = [
        {"index": 0, "gid": "fe80:0000:0000:0000:a288:c2ff:fe00:0001", "type": "RoCE v2", "ndev": "ens1"},
        {"index": 3, "gid": "0000:0000:0000:0000:0000:ffff:0a00:000b", "type": "RoCE v2", "ndev": "ens1"},
    ]
    return {
        "port": 1,
        "state": "ACTIVE",
        "phys_state": "LinkUp",
        "link_layer": layer,
        "rate": rate,
        "gids": gids if roce else [],
        "pkey": "" if roce else "0xffff",
        "netdev": "ens1" if roce else "ibp26s0",
        "netdev_mtu": 9000 if roce else 4092,
        "carrier_losses": 1,
        "errors": {"link_downed": 0, "symbol_error": 3},
        "errors_later": {"link_downed": 0, "symbol_error": 3},
        "active_mtu": 4096,
    }


def rdma_section(*devices: tuple[str, dict[str, Any]], link_problem: str = "") -> dict[str, Any]:
    links = [
        {"device": name, "port": port["port"], "state": port["state"], "phys_state": port["phys_state"]}
        for name, port in devices
    ]
    return {
        "devices": [
            {
                "name": name,
                "node_type": "1: CA",
                "firmware": "28.41.1000",
                "numa": 0,
                "uverbs": f"/dev/infiniband/uverbs{number}",
                "readable": True,
                "ports": [port],
            }
            for number, (name, port) in enumerate(devices)
        ],
        "rdma_link": {"problem": link_problem, "links": [] if link_problem else links},
        "resources": {name: {"qp": 4, "mr": 2} for name, _port in devices},
        "modules": {"ib_core": True, "nvidia_peermem": True, "nvidia": True},
        "kernel": "6.8.0-45-generic",
    }


def vllm_process(connector: str) -> dict[str, Any]:
    transfer = {
        "kv_connector": CONNECTORS.get(connector, ""),
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
    }
    argv = ["/opt/vllm/bin/python", "/opt/vllm/bin/vllm", "serve", "model", "--host", "127.0.0.1"]
    argv += [
        "--prefix-caching-hash-algo",
        "sha256_cbor",
        "--shutdown-timeout",
        "20",
        "--disable-hybrid-kv-cache-manager",
    ]
    environ = {"PYTHONHASHSEED": "0"}
    if connector == "lmcache-inprocess":
        environ["LMCACHE_CONFIG_FILE"] = CONFIG
    if connector != "none":
        argv += ["--kv-transfer-config", json.dumps(transfer)]
    return {"pid": 100, "argv": argv, "environ": environ, "memlock": None, "nofile": 1048576, "orphan": False}


def facts(connector: str = "lmcache-inprocess", device: str = "cuda", protocol: str = "rdma") -> dict[str, Any]:
    """Of a vLLM host after the start with the cache, over a store that others run."""
    cuda = device == "cuda"
    document = copy.deepcopy(DOCUMENT)
    document["extra_config"]["protocol"] = protocol
    lines = {key: number for number, key in enumerate(document, start=2)}
    lines |= {f"extra_config.{key}": number for number, key in enumerate(document["extra_config"], start=9)}
    ports = [("10.0.0.1", 50051, "Mooncake master RPC"), ("10.0.0.1", 9003, "Mooncake master metrics")]
    return {
        "system": {
            "hostname": "gpu1",
            "boot_id": "b",
            "time": 1.0,
            "python": "3.11.2",
            "memory": {"total": 1024 * GIB, "available": 900 * GIB, "swap_used": 0},
            "hugepages": {"free": 0, "size": 2 << 20},
            "shm": {"size": 512 * GIB, "free": 500 * GIB},
            "disks": {"/var/lib/kvkit": {"size": 900 * GIB, "free": 500 * GIB}},
            "max_map_count": 16777216,
            "clock": {"source": "chronyc", "synchronised": True, "offset_s": 0.0001},
            "governors": ["performance"],
            "unit": {"LimitMEMLOCK": "infinity", "Restart": "no"},
        },
        "processes": {
            "vllm": [vllm_process(connector)],
            "lmcache": [],
            "mooncake": [],
            "own": [],
            "own_memory": 0,
            "mode": "",
            "shared_memory": [{"path": "/dev/shm/psm_1", "size": 1 << 20, "mapped": True}],
        },
        "accelerators": {
            "nvidia_smi": "",
            "driver": "570.86",
            "cuda": "12.8",
            "open_driver": True,
            "gpus": [gpu(index) for index in range(8)] if cuda else [],
            "processes": [],
            "xids": [],
        },
        "rdma": rdma_section(("mlx5_0", rdma_port())) if protocol == "rdma" else rdma_section(),
        "network": {
            "names": {"10.0.0.1": {"addresses": ["10.0.0.1"]}, "10.0.0.11": {"addresses": ["10.0.0.11"]}},
            "ports": [
                {"host": host, "port": port, "purpose": purpose, "kit": False, "state": "open", "ms": 0.4}
                for host, port, purpose in ports
            ],
            "peers": {"10.0.0.12": "refused"},
            "listening": [{"port": 8000, "address": "127.0.0.1", "pid": 100, "command": "vllm"}],
            "proxies": {},
            "no_proxy": "",
            "paths": [{"host": "10.0.0.1", "device": "ens1", "mtu": 9000}],
            "port_range": [32768, 60999],
            "closing": 12,
        },
        "stack": {
            "python": "/opt/vllm/bin/python",
            "problem": "",
            "python_version": "3.11.9",
            "packages": {
                "vllm": "0.32.0",
                "lmcache": "0.5.6",
                "torch": "2.13.0",
                "mooncake-transfer-engine" + ("" if cuda else "-non-cuda"): "0.3.13.post1",
            },
            "extensions": ["cuda_ops", "lmcache_native"],
            "torch_cuda": "12.8" if cuda else "",
            "lmcache_config": {"path": CONFIG, "error": "", "document": document, "lines": lines}
            if connector == "lmcache-inprocess"
            else None,
        },
        "mooncake": mooncake_section(protocol),
        "lmcache": {
            "health": {"status": 200, "body": "{}"} if connector == "lmcache-mp" else None,
            "status": {"status": 200, "body": '{"is_healthy": true}'} if connector == "lmcache-mp" else None,
        },
        "vllm": {
            "engines": [
                {
                    "url": "http://127.0.0.1:8000",
                    "health": 200,
                    "problem": "",
                    "models": ["model"],
                    "models_status": 200,
                    "version": "0.32.0",
                    "external": connector != "none",
                    "dev_mode": True,
                }
            ],
            "block_size": 16 if cuda else 128,
        },
    }


def gpu(index: int) -> dict[str, Any]:
    return {
        "index": index,
        "name": "NVIDIA H100 80GB HBM3",
        "pci": f"00000000:{index:02d}:00.0",
        "memory_total": 81559,
        "memory_used": 70000,
        "ecc_uncorrected": 0,
        "numa": 0,
    }


def mooncake_section(protocol: str = "rdma") -> dict[str, Any]:
    """With what a 0.3.13 master answers, and a canary that came back."""
    return {
        "metrics_status": 200,
        "metrics_head": "# HELP master_key_count",
        "metrics": {
            "master_key_count": 22.0,
            "master_active_clients": 8.0,
            "master_total_capacity_bytes": 320.0 * GIB,
            "master_put_start_alloc_failures_total": 0.0,
        },
        "health": {
            "status": 200,
            "body": '{"status":"ok","role":"leader","ha_state":"serving","service_ready":true}',
        },
        "version": {"status": 404, "body": ""},
        "metadata": {"status": 404, "body": "metadata not found"},
        "segments": ["10.0.0.11:13041"],
        "canary": {
            "key": "kvkit_preflight_1",
            "size": 4 << 20,
            "problem": "",
            "put_s": 0.01,
            "get_s": 0.005,
            "same": True,
            "queue_pairs": 2 if protocol == "rdma" else 0,
            "removed": True,
        },
    }


def target(
    connector: str = "lmcache-inprocess", device: str = "cuda", protocol: str = "rdma", **changes: Any
) -> Target:
    settings: dict[str, Any] = {
        "parts": ["vllm"],
        "stage": "after",
        "mode": "with-cache" if connector != "none" else "baseline",
        "device": device,
        "connector": connector,
        "protocol": protocol,
        "stack_python": "/opt/vllm/bin/python",
        "rdma_devices": ["mlx5_0"] if protocol == "rdma" else [],
        "rdma_min_rate": 400 if protocol == "rdma" else 0,
        "mooncake_host": "10.0.0.1",
        "mooncake_rpc_port": 50051,
        "mooncake_metrics_port": 9003,
        "mooncake_metadata_port": 8080,
        "local_hostname": "10.0.0.11",
        "lmcache_config": CONFIG if connector == "lmcache-inprocess" else "",
        "chunk_size": 256,
        "vllm_model": "model",
        "workers": 8 if device == "cuda" else 1,
        "global_segment_size": 40 * GIB,
        "local_buffer_size": 2 * GIB,
        "cpu_tier_size": 20 * GIB,
        "segments": 8 if device == "cuda" else 1,
        "peers": ["10.0.0.12"],
        "results_dir": "/var/lib/kvkit",
    }
    return Target.from_dict({**settings, **changes})
