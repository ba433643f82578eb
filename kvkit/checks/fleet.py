"""Judgements on the hosts together: what must be equal, and who must reach whom.

They run on the control node, over the facts of all hosts that answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .check import Facts
from .finding import Finding, Verdict, failed, passed, unknown, warned
from .judge.rdma_addressing import mtu_from_netdev
from .judge.vllm import option

CLOCK_LIMIT_S = 1.0

Hosts = Mapping[str, Facts]
FleetJudge = Callable[[Hosts], Iterable[Verdict]]


@dataclass(frozen=True)
class FleetCheck:
    """As `Check`, with the facts of every host to judge."""

    id: str
    looks_at: str
    why: str
    mend: str
    judge: FleetJudge

    @property
    def doc(self) -> str:
        return f"docs/checks/{self.id}.md"


def judge_fleet(hosts: Hosts, now: float | None = None) -> list[Finding]:
    """The findings of the fleet; none where there are fewer than two hosts.

    Args:
        hosts: the facts of those that answered.
        now: the control node's clock, after the last of them did.
    """
    found = []
    if now is not None:
        hosts = {host: {**facts, "call": {**facts.get("call", {}), "returned": now}} for host, facts in hosts.items()}
    for check in FLEET_CHECKS if len(hosts) > 1 else ():
        try:
            verdicts = list(check.judge(hosts))
        except Exception as error:  # one check's fault must not hide what the others found
            verdicts = [unknown(f"the check broke: {type(error).__name__}: {error}")]
        for one in verdicts:
            expected, mend = one.expected or check.looks_at, one.mend or check.mend
            found.append(Finding(check.id, one.status, one.seen, expected, mend, check.doc, one.subject))
    return found


def _values(hosts: Hosts, of: Callable[[Facts], Any]) -> dict[str, Any]:
    """Host -> value, of the hosts that have one."""
    told = {}
    for host, facts in hosts.items():
        try:
            value = of(facts)
        except (KeyError, IndexError, TypeError, AttributeError):
            value = None
        if value not in (None, "", [], {}):
            told[host] = value
    return told


def _equal(told: Mapping[str, Any], what: str) -> Iterator[Verdict]:
    groups: dict[str, list[str]] = {}
    for host, value in told.items():
        groups.setdefault(str(value), []).append(host)
    if len(groups) > 1:
        seen = "; ".join(f"{value} on {', '.join(names)}" for value, names in groups.items())
        yield failed(seen, f"one {what} on all hosts", "", what)
    elif told:
        yield passed(f"{next(iter(groups))} on {len(told)} hosts", what)


def _servers(facts: Facts) -> list[Any]:
    return [one for one in facts["processes"]["vllm"] if not one["argv"][0].startswith("VLLM::")]


def _versions(hosts: Hosts) -> Iterator[Verdict]:
    names = {name for facts in hosts.values() for name in facts.get("stack", {}).get("packages", {})}
    for name in sorted(names):
        told = _values(hosts, lambda facts: facts["stack"]["packages"])
        yield from _equal({host: packages[name] for host, packages in told.items() if name in packages}, name)


def _extra(facts: Facts, key: str) -> Any:
    return facts["stack"]["lmcache_config"]["document"]["extra_config"].get(key)


def _protocol(hosts: Hosts) -> Iterator[Verdict]:
    yield from _equal(_values(hosts, lambda facts: _extra(facts, "protocol")), "protocol")


def _mtu(hosts: Hosts) -> Iterator[Verdict]:
    def active(facts: Facts) -> str:
        ports = [port for device in facts["rdma"]["devices"] for port in device["ports"]]
        told = {port["active_mtu"] or mtu_from_netdev(port["netdev_mtu"]) for port in ports}
        return "/".join(str(mtu) for mtu in sorted(mtu for mtu in told if mtu))

    yield from _equal(_values(hosts, active), "active MTU")


def _hash_seed(hosts: Hosts) -> Iterator[Verdict]:
    told = _values(hosts, lambda facts: [one["environ"].get("PYTHONHASHSEED", "not set") for one in _servers(facts)])
    yield from _equal({host: "/".join(sorted(set(seeds))) for host, seeds in told.items()}, "PYTHONHASHSEED")


def _hash_algorithm(hosts: Hosts) -> Iterator[Verdict]:
    def of_vllm(facts: Facts) -> str:
        return option(_servers(facts)[0]["argv"], "--prefix-caching-hash-algo") or "sha256"

    def of_lmcache(facts: Facts) -> Any:
        return facts["stack"]["lmcache_config"]["document"].get("pre_caching_hash_algorithm", "builtin")

    yield from _equal(_values(hosts, of_vllm), "--prefix-caching-hash-algo")
    yield from _equal(_values(hosts, of_lmcache), "pre_caching_hash_algorithm")


def _chunk_size(hosts: Hosts) -> Iterator[Verdict]:
    told = _values(hosts, lambda facts: facts["stack"]["lmcache_config"]["document"].get("chunk_size", 256))
    yield from _equal(told, "chunk_size")


def _model(hosts: Hosts) -> Iterator[Verdict]:
    told = _values(hosts, lambda facts: ", ".join(facts["vllm"]["engines"][0]["models"]))
    yield from _equal(told, "served model")


def _dtype(hosts: Hosts) -> Iterator[Verdict]:
    told = _values(hosts, lambda facts: _servers(facts)[0]["argv"])
    for name in ("--dtype", "--kv-cache-dtype", "--quantization", "--revision"):
        yield from _equal({host: option(argv, name) or "not given" for host, argv in told.items()}, name)


def _clock(hosts: Hosts) -> Iterator[Verdict]:
    """How far two clocks are apart for certain: a call was sent and had its answer by the control node's clock."""
    calls = _values(hosts, lambda facts: facts["call"] if facts["call"].get("sent") else None)
    if len(calls) < 2:
        return
    ahead_at_least = {host: call["arrived"] - call["returned"] for host, call in calls.items()}
    ahead_at_most = {host: call["arrived"] - call["sent"] for host, call in calls.items()}
    late = max(ahead_at_least, key=lambda host: ahead_at_least[host])
    early = min(ahead_at_most, key=lambda host: ahead_at_most[host])
    apart = ahead_at_least[late] - ahead_at_most[early]
    if apart > CLOCK_LIMIT_S:
        yield failed(f"{late} is at least {apart:.1f} s ahead of {early}", f"within {CLOCK_LIMIT_S:g} s", "")
    else:
        longest = max(call["returned"] - call["sent"] for call in calls.values())
        yield passed(f"no two are certainly apart; differences below {longest:.0f} s cannot be told this way")


