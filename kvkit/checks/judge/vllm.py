"""Judgements on vLLM: how it was started, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..target import VLLM, Target
from ..told import object_of

CLASSES = {
    "lmcache-inprocess": ("LMCacheConnectorV1", "LMCacheConnectorV1Dynamic"),
    "lmcache-mp": ("LMCacheMPConnector",),
    "mooncake-store": ("MooncakeStoreConnector",),
}
"""What `kv_connector` of --kv-transfer-config may be, for each of the kit's connectors."""


def option(argv: list[str], name: str) -> str | None:
    """The value of a command-line option, in either spelling; empty for a flag, None where it is not given."""
    for argument, following in zip(argv, [*argv[1:], ""]):
        if argument == name:
            return "" if following.startswith("--") else following
        if argument.startswith(name + "="):
            return argument[len(name) + 1 :]
    return None


def transfer_config(argv: list[str]) -> dict[str, Any] | None:
    text = option(argv, "--kv-transfer-config")
    if text is None:
        return None
    return object_of(text)


def _servers(processes: Any, target: Target) -> Iterator[tuple[str, Any]]:
    """The API servers of this host: their workers tell nothing of how they were started.

    Before a start there are none to judge: what runs then is about to be replaced.
    """
    for one in processes["vllm"] if VLLM in target.parts and target.stage != "before" else ():
        if not one["argv"][0].startswith("VLLM::"):
            yield f"process {one['pid']}", one


def _asked(processes: Any, target: Target) -> bool:
    """Whether the running engine is meant to be with the cache: in the baseline it is right without."""
    return target.uses_store and (target.mode or processes["mode"]) != "baseline"


@check(
    "vllm.api.health",
    looks_at="GET /health of every engine.",
    why="An engine that answers 503 is dead behind its API server, which ends with exit code 0: a unit with "
    "Restart=on-failure leaves it so.",
    mend="Read the engine's log, restart it, and give its unit Restart=always.",
    needs=("vllm",),
)
def api_health(vllm: Any, target: Target) -> Iterator[Verdict]:
    for engine in vllm["engines"]:
        if engine["health"] == 200:
            yield passed("HTTP 200", engine["url"])
        elif engine["health"] == 0:
            silent = target.stage == "after" and VLLM in target.parts
            wanted = failed(engine["problem"], "an engine that answers", "", engine["url"])
            # From a load generator the silence is a fault of the port, and named there.
            yield wanted if silent else skipped(f"not serving: {engine['problem']}", engine["url"])
        else:
            yield failed(f"HTTP {engine['health']}", "HTTP 200", "", engine["url"])


@check(
    "vllm.model.served",
    looks_at="GET /v1/models of every engine, against the model that is to be measured.",
    why="A request for a model that is not served is answered with 404, after the cycle has restarted the service.",
    mend="Set vllm_model_name (model_name) to a served name, or start vLLM with --served-model-name; 401 and 403 "
    "want the API key.",
    needs=("vllm",),
)
def model_served(vllm: Any, target: Target) -> Iterator[Verdict]:
    for engine in vllm["engines"]:
        if engine["health"] != 200 or not target.vllm_model:
            continue
        if engine["models"] is None:
            yield failed(f"HTTP {engine['models_status']}", f"a list with {target.vllm_model}", "", engine["url"])
        elif target.vllm_model in engine["models"]:
            yield passed(f"serves {target.vllm_model}", engine["url"])
        else:
            served = ", ".join(engine["models"]) or "nothing"
            yield failed(f"serves {served}", target.vllm_model, "", engine["url"])


