"""The keys that LMCache reads, version by version.

Read from `_CONFIG_DEFINITIONS` and `_CONFIG_ALIASES` of lmcache/v1/config.py in the releases 0.3.4 to 0.5.6 (the first
with that table, and the newest), and for `extra_config` from its Mooncake connector and Mooncake's own setup.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NEWEST = "0.5.6"
"""Taken where the installed version is not known."""

SETUP_BY_NAME = "0.4.5"
"""From here on the store is set up by name, with the names of Mooncake 0.3.9 and newer (LMCache #2631, Mooncake #1445),
and the documented ones are dropped without a word."""


@dataclass(frozen=True)
class Key:
    """`int`, `float`, `bool`, `str`, `list` or `dict`, and the first and last release that reads it."""

    type: str
    since: str = ""
    until: str = ""

    def read_by(self, version: str) -> bool:
        at = ordered(version)
        return not (self.since and at < ordered(self.since)) and not (self.until and at > ordered(self.until))


def ordered(version: str) -> tuple[int, ...]:
    """`0.3.9.post2` -> (0, 3, 9): what decides about keys. A candidate counts as its release."""
    found = re.match(r"(\d+)\.(\d+)\.?(\d*)", version)
    return tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)


KEYS: dict[str, Key] = {
    "app_id": Key("str", since="0.3.13"),
    "audit_actual_remote_url": Key("str"),
    "blend_check_layers": Key("list", since="0.3.6"),
    "blend_min_tokens": Key("int"),
    "blend_recompute_ratio": Key("float", until="0.3.5"),
    "blend_recompute_ratios": Key("list", since="0.3.6"),
    "blend_special_str": Key("str"),
    "blend_thresholds": Key("list", since="0.3.6"),
    "blocking_timeout_secs": Key("int"),
    "cache_policy": Key("str"),
    "chunk_size": Key("int"),
    "chunk_statistics_auto_exit_target_unique_chunks": Key("int", since="0.3.10"),
    "chunk_statistics_auto_exit_timeout_hours": Key("float", since="0.3.10"),
    "chunk_statistics_auto_start_statistics": Key("bool", since="0.3.10"),
    "chunk_statistics_strategy": Key("str", since="0.3.10"),
    "controller_pull_url": Key("str", since="0.3.7"),
    "controller_reply_url": Key("str", since="0.3.7"),
    "controller_url": Key("str", until="0.3.6"),
    "cufile_buffer_size": Key("int", until="0.4.3"),
    "distributed_url": Key("str", until="0.3.6"),
    "enable_async_loading": Key("bool", since="0.3.6"),
    "enable_blending": Key("bool"),
    "enable_chunk_statistics": Key("bool", since="0.3.10"),
    "enable_controller": Key("bool"),
    "enable_hidden_state_cache": Key("bool", since="0.5.1"),
    "enable_kv_events": Key("bool", since="0.3.11"),
    "enable_lazy_memory_allocator": Key("bool", since="0.3.10"),
    "enable_nixl": Key("bool", until="0.3.6"),
    "enable_p2p": Key("bool"),
    "enable_pd": Key("bool", since="0.3.7"),
    "enable_scheduler_bypass_lookup": Key("bool", since="0.3.9"),
    "enable_xpyd": Key("bool", until="0.3.6"),
    "error_handling": Key("bool", until="0.3.5"),
    "external_backends": Key("list", since="0.3.5", until="0.3.10"),
    "external_lookup_client": Key("str"),
    "extra_config": Key("dict"),
    "gds_backend": Key("str", since="0.4.4"),
    "gds_buffer_size": Key("int", since="0.4.4"),
    "gds_path": Key("str"),
    "gds_path_sharding": Key("str", since="0.4.3"),
    "hidden_state_layers": Key("list", since="0.5.1"),
    "hidden_states_retrieve_mode": Key("str", since="0.5.1"),
    "hit_miss_ratio": Key("float", since="0.3.7"),
    "internal_api_server_enabled": Key("bool"),
    "internal_api_server_host": Key("str"),
    "internal_api_server_include_index_list": Key("list"),
    "internal_api_server_port_start": Key("int"),
    "internal_api_server_socket_path_prefix": Key("str"),
    "lazy_memory_expand_trigger_ratio": Key("float", since="0.3.10"),
    "lazy_memory_initial_ratio": Key("float", since="0.3.10"),
    "lazy_memory_safe_size": Key("float", since="0.3.10"),
    "lazy_memory_step_ratio": Key("float", since="0.3.10"),
    "lmcache_instance_id": Key("str"),
    "lmcache_worker_heartbeat_delay_time": Key("int", since="0.3.5"),
    "lmcache_worker_heartbeat_time": Key("int", since="0.3.5"),
    "lmcache_worker_ids": Key("list", since="0.3.10"),
    "lmcache_worker_port": Key("int", until="0.3.6"),
    "lmcache_worker_ports": Key("list", since="0.3.7"),
    "local_cpu": Key("bool"),
    "local_cpu_use_hugepages": Key("bool", since="0.4.6"),
    "local_disk": Key("str"),
    "local_disk_path_sharding": Key("str", since="0.4.4"),
    "lookup_server_worker_ids": Key("list", since="0.3.9"),
    "lookup_timeout_ms": Key("int", since="0.3.7"),
    "lookup_url": Key("str", until="0.3.6"),
    "maru_path": Key("str", since="0.4.3"),
    "maru_pool_size": Key("float", since="0.4.3"),
    "max_hidden_state_cpu_size": Key("float", since="0.5.1"),
    "max_local_cpu_size": Key("float"),
    "max_local_disk_size": Key("float"),
    "min_retrieve_tokens": Key("int", since="0.3.14"),
    "mla_lookup_server_worker_id": Key("int", since="0.3.9", until="0.3.9"),
    "mp_host": Key("str", since="0.4.6"),
    "mp_port": Key("int", since="0.4.6"),
    "nixl_backends": Key("list"),
    "nixl_buffer_device": Key("str"),
    "nixl_buffer_size": Key("int"),
    "nixl_enable_gc": Key("bool", until="0.3.6"),
    "nixl_peer_alloc_port": Key("list", until="0.3.6"),
    "nixl_peer_host": Key("str", until="0.3.6"),
    "nixl_peer_init_port": Key("list", until="0.3.6"),
    "nixl_proxy_host": Key("str", until="0.3.6"),
    "nixl_proxy_port": Key("int", until="0.3.6"),
    "nixl_receiver_host": Key("str", until="0.3.6"),
    "nixl_receiver_port": Key("int", until="0.3.6"),
    "nixl_role": Key("str", until="0.3.6"),
    "numa_mode": Key("str"),
    "p2p_host": Key("str", since="0.3.7"),
    "p2p_init_ports": Key("list", since="0.3.7"),
    "p2p_lookup_ports": Key("list", since="0.3.7"),
    "pd_allocation_timeout_sec": Key("float", since="0.4.5"),
    "pd_backend_mode": Key("str", since="0.4.5"),
    "pd_bidirectional": Key("bool", since="0.4.5"),
    "pd_buffer_device": Key("str", since="0.3.7"),
    "pd_buffer_size": Key("int", since="0.3.7"),
    "pd_condition_poll_interval_sec": Key("float", since="0.4.5"),
    "pd_max_prefill_len": Key("int", since="0.4.5"),
    "pd_peer_alloc_port": Key("list", since="0.3.7"),
    "pd_peer_host": Key("str", since="0.3.7"),
    "pd_peer_init_port": Key("list", since="0.3.7"),
    "pd_peer_query_port": Key("list", since="0.4.5"),
    "pd_proxy_host": Key("str", since="0.3.7"),
    "pd_proxy_port": Key("int", since="0.3.7"),
    "pd_role": Key("str", since="0.3.7"),
    "pd_shutdown_timeout_sec": Key("float", since="0.4.5"),
    "pd_skip_proxy_notification": Key("bool", since="0.4.4"),
    "pin_check_interval_sec": Key("int", since="0.3.12"),
    "pin_timeout_sec": Key("int", since="0.3.12"),
    "plugin_locations": Key("list", until="0.3.10"),
    "pre_caching_hash_algorithm": Key("str"),
    "priority_limit": Key("int", since="0.3.6"),
    "py_enable_gc": Key("bool"),
    "remote_config_url": Key("str", since="0.3.13"),
    "remote_serde": Key("str"),
    "remote_storage_plugins": Key("list", since="0.3.14"),
    "remote_url": Key("str"),
    "reserve_local_cpu_size": Key("float", since="0.3.9"),
    "retrieve_locations": Key("list", since="0.4.2"),
    "run_script_api_enabled": Key("bool", since="0.5.6"),
    "runtime_plugin_locations": Key("list", since="0.3.11"),
    "save_decode_cache": Key("bool"),
    "save_unfull_chunk": Key("bool"),
    "script_allowed_imports": Key("list", since="0.3.9"),
    "storage_plugins": Key("list", since="0.3.11"),
    "store_location": Key("str", since="0.4.2"),
    "transfer_channel": Key("str", since="0.3.7"),
    "use_gds": Key("bool", since="0.4.4"),
    "use_gpu_connector_v3": Key("bool", since="0.3.12"),
    "use_layerwise": Key("bool"),
    "weka_path": Key("str", until="0.3.11"),
}

RENAMED: dict[str, str] = {
    "enable_xpyd": "enable_pd",
    "nixl_peer_host": "pd_peer_host",
    "nixl_peer_init_port": "pd_peer_init_port",
    "nixl_peer_alloc_port": "pd_peer_alloc_port",
    "nixl_proxy_host": "pd_proxy_host",
    "nixl_proxy_port": "pd_proxy_port",
    "nixl_buffer_size": "pd_buffer_size",
    "nixl_role": "pd_role",
    "controller_url": "controller_pull_url",
    "lmcache_worker_port": "lmcache_worker_ports",
    "plugin_locations": "runtime_plugin_locations",
    "external_backends": "storage_plugins",
    "blend_recompute_ratio": "blend_recompute_ratios",
    "weka_path": "gds_path",
    "cufile_buffer_size": "gds_buffer_size",
    "mla_lookup_server_worker_id": "lookup_server_worker_ids",
}
"""Older name -> the one that is read today. LMCache takes over only `plugin_locations` and `external_backends`."""

SETUP_KEYS = (
    "local_hostname",
    "metadata_server",
    "global_segment_size",
    "local_buffer_size",
    "protocol",
    "rdma_devices",
    "master_server_addr",
)
"""What Mooncake's setup reads; LMCache hands on `mooncake_NAME` as NAME."""

EXTRA_KEYS: dict[str, Key] = {
    "local_hostname": Key("str"),
    "metadata_server": Key("str"),
    "master_server_address": Key("str"),
    "protocol": Key("str"),
    "device_name": Key("str"),
    "global_segment_size": Key("int"),
    "local_buffer_size": Key("int"),
    "transfer_timeout": Key("int"),
    "storage_root_dir": Key("str"),
    "save_chunk_meta": Key("bool"),
    "use_exists_sync": Key("bool"),
    "save_only_first_rank": Key("bool"),
    "remote_enable_mla_worker_id_as0": Key("bool"),
    "mooncake_prefer_local_alloc": Key("bool"),
    "first_rank_max_local_cpu_size": Key("float"),
    **{f"mooncake_{name}": Key("int" if name.endswith("size") else "str", since=SETUP_BY_NAME) for name in SETUP_KEYS},
}
"""Of `extra_config`, where the store is Mooncake."""

TWINS: dict[str, str] = {
    "master_server_address": "mooncake_master_server_addr",
    "device_name": "mooncake_rdma_devices",
}
"""Documented name -> the one that reaches Mooncake from 0.4.5 on. Both may stand in a file."""
