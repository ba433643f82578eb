"""Judgements on the network between this host and the servers it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, warned
from ..target import VLLM, Target

MOONCAKE_PORTS = (12300, 17000)
"""Where Mooncake's store clients (12300-14300) and its transfer engine (15000-17000) listen."""

CLOSING_LIMIT = 20_000
SMALL_MTU = 1500


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _silence_is_expected(port: Any, target: Target) -> bool:
    """Of a server that the kit starts itself, unless it has just been started."""
    return bool(port["kit"]) and target.stage != "after"


def _name(port: Any) -> str:
    return f"{port['purpose']} {port['host']}:{port['port']}"


@check(
    "network.name.resolves",
    looks_at="Whether the names of the store, the engines, the peers and this host's own local_hostname resolve.",
    why="A name that one host does not know keeps that host alone out of the store: its lookups all miss.",
    mend="Put the name into DNS or /etc/hosts on every host, or use addresses.",
    needs=("network",),
)
def name_resolves(network: Any, target: Target) -> Iterator[Verdict]:
    for name, found in network["names"].items():
        if "error" in found:
            yield failed(found["error"], "an address", "", name)
        else:
            yield passed(", ".join(found["addresses"]), name)


@check(
    "network.name.not_loopback",
    looks_at="The addresses of local_hostname, under which this host's segments are registered with the master.",
    why="With several hosts a segment that is registered as localhost is read by every peer from itself: gets fail "
    "or hit nothing.",
    mend="Set local_hostname (lmcache_local_hostname) to the address that the other hosts reach this one under.",
    needs=("network",),
)
def name_not_loopback(network: Any, target: Target) -> Iterator[Verdict]:
    name = target.local_hostname
    if not name or not target.peers or not target.uses_store or VLLM not in target.parts:
        return
    addresses = network["names"].get(name, {}).get("addresses", [])
    if addresses and all(_is_loopback(address) for address in addresses):
        yield failed(f"{name} is {', '.join(addresses)}", "an address that peers reach", "", name)
    elif addresses:
        yield passed(", ".join(addresses), name)


@check(
    "network.port.refused",
    looks_at="A TCP connection to every port of the store, of LMCache's server and of the engines.",
    why="Nobody listens there: the server is down, or listens on another port. 50051 and 9003 are Mooncake's ports "
    "today, 50052 and 9004 those of older guides; LMCache dials 127.0.0.1:50051 when it reads no master address.",
    mend="Start the server, or correct the port: `ss -ltnp` on its host tells where it listens. A metadata server "
    "needs --enable_http_metadata_server=true.",
    needs=("network",),
)
def port_refused(network: Any, target: Target) -> Iterator[Verdict]:
    for port in network["ports"]:
        if port["state"] != "refused":
            if port["state"] in ("open", "slow"):
                yield passed(f"connects in {port['ms']:g} ms", _name(port))
        elif _silence_is_expected(port, target):
            yield skipped("not started yet", _name(port))
        else:
            yield failed("connection refused", "a server that listens", "", _name(port))


@check(
    "network.port.filtered",
    looks_at="Whether a connection to every port gets any answer.",
    why="A firewall that drops packets makes every call wait for its timeout: lookups of 3 s, puts of 10 s, and no "
    "hits.",
    mend="Open the port for this host: `nft list ruleset` and the security groups of both ends. Mooncake needs its "
    "master's ports, and 12300-14300 and 15000-17000 between all hosts.",
    needs=("network",),
)
def port_filtered(network: Any, target: Target) -> Iterator[Verdict]:
    for port in network["ports"]:
        if port["state"] == "filtered":
            yield failed(f"no answer within {port['ms']:g} ms", "a connection", "", _name(port))
        elif port["state"] == "unreachable":
            yield failed("no route, or a firewall that rejects", "a connection", "", _name(port))
        elif port["state"] == "unresolved":
            yield skipped("its name does not resolve: see network.name.resolves", _name(port))
        elif port["state"] in ("open", "slow"):
            yield passed("answers", _name(port))


@check(
    "network.port.slow",
    looks_at="How long a connection to every port takes.",
    why="A connection that takes seconds, mostly because its first packets are lost, comes with every new client "
    "and with every retry: TTFT then tells the network's state, not the cache's.",
    mend="Look for loss on the path (`mtr`), for a full accept queue on the server (`ss -ltn`: Recv-Q above "
    "Send-Q), and for an overloaded server.",
    needs=("network",),
)
def port_slow(network: Any, target: Target) -> Iterator[Verdict]:
    for port in network["ports"]:
        if port["state"] == "slow":
            yield warned(f"connected after {port['ms']:g} ms", "less than 900 ms: no packet lost", "", _name(port))


@check(
    "network.port.taken",
    looks_at="Who listens on the ports of the services that the kit will start on this host.",
    why="A master whose metrics port is taken exits, and clients see a timeout; an engine's port that answers to "
    "somebody else gives measurements of somebody else.",
    mend="Stop the named process, or choose another port.",
    needs=("network", "processes"),
)
def port_taken(sections: Any, target: Target) -> Iterator[Verdict]:
    network, processes = sections
    if target.stage != "before":
        return
    listening = {one["port"]: one for one in network["listening"]}
    for purpose, number in own_ports(target):
        holder = listening.get(number)
        if holder is None:
            yield passed("free", f"{purpose} {number}")
        elif holder["pid"] in processes["own"]:
            yield passed("held by the kit's own service", f"{purpose} {number}")
        elif purpose == "vLLM" and target.vllm_external:
            yield skipped("taken, as an engine that others start may have it", f"{purpose} {number}")
        else:
            who = f"{holder['command']} (process {holder['pid']})" if holder["pid"] else "a process of another user"
            yield failed(f"taken by {who}", "free", "", f"{purpose} {number}")


