"""Every check and every gatherer, in the order in which they are shown. A new one is a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .check import Check
from .gather import accelerators, lmcache, mooncake, network, processes, rdma, stack, system, vllm
from .host import Host
from .judge import accelerators as judge_accelerators
from .judge import host as judge_host
from .judge import lmcache as judge_lmcache
from .judge import lmcache_file as judge_lmcache_file
from .judge import mooncake as judge_mooncake
from .judge import network as judge_network
from .judge import rdma as judge_rdma
from .judge import rdma_addressing as judge_rdma_addressing
from .judge import rdma_host as judge_rdma_host
from .judge import versions as judge_versions
from .judge import vllm as judge_vllm
from .target import Target

Gatherer = Callable[[Host, Target], dict[str, Any]]

GATHERERS: dict[str, Gatherer] = {
    "system": system.gather,
    "processes": processes.gather,
    "accelerators": accelerators.gather,
    "rdma": rdma.gather,
    "network": network.gather,
    "stack": stack.gather,
    "mooncake": mooncake.gather,
    "lmcache": lmcache.gather,
    "vllm": vllm.gather,
}
"""Section of the facts -> what looks. Names are those that `Check.needs` holds."""

CHECKS: tuple[Check, ...] = (
    *judge_host.CHECKS,
    *judge_accelerators.CHECKS,
    *judge_rdma.CHECKS,
    *judge_rdma_addressing.CHECKS,
    *judge_rdma_host.CHECKS,
    *judge_network.CHECKS,
    *judge_versions.CHECKS,
    *judge_mooncake.CHECKS,
    *judge_lmcache_file.CHECKS,
    *judge_lmcache.CHECKS,
    *judge_vllm.CHECKS,
)