@check(
    "vllm.connector.configured",
    looks_at="--kv-transfer-config in the command line of the running vLLM.",
    why="With LMCACHE_CONFIG_FILE alone vLLM never imports LMCache: nothing is cached, and no line of the log says so.",
    mend="Start vLLM with --kv-transfer-config and the connector that was asked for, kv_role kv_both "
    "(playbooks/serve.yml does it).",
    needs=("processes",),
)
def connector_configured(processes: Any, target: Target) -> Iterator[Verdict]:
    for subject, one in _servers(processes, target) if _asked(processes, target) else ():
        config = transfer_config(one["argv"])
        wanted = CLASSES[target.connector]
        if config is None and option(one["argv"], "--kv-offloading-backend") is not None:
            yield skipped("started with --kv-offloading-backend", subject)
        elif config is None:
            yield failed("no --kv-transfer-config", f"kv_connector {wanted[0]}", "", subject)
        elif config.get("kv_connector") not in wanted:
            yield failed(f"kv_connector {config.get('kv_connector', 'not set')}", wanted[0], "", subject)
        else:
            yield passed(str(config["kv_connector"]), subject)


@check(
    "vllm.connector.role",
    looks_at="kv_role in --kv-transfer-config.",
    why="A kv_producer stores and never loads, a kv_consumer loads and never stores: one half of sharing is missing.",
    mend='"kv_role": "kv_both", unless prefill and decode run in engines of their own.',
    needs=("processes",),
)
def connector_role(processes: Any, target: Target) -> Iterator[Verdict]:
    for subject, one in _servers(processes, target) if _asked(processes, target) else ():
        config = transfer_config(one["argv"])
        if not config:
            continue
        if config.get("kv_role") == "kv_both":
            yield passed("kv_both", subject)
        elif "kv_role" in config:
            yield warned(str(config["kv_role"]), "kv_both", "", subject)
        else:
            yield failed("no kv_role", "kv_both", "", subject)


@check(
    "vllm.connector.device",
    looks_at="The connector against the device.",
    why="On a CPU LMCache inside vLLM has no connector ('No supported cpu connector found'): vLLM serves, answers "
    "200 and logs 'LMCache initialized', stores nothing, and each request waits out a lookup of 3 s.",
    mend="On CPUs choose kv_connector=lmcache-mp or mooncake-store.",
    needs=("processes",),
)
def connector_device(processes: Any, target: Target) -> Iterator[Verdict]:
    if VLLM not in target.parts or target.engine == "emulated" or not _asked(processes, target):
        return
    running = [
        str((transfer_config(one["argv"]) or {}).get("kv_connector", "")) for _, one in _servers(processes, target)
    ]
    in_process = target.connector == "lmcache-inprocess" or any(
        name in CLASSES["lmcache-inprocess"] for name in running
    )
    if target.device == "cpu" and in_process:
        seen = "LMCache inside vLLM on a CPU, for which it has no connector ('No supported cpu connector found')"
        yield failed(seen, "lmcache-mp or mooncake-store", "")
    else:
        yield passed(f"{target.connector} on {target.device}")


@check(
    "vllm.connector.engaged",
    looks_at="The counters of the connector at /metrics (vllm:external_prefix_cache_queries_total).",
    why="They exist only where vLLM has loaded a connector. Without them the engine runs without one, whatever its "
    "log says.",
    mend="Restart vLLM with the connector (playbooks/serve.yml), and read its log from 'Creating v1 connector'.",
    needs=("vllm", "processes"),
)
def connector_engaged(sections: Any, target: Target) -> Iterator[Verdict]:
    vllm, processes = sections
    started = target.uses_store and (target.mode or processes["mode"]) == "with-cache" and target.stage != "before"
    for engine in vllm["engines"] if started else ():
        if engine["external"]:
            yield passed("the connector's counters exist", engine["url"])
        elif engine["external"] is False:
            yield failed("no counters of a connector", "external_prefix_cache_queries_total", "", engine["url"])
        elif engine["health"] == 200:
            yield unknown("the engine shows no vLLM metrics", subject=engine["url"])


@check(
    "vllm.load_failure_policy",
    looks_at="kv_load_failure_policy in --kv-transfer-config.",
    why="From vLLM 0.17 on the default is fail: a block that is found and cannot be loaded ends its request with an "
    "error, after HTTP 200.",
    mend='"kv_load_failure_policy": "recompute".',
    needs=("processes",),
)
def load_failure_policy(processes: Any, target: Target) -> Iterator[Verdict]:
    for subject, one in _servers(processes, target) if _asked(processes, target) else ():
        config = transfer_config(one["argv"])
        if not config:
            continue
        policy = config.get("kv_load_failure_policy", "not set, which is fail")
        if policy == "recompute":
            yield passed("recompute", subject)
        else:
            yield warned(policy, "recompute", "", subject)