def own_ports(target: Target) -> list[tuple[str, int]]:
    """What the kit will listen on, here."""
    found = []
    if "mooncake_master" in target.parts and target.mooncake_managed and target.uses_store:
        found += [
            ("Mooncake master RPC", target.mooncake_rpc_port),
            ("Mooncake master metrics", target.mooncake_metrics_port),
            ("Mooncake metadata", target.mooncake_metadata_port),
        ]
    if VLLM in target.parts:
        found.append(("vLLM", target.vllm_port))
        if target.connector == "lmcache-mp" and target.engine == "vllm":
            found += [("LMCache server", target.lmcache_port), ("LMCache server HTTP", target.lmcache_http_port)]
    return [(purpose, number) for purpose, number in found if number]


@check(
    "network.port.range",
    looks_at="The kernel's range of ephemeral ports, and the connections that are closing, where Mooncake runs over "
    "TCP.",
    why="Outgoing connections take ports out of the range in which Mooncake wants to listen (12300 to 17000), and "
    "its TCP transport opens many of them: binds fail at random.",
    mend="sysctl -w net.ipv4.ip_local_port_range='32768 60999', and MC_TCP_ENABLE_CONNECTION_POOL=1.",
    needs=("network",),
)
def port_range(network: Any, target: Target) -> Iterator[Verdict]:
    if not target.uses_store or VLLM not in target.parts or len(network["port_range"]) != 2:
        return
    low, high = network["port_range"]
    if low <= MOONCAKE_PORTS[1]:
        yield warned(f"ephemeral ports {low} to {high}", f"a range above {MOONCAKE_PORTS[1]}", "")
    elif network["closing"] > CLOSING_LIMIT and target.protocol == "tcp":
        yield warned(f"{network['closing']} connections in TIME_WAIT", f"at most {CLOSING_LIMIT}", "")
    else:
        yield passed(f"ephemeral ports {low} to {high}, {network['closing']} connections closing")


@check(
    "network.proxy",
    looks_at="Proxy variables in the environment of this check and of the running services.",
    why="Mooncake's metadata calls and HTTP probes follow http_proxy: through a proxy they never reach the store.",
    mend="Unset http_proxy, https_proxy and all_proxy for the services, or name the store's hosts in no_proxy.",
    needs=("network", "processes"),
)
def proxy(sections: Any, target: Target) -> Iterator[Verdict]:
    network, processes = sections
    hosts = {port["host"] for port in network["ports"]} or {target.mooncake_host} - {""}
    environments = [("this shell", network["proxies"], network["no_proxy"])]
    for kind in ("vllm", "lmcache", "mooncake"):
        for process in processes.get(kind, []):
            own = {name: value for name, value in process["environ"].items() if name.lower().endswith("_proxy")}
            exempts = [own.pop("no_proxy", ""), own.pop("NO_PROXY", "")]
            exempt = exempts[0] or exempts[1]
            environments.append((f"{kind} process {process['pid']}", own, exempt))
    for subject, proxies, exempt in environments:
        caught = sorted(host for host in hosts if host and not _is_exempt(host, exempt))
        if proxies and caught:
            seen = ", ".join(f"{name}={value}" for name, value in proxies.items())
            yield warned(f"{seen}; not exempt: {', '.join(caught)}", "no proxy on the way to the store", "", subject)
        else:
            yield passed("no proxy on the way", subject)


def _is_exempt(host: str, no_proxy: str) -> bool:
    entries = [entry.strip().lstrip(".") for entry in no_proxy.split(",") if entry.strip()]
    return any(entry in ("*", host) or host.endswith("." + entry) for entry in entries)


@check(
    "network.mtu.path",
    looks_at="The MTU towards the store and the peers, where KV travels over TCP.",
    why="An MTU below 1500 (tunnels, overlays) breaks large packets where path MTU discovery is filtered: small "
    "calls work, and every transfer of a block hangs.",
    mend="Use the hosts' own network for the store, or set the MTU of both ends to what the path carries (`ping -M "
    "do -s 1472 HOST`).",
    needs=("network",),
)
def mtu_path(network: Any, target: Target) -> Iterator[Verdict]:
    for path in network["paths"]:
        subject = f"{path['host']} by {path['device']}"
        if path["mtu"] is None:
            yield skipped("its MTU is not known", subject)
        elif path["mtu"] < SMALL_MTU:
            yield warned(f"{path['mtu']}", f"at least {SMALL_MTU}", "", subject)
        else:
            yield passed(f"{path['mtu']}", subject)


CHECKS: tuple[Check, ...] = (
    name_resolves,
    name_not_loopback,
    port_refused,
    port_filtered,
    port_slow,
    port_taken,
    port_range,
    proxy,
    mtu_path,
)