def _master(hosts: Hosts) -> Iterator[Verdict]:
    def dialled(facts: Facts) -> Any:
        return _extra(facts, "mooncake_master_server_addr") or _extra(facts, "master_server_address")

    yield from _equal(_values(hosts, dialled), "master in LMCache's file")
    segments = _values(hosts, lambda facts: sorted(facts["mooncake"]["segments"]))
    yield from _equal({host: ", ".join(names) for host, names in segments.items()}, "list of segments")


def _peers(hosts: Hosts) -> Iterator[Verdict]:
    for host, facts in hosts.items():
        for peer, state in facts.get("network", {}).get("peers", {}).items():
            if state in ("open", "refused"):
                yield passed("answers", f"{host} to {peer}")
            elif state == "slow":
                yield warned("answers only after a lost packet", "an answer at once", "", f"{host} to {peer}")
            elif state == "filtered":
                yield failed("no answer", "a peer that answers on Mooncake's ports", "", f"{host} to {peer}")
            else:
                yield failed(state, "a route to the peer", "", f"{host} to {peer}")


def _firmware(hosts: Hosts) -> Iterator[Verdict]:
    told = _values(hosts, lambda facts: "/".join(sorted({one["firmware"] for one in facts["rdma"]["devices"]})))
    groups = set(told.values())
    if len(groups) > 1:
        seen = "; ".join(f"{host}: {value}" for host, value in told.items())
        yield warned(seen, "one firmware", "")
    elif told:
        yield passed(f"{groups.pop()} on {len(told)} hosts")


