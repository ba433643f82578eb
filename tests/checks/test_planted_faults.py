"""Faults planted into the facts of a healthy host: each is named by its own check, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.checks import healthy
from tests.checks.judging import bad

Facts = dict[str, Any]
Plant = Callable[[Facts], None]

FAULTS: list[Any] = []


def fault(
    id: str, status: str = "fail", *, of: tuple[str, str, str] = ("lmcache-inprocess", "cuda", "rdma"), **changes: Any
) -> Callable[[Plant], Plant]:
    """One planted fault: the id that must name it, and what the host is otherwise."""

    def register(plant: Plant) -> Plant:
        FAULTS.append(pytest.param(id, status, of, changes, plant, id=plant.__name__, marks=pytest.mark.planted(id)))
        return plant

    return register


def port_of(facts: Facts) -> Any:
    return facts["rdma"]["devices"][0]["ports"][0]


def both_say(facts: Facts, state: str) -> None:
    port_of(facts)["state"] = state
    facts["rdma"]["rdma_link"]["links"][0]["state"] = state


def server(facts: Facts) -> Any:
    return facts["processes"]["vllm"][0]


def extra(facts: Facts) -> Any:
    return document(facts)["extra_config"]


def document(facts: Facts) -> Any:
    return facts["stack"]["lmcache_config"]["document"]


def replaced(facts: Facts, old: str, new: str) -> None:
    server(facts)["argv"] = [argument.replace(old, new) for argument in server(facts)["argv"]]


# --- RDMA


@fault("rdma.device.present", rdma_devices=[], rdma_min_rate=0)
def no_device_at_all(facts: Facts) -> None:
    facts["rdma"] = healthy.rdma_section()


@fault("rdma.device.present", rdma_devices=["mlx5_0", "mlx5_9"])
def a_device_of_another_name(facts: Facts) -> None:
    pass


@fault("rdma.link.state")
def a_port_without_a_subnet_manager(facts: Facts) -> None:
    both_say(facts, "INIT")


@fault("rdma.link.physical_state")
def a_link_that_recovers_from_errors(facts: Facts) -> None:
    port_of(facts)["phys_state"] = "LinkErrorRecovery"


@fault("rdma.link.layer", rdma_link_layer="InfiniBand")
def ethernet_where_infiniband_was_asked_for(facts: Facts) -> None:
    pass


@fault("rdma.link.rate")
def a_link_that_trained_down(facts: Facts) -> None:
    port_of(facts)["rate"] = 100.0


@fault("rdma.sources.agree")
def a_device_that_the_namespace_does_not_see(facts: Facts) -> None:
    facts["rdma"]["rdma_link"]["links"] = []


@fault("rdma.gid.routable")
def a_port_without_an_address(facts: Facts) -> None:
    port_of(facts)["gids"] = port_of(facts)["gids"][:1]


@fault("rdma.gid.index", gid_index=0)
def a_link_local_gid_was_chosen(facts: Facts) -> None:
    pass


@fault("rdma.gid.index", gid_index=7)
def an_empty_gid_was_chosen(facts: Facts) -> None:
    pass


@fault("rdma.mtu.active", "warn")
def a_small_mtu(facts: Facts) -> None:
    port_of(facts).update(active_mtu=None, netdev_mtu=1500)


@fault("rdma.pkey.full")
def a_limited_partition_member(facts: Facts) -> None:
    facts["rdma"] = healthy.rdma_section(("mlx5_0", healthy.rdma_port("InfiniBand") | {"pkey": "0x7fff"}))


@fault("rdma.errors.rising", "warn")
def symbol_errors_that_rise(facts: Facts) -> None:
    port_of(facts)["errors_later"]["symbol_error"] = 9


@fault("rdma.link.flaps", "warn")
def a_link_that_flaps(facts: Facts) -> None:
    port_of(facts)["carrier_losses"] = 40


@fault("rdma.uverbs.access")
def a_closed_device_node(facts: Facts) -> None:
    facts["rdma"]["devices"][0]["readable"] = False


@fault("rdma.gpudirect", "warn")
def no_way_to_gpu_memory(facts: Facts) -> None:
    facts["rdma"]["modules"]["nvidia_peermem"] = False
    facts["accelerators"]["open_driver"] = False


@fault("rdma.numa.distance", "warn")
def a_nic_on_the_other_socket(facts: Facts) -> None:
    facts["rdma"]["devices"][0]["numa"] = 1


@fault("rdma.resources.leaked", "warn")
def leaked_queue_pairs(facts: Facts) -> None:
    facts["rdma"]["resources"]["mlx5_0"]["qp"] = 60000


# --- GPUs


@fault("gpu.present")
def nvidia_smi_hangs(facts: Facts) -> None:
    facts["accelerators"] |= {"nvidia_smi": "timeout", "gpus": []}


@fault("gpu.present")
def a_gpu_is_missing(facts: Facts) -> None:
    facts["accelerators"]["gpus"].pop()


@fault("gpu.ecc")
def uncorrected_memory_errors(facts: Facts) -> None:
    facts["accelerators"]["gpus"][3]["ecc_uncorrected"] = 2


@fault("gpu.xid")
def a_gpu_fell_off_the_bus(facts: Facts) -> None:
    facts["accelerators"]["xids"] = [
        {"code": 79, "line": "NVRM: Xid (PCI:0000:03:00): 79, GPU has fallen off the bus."}
    ]


@fault("gpu.driver.cuda")
def a_driver_older_than_the_wheels(facts: Facts) -> None:
    facts["accelerators"]["cuda"] = "11.8"


# --- the network


@fault("network.name.resolves")
def a_name_that_nobody_knows(facts: Facts) -> None:
    facts["network"]["names"]["store.example"] = {"error": "Name or service not known"}


@fault("network.name.not_loopback")
def a_hostname_that_is_loopback(facts: Facts) -> None:
    facts["network"]["names"]["10.0.0.11"] = {"addresses": ["127.0.1.1"]}


@fault("network.port.refused")
def a_master_that_is_down(facts: Facts) -> None:
    facts["network"]["ports"][0]["state"] = "refused"


@fault("network.port.filtered")
def a_firewall_before_the_metrics(facts: Facts) -> None:
    facts["network"]["ports"][1]["state"] = "filtered"


@fault("network.port.slow", "warn")
def a_full_accept_queue(facts: Facts) -> None:
    facts["network"]["ports"][0] |= {"state": "slow", "ms": 3100.0}


@fault("network.port.taken", stage="before", mode="", vllm_port=8000)
def somebody_on_the_engines_port(facts: Facts) -> None:
    facts["network"]["listening"] = [{"port": 8000, "address": "0.0.0.0", "pid": 9, "command": "nginx"}]


@fault("network.port.range", "warn")
def ephemeral_ports_within_mooncakes(facts: Facts) -> None:
    facts["network"]["port_range"] = [1024, 65000]


@fault("network.proxy", "warn")
def a_proxy_before_the_metadata_server(facts: Facts) -> None:
    server(facts)["environ"]["http_proxy"] = "http://***@proxy:3128"


@fault("network.mtu.path", "warn")
def a_tunnel_on_the_way(facts: Facts) -> None:
    facts["network"]["paths"][0]["mtu"] = 1370


# --- the store


@fault("mooncake.metrics.format")
def another_server_on_the_metrics_port(facts: Facts) -> None:
    facts["mooncake"] |= {"metrics": {}, "metrics_head": "vllm:num_requests_running", "canary": None, "segments": []}


@fault("mooncake.master.health")
def a_standby_master(facts: Facts) -> None:
    facts["mooncake"]["health"]["body"] = '{"status":"ok","role":"standby","service_ready":false}'


@fault("mooncake.metadata.path")
def another_server_on_the_metadata_port(facts: Facts) -> None:
    facts["mooncake"]["metadata"] = {"status": 404, "body": '{"detail":"Not Found"}'}


@fault("mooncake.version")
def a_master_of_another_version(facts: Facts) -> None:
    facts["mooncake"]["version"] = {"status": 200, "body": '"0.3.9"'}


@fault("mooncake.capacity")
def a_store_without_segments(facts: Facts) -> None:
    facts["mooncake"]["metrics"]["master_total_capacity_bytes"] = 0.0


@fault("mooncake.capacity", working_set_bytes=400 * healthy.GIB)
def a_store_smaller_than_the_working_set(facts: Facts) -> None:
    pass


@fault("mooncake.allocation_failures", "warn")
def a_store_that_was_full(facts: Facts) -> None:
    facts["mooncake"]["metrics"]["master_put_start_alloc_failures_total"] = 17.0


@fault("mooncake.segments.stale")
def a_segment_of_a_dead_host(facts: Facts) -> None:
    facts["mooncake"]["metrics"]["master_active_clients"] = 0.0


@fault("mooncake.canary.roundtrip")
def other_bytes_come_back(facts: Facts) -> None:
    facts["mooncake"]["canary"]["same"] = False


@fault("mooncake.canary.protocol")
def tcp_where_rdma_was_asked_for(facts: Facts) -> None:
    facts["mooncake"]["canary"]["queue_pairs"] = 0


@fault("mooncake.canary.bandwidth", "warn")
def a_store_slower_than_computing(facts: Facts) -> None:
    facts["mooncake"]["canary"]["get_s"] = 2.0


@fault("mooncake.canary.removed")
def a_key_that_stays(facts: Facts) -> None:
    facts["mooncake"]["canary"]["removed"] = False


# --- LMCache's file


@fault("lmcache.file.readable")
def a_file_that_is_no_yaml(facts: Facts) -> None:
    facts["stack"]["lmcache_config"]["error"] = "mapping values are not allowed here"


@fault("lmcache.key.unknown")
def an_unknown_key(facts: Facts) -> None:
    document(facts)["bogus"] = 1


@fault("lmcache.key.misspelt")
def a_misspelt_key(facts: Facts) -> None:
    extra(facts)["mooncacke_prefer_local_alloc"] = True


@fault("lmcache.key.renamed")
def a_key_of_an_older_release(facts: Facts) -> None:
    document(facts)["controller_url"] = "x"


@fault("lmcache.key.renamed")
def a_key_of_a_newer_release(facts: Facts) -> None:
    document(facts)["remote_storage_plugins"] = ["mooncakestore"]
    facts["stack"]["packages"]["lmcache"] = "0.3.12"
    for name in ("mooncake_master_server_addr", "mooncake_rdma_devices"):
        del extra(facts)[name]


@fault("lmcache.key.ignored")
def the_guides_spelling_alone(facts: Facts) -> None:
    del extra(facts)["mooncake_master_server_addr"]


@fault("lmcache.value.type")
def a_word_for_a_number(facts: Facts) -> None:
    document(facts)["blocking_timeout_secs"] = "soon"


@fault("lmcache.value.unit")
def a_segment_size_with_a_unit(facts: Facts) -> None:
    extra(facts)["global_segment_size"] = "64MB"


@fault("lmcache.value.unit")
def bytes_for_gibibytes(facts: Facts) -> None:
    document(facts)["max_local_cpu_size"] = 21474836480


@fault("lmcache.value.boolean")
def a_quoted_boolean(facts: Facts) -> None:
    document(facts)["local_cpu"] = "yes"


@fault("lmcache.size.zero")
def no_staging_buffer(facts: Facts) -> None:
    document(facts)["max_local_cpu_size"] = 0


@fault("lmcache.master.address")
def another_master(facts: Facts) -> None:
    extra(facts)["mooncake_master_server_addr"] = "10.0.0.1:50052"


@fault("lmcache.protocol")
def another_protocol(facts: Facts) -> None:
    extra(facts)["protocol"] = "tcp"


# --- LMCache in effect


@fault("lmcache.env.overrides")
def a_stale_mooncake_config_path(facts: Facts) -> None:
    server(facts)["environ"]["MOONCAKE_CONFIG_PATH"] = "/opt/old.json"


@fault("lmcache.env.overrides", "warn")
def a_chunk_size_in_the_environment(facts: Facts) -> None:
    server(facts)["environ"]["LMCACHE_CHUNK_SIZE"] = "128"


@fault("lmcache.config.in_effect")
def a_file_that_was_not_exported(facts: Facts) -> None:
    del server(facts)["environ"]["LMCACHE_CONFIG_FILE"]


@fault("lmcache.chunk_size.block_size", of=("lmcache-mp", "cpu", "tcp"), chunk_size=100)
def chunks_of_odd_blocks(facts: Facts) -> None:
    pass


@fault("lmcache.hash.algorithm")
def pythons_own_hash(facts: Facts) -> None:
    document(facts)["pre_caching_hash_algorithm"] = "builtin"


@fault("lmcache.hash.seed")
def a_process_without_a_seed(facts: Facts) -> None:
    del server(facts)["environ"]["PYTHONHASHSEED"]


@fault("lmcache.remote_code")
def scripts_for_the_network(facts: Facts) -> None:
    document(facts).update(
        internal_api_server_enabled=True, internal_api_server_host="0.0.0.0", run_script_api_enabled=True
    )


@fault("lmcache.remote_code", "warn", of=("lmcache-mp", "cpu", "tcp"), lmcache_http_port=8085)
def a_server_for_the_network(facts: Facts) -> None:
    facts["processes"]["lmcache"] = [{**server(facts), "pid": 7, "argv": ["python", "lmcache", "server"]}]
    facts["network"]["listening"].append({"port": 8085, "address": "0.0.0.0", "pid": 7, "command": "lmcache server"})


@fault("lmcache.server.health", of=("lmcache-mp", "cpu", "tcp"))
def a_second_tier_that_was_lost(facts: Facts) -> None:
    facts["lmcache"]["status"]["body"] = '{"is_healthy": false, "l2_adapters": [{"healthy": false}]}'


# --- versions


@fault("versions.stack.present")
def no_mooncake(facts: Facts) -> None:
    del facts["stack"]["packages"]["mooncake-transfer-engine"]


@fault("versions.pair.known_bad")
def a_module_that_moved(facts: Facts) -> None:
    facts["stack"]["packages"]["lmcache"] = "0.5.7rc2"


@fault("versions.pair.known_bad", of=("mooncake-store", "cpu", "tcp"))
def a_vllm_without_the_connector(facts: Facts) -> None:
    facts["stack"]["packages"]["vllm"] = "0.20.1"


@fault("versions.mooncake.build")
def a_build_for_another_cuda(facts: Facts) -> None:
    packages = facts["stack"]["packages"]
    packages["mooncake-transfer-engine-cuda13"] = packages.pop("mooncake-transfer-engine")


# --- vLLM


@fault("vllm.api.health")
def a_dead_engine(facts: Facts) -> None:
    facts["vllm"]["engines"][0]["health"] = 503


@fault("vllm.model.served")
def another_model(facts: Facts) -> None:
    facts["vllm"]["engines"][0]["models"] = ["another"]


@fault("vllm.connector.configured")
def the_guides_start_without_a_connector(facts: Facts) -> None:
    argv = server(facts)["argv"]
    del argv[argv.index("--kv-transfer-config") :]


@fault("vllm.connector.configured")
def another_connector(facts: Facts) -> None:
    replaced(facts, "LMCacheConnectorV1", "OffloadingConnector")


@fault("vllm.connector.role", "warn")
def a_producer_alone(facts: Facts) -> None:
    replaced(facts, "kv_both", "kv_producer")


@fault("vllm.connector.engaged")
def no_counters_of_a_connector(facts: Facts) -> None:
    facts["vllm"]["engines"][0]["external"] = False


@fault("vllm.load_failure_policy", "warn")
def a_failed_load_fails_the_request(facts: Facts) -> None:
    replaced(facts, "recompute", "fail")


@fault("vllm.hma.same", "warn")
def the_hybrid_manager_differs_between_modes(facts: Facts) -> None:
    server(facts)["argv"].remove("--disable-hybrid-kv-cache-manager")


@fault("vllm.prefix_cache.flags", "warn")
def no_prefix_cache(facts: Facts) -> None:
    server(facts)["argv"].append("--no-enable-prefix-caching")


@fault("vllm.hash.algorithm", "warn", of=("mooncake-store", "cuda", "rdma"))
def a_hash_that_hangs_on_the_seed(facts: Facts) -> None:
    replaced(facts, "sha256_cbor", "xxhash")


@fault("vllm.dev_mode.exposed", "warn")
def dev_mode_for_the_network(facts: Facts) -> None:
    replaced(facts, "127.0.0.1", "0.0.0.0")


@fault("vllm.model.keys", "warn", of=("mooncake-store", "cuda", "rdma"))
def keys_that_two_variants_share(facts: Facts) -> None:
    server(facts)["argv"] += ["--kv-cache-dtype", "fp8"]


@fault("vllm.shutdown", "warn")
def an_engine_that_is_killed_at_once(facts: Facts) -> None:
    argv = server(facts)["argv"]
    del argv[argv.index("--shutdown-timeout") : argv.index("--shutdown-timeout") + 2]


@fault("vllm.leftovers.processes")
def a_worker_without_its_server(facts: Facts) -> None:
    worker = {**server(facts), "pid": 200, "argv": ["VLLM::Worker_TP3"], "environ": {}, "orphan": True}
    facts["processes"]["vllm"].append(worker)


@fault("vllm.leftovers.shared_memory", "warn")
def shared_memory_that_nobody_maps(facts: Facts) -> None:
    facts["processes"]["shared_memory"].append({"path": "/dev/shm/psm_2", "size": 200 << 20, "mapped": False})


# --- the host


@fault("host.memory.segments")
def segments_larger_than_the_memory(facts: Facts) -> None:
    facts["system"]["memory"]["available"] = 500 * healthy.GIB


@fault("host.memory.swap", "warn")
def a_host_that_swaps(facts: Facts) -> None:
    facts["system"]["memory"]["swap_used"] = 8 * healthy.GIB


@fault("host.hugepages")
def too_few_hugepages(facts: Facts) -> None:
    server(facts)["environ"]["MC_STORE_USE_HUGEPAGE"] = "1"


@fault("host.limits.memlock")
def a_service_that_may_not_pin(facts: Facts) -> None:
    server(facts)["memlock"] = 8 << 20


@fault("host.limits.nofile", "warn")
def few_open_files(facts: Facts) -> None:
    server(facts)["nofile"] = 1024


@fault("host.sysctl.max_map_count", "warn")
def few_mappings(facts: Facts) -> None:
    facts["system"]["max_map_count"] = 65530


@fault("host.shm.size")
def a_containers_shared_memory(facts: Facts) -> None:
    facts["system"]["shm"]["size"] = 64 << 20


@fault("host.disk.results", parts=["vllm", "loadgen"])
def a_full_disk(facts: Facts) -> None:
    facts["system"]["disks"]["/var/lib/kvkit"]["free"] = 1 << 20


@fault("host.clock.synchronised", "warn")
def a_free_running_clock(facts: Facts) -> None:
    facts["system"]["clock"]["synchronised"] = False


@fault("host.cpu.governor", "warn")
def a_cpu_that_saves_power(facts: Facts) -> None:
    facts["system"]["governors"] = ["powersave"]


@pytest.mark.parametrize(("id", "status", "of", "changes", "plant"), FAULTS)
def test_a_planted_fault_is_named_by_its_own_check(
    id: str, status: str, of: tuple[str, str, str], changes: dict[str, Any], plant: Plant
) -> None:
    facts = healthy.facts(*of)
    plant(facts)
    assert bad(facts, healthy.target(*of, **changes)) == {id: status}