@check(
    "vllm.hma.same",
    looks_at="--disable-hybrid-kv-cache-manager, where the connector switches that manager off by itself.",
    why="LMCacheConnectorV1 turns vLLM's hybrid KV cache manager off, and the baseline keeps it: a comparison of "
    "hybrid or sliding-window models then measures the manager.",
    mend="Give --disable-hybrid-kv-cache-manager in both modes (vllm_disable_hybrid_kv_cache_manager).",
    needs=("processes",),
)
def hma_same(processes: Any, target: Target) -> Iterator[Verdict]:
    for subject, one in _servers(processes, target) if target.connector == "lmcache-inprocess" else ():
        if option(one["argv"], "--disable-hybrid-kv-cache-manager") is not None:
            yield passed("off in this mode, by a flag", subject)
        else:
            yield warned("left to the connector", "the flag in both modes", "", subject)


@check(
    "vllm.prefix_cache.flags",
    looks_at="--no-enable-prefix-caching in the command line of the running vLLM.",
    why="An engine without its own prefix cache is a useful proof, and an unfair baseline: what users run has it.",
    mend="Leave the flag out for a measurement, in both modes.",
    needs=("processes",),
)
def prefix_cache_flags(processes: Any, target: Target) -> Iterator[Verdict]:
    for subject, one in _servers(processes, target):
        if option(one["argv"], "--no-enable-prefix-caching") is not None:
            yield warned("--no-enable-prefix-caching", "the default", "", subject)
        else:
            yield passed("vLLM's own prefix cache is on", subject)


@check(
    "vllm.hash.algorithm",
    looks_at="--prefix-caching-hash-algo of the running vLLM.",
    why="xxhash hangs on PYTHONHASHSEED in every process: MooncakeStoreConnector's keys are those hashes, and one "
    "host without the seed shares nothing, without a word.",
    mend="--prefix-caching-hash-algo sha256_cbor on every host.",
    needs=("processes",),
)
def hash_algorithm(processes: Any, target: Target) -> Iterator[Verdict]:
    for subject, one in _servers(processes, target) if target.uses_store else ():
        found = option(one["argv"], "--prefix-caching-hash-algo") or "sha256"
        if found.startswith("xxhash"):
            yield warned(found, "sha256_cbor", "", subject)
        elif found == "sha256":
            yield skipped("sha256, over pickle: equal only between equal Python versions", subject)
        else:
            yield passed(found, subject)


@check(
    "vllm.dev_mode.exposed",
    looks_at="Whether the endpoints of VLLM_SERVER_DEV_MODE answer on an address that the network reaches.",
    why="Whoever reaches them resets caches, puts the engine to sleep (which wipes the whole Mooncake store) and "
    "runs collective calls.",
    mend="Bind vLLM to the loopback or an internal network while it is measured, and unset VLLM_SERVER_DEV_MODE "
    "afterwards.",
    needs=("vllm", "processes"),
)
def dev_mode_exposed(sections: Any, target: Target) -> Iterator[Verdict]:
    vllm, processes = sections
    if not any(engine["dev_mode"] for engine in vllm["engines"]):
        return
    for subject, one in _servers(processes, target):
        address = option(one["argv"], "--host") or "0.0.0.0"  # noqa: S104  compared, not bound
        if address in ("localhost", "::1") or address.startswith("127."):
            yield passed(f"on {address}", subject)
        else:
            yield warned(f"dev mode on {address}", "the loopback, or no dev mode", "", subject)