FLEET_CHECKS: tuple[FleetCheck, ...] = (
    FleetCheck(
        "fleet.versions",
        "The versions of vLLM, LMCache, torch and Mooncake on all hosts.",
        "Hosts of different versions write keys that the others do not find, or speak otherwise with the master.",
        "Install the same versions on every host, then restart.",
        _versions,
    ),
    FleetCheck(
        "fleet.protocol",
        "extra_config.protocol on all hosts.",
        "One pool cannot mix rdma and tcp clients: gets fail with NotSupportedTransport.",
        "Set the same protocol everywhere (mooncake_protocol).",
        _protocol,
    ),
    FleetCheck(
        "fleet.mtu.active",
        "The active MTU of the RDMA ports on all hosts.",
        "Peers with different active MTUs cannot connect their queue pairs: 'Failed to modify QP to RTR, check mtu'.",
        "Set one MTU on every netdev and switch port, or export MC_MTU with the smallest.",
        _mtu,
    ),
    FleetCheck(
        "fleet.hash.seed",
        "PYTHONHASHSEED of the running vLLM on all hosts.",
        "With different seeds the same tokens get different keys: nothing that one host stored is found by another.",
        "PYTHONHASHSEED=0 for every vLLM and LMCache process, then restart them.",
        _hash_seed,
    ),
    FleetCheck(
        "fleet.hash.algorithm",
        "The hash algorithms of vLLM and LMCache on all hosts.",
        "Different algorithms give different keys: every lookup for what another host stored misses.",
        "One --prefix-caching-hash-algo and one pre_caching_hash_algorithm everywhere; sha256_cbor.",
        _hash_algorithm,
    ),
    FleetCheck(
        "fleet.chunk_size",
        "chunk_size of LMCache's file on all hosts.",
        "Chunks of another size have other hashes: hosts share nothing.",
        "Use one profile for all hosts.",
        _chunk_size,
    ),
    FleetCheck(
        "fleet.model",
        "The model that each engine serves.",
        "KV of one model is of no use to another.",
        "Serve the same model, or measure the hosts apart.",
        _model,
    ),
    FleetCheck(
        "fleet.dtype",
        "--dtype, --kv-cache-dtype, --quantization and --revision of vLLM on all hosts.",
        "Keys do not hold them: a host loads another's KV as if it were of its own kind, and answers wrongly.",
        "Start every engine with the same, or give each kind a cache_prefix of its own.",
        _dtype,
    ),
    FleetCheck(
        "fleet.clock",
        "The clocks of all hosts against the control node's.",
        "Leases of the store expire by the clock, and logs of several hosts are held against each other.",
        "Start chronyd on every host.",
        _clock,
    ),
    FleetCheck(
        "fleet.master",
        "The master and the segments that each vLLM host sees.",
        "Hosts that talk to different masters have different stores, and each looks healthy.",
        "Set one mooncake_host for the fleet, and restart what dials another.",
        _master,
    ),
    FleetCheck(
        "fleet.peers",
        "Whether each vLLM host reaches the others (of a large fleet the next 16) on Mooncake's data ports.",
        "The master knows where a block is; the block itself comes from the peer. A firewall between two hosts makes "
        "their hits fail, and only theirs.",
        "Open 12300-14300 and 15000-17000 between all vLLM hosts.",
        _peers,
    ),
    FleetCheck(
        "fleet.rdma.firmware",
        "The firmware of the RDMA devices on all hosts.",
        "Mixed firmware is a common cause of links that retransmit or train down.",
        "Update all devices to one version.",
        _firmware,
    ),
)