@check(
    "vllm.model.keys",
    looks_at="dtype, quantization and revision of the running vLLM, against the cache_prefix of "
    "MooncakeStoreConnector.",
    why="Its keys hold the model's folder name and nothing of dtype, quantization or revision: KV of another "
    "variant is found, and loaded as if it were right.",
    mend='Give each variant its own: "kv_connector_extra_config": {"cache_prefix": "NAME-DTYPE-REVISION"}.',
    needs=("processes",),
)
def model_keys(processes: Any, target: Target) -> Iterator[Verdict]:
    for subject, one in _servers(processes, target) if target.connector == "mooncake-store" else ():
        config = transfer_config(one["argv"])
        if not config:
            continue
        variants = [name for name in ("--kv-cache-dtype", "--quantization", "--revision") if option(one["argv"], name)]
        prefix = (config.get("kv_connector_extra_config") or {}).get("cache_prefix")
        if variants and not prefix:
            yield warned(f"{', '.join(variants)} and no cache_prefix", "a cache_prefix for the variant", "", subject)
        else:
            yield passed(f"cache_prefix {prefix}" if prefix else "no variant is asked for", subject)


@check(
    "vllm.shutdown",
    looks_at="--shutdown-timeout of the running vLLM, and TimeoutStopSec, KillMode and Restart of its systemd unit.",
    why="By default SIGTERM aborts and kills at once: stores in flight are lost, and the master keeps dead segments "
    "for 10 s. EngineCore's death ends the server with code 0, which Restart=on-failure takes for success.",
    mend="--shutdown-timeout 20, TimeoutStopSec at least 30 s above it, KillMode=mixed, Restart=no or always.",
    needs=("processes", "system"),
)
def shutdown(sections: Any, target: Target) -> Iterator[Verdict]:
    processes, system = sections
    for subject, one in _servers(processes, target) if target.uses_store else ():
        if option(one["argv"], "--shutdown-timeout") in (None, "0"):
            yield warned("no --shutdown-timeout", "20 s or more", "", subject)
        else:
            yield passed(f"--shutdown-timeout {option(one['argv'], '--shutdown-timeout')}", subject)
    if system["unit"].get("Restart") == "on-failure":
        yield warned("Restart=on-failure", "no or always", "", target.vllm_unit)


@check(
    "vllm.leftovers.processes",
    looks_at="Workers of an engine (VLLM::...) without an API server, before a start.",
    why="They hold GPU memory and shared memory: the next engine dies at start, or shares the machine.",
    mend="kill the named processes, and stop vLLM with its whole group from now on (KillMode=mixed).",
    needs=("processes",),
)
def leftover_processes(processes: Any, target: Target) -> Iterator[Verdict]:
    if VLLM not in target.parts:
        return
    workers = [one for one in processes["vllm"] if one["argv"][0].startswith("VLLM::")]
    orphans = [one for one in workers if one["orphan"]]
    if orphans:
        yield failed(", ".join(f"{one['argv'][0]} ({one['pid']})" for one in orphans), "none without its server", "")
    else:
        yield passed(f"{len(workers)} workers, each with its server")


@check(
    "vllm.leftovers.shared_memory",
    looks_at="Files of engines and LMCache servers in /dev/shm that no living process maps.",
    why="Each is up to gigabytes that nothing gives back; when /dev/shm is full, the next engine dies at start.",
    mend="rm the named files, after you have seen that no engine runs.",
    needs=("processes",),
)
def leftover_shared_memory(processes: Any, target: Target) -> Iterator[Verdict]:
    if VLLM not in target.parts:
        return
    left = [one for one in processes["shared_memory"] if not one["mapped"]]
    if left:
        size = sum(one["size"] for one in left) / 2**20
        names = ", ".join(one["path"] for one in left[:5]) + (" ..." if len(left) > 5 else "")
        yield warned(f"{names}: {size:.0f} MiB", "none", "")
    else:
        yield passed("none")


CHECKS: tuple[Check, ...] = (
    api_health,
    model_served,
    connector_configured,
    connector_role,
    connector_device,
    connector_engaged,
    load_failure_policy,
    hma_same,
    prefix_cache_flags,
    hash_algorithm,
    dev_mode_exposed,
    model_keys,
    shutdown,
    leftover_processes,
    leftover_shared_memory,
)
