"""What a host is meant to be: the settings that the checks hold it against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

VLLM = "vllm"
MOONCAKE_MASTER = "mooncake_master"
LOADGEN = "loadgen"

CONNECTORS = ("lmcache-inprocess", "lmcache-mp", "mooncake-store", "none")
DEVICES = ("cuda", "cpu")
PROTOCOLS = ("rdma", "tcp")
STAGES = ("before", "after", "any")


class TargetError(ValueError):
    """A setting cannot be used. The message names it, what was found and what is allowed."""


@dataclass(frozen=True)
class Target:
    """Settings of one host. Empty and 0 stand for: not told, so what needs it is skipped.

    Sizes are in bytes, rates in Gbit/s, times in seconds.
    """

    parts: tuple[str, ...] = (VLLM, LOADGEN)
    """What the host does: its groups in the inventory."""
    stage: str = "any"
    """`before`: what the kit starts itself does not run yet; `after`: it must run; `any`: it may."""
    mode: str = ""
    """`with-cache` or `baseline`: what the engine was started as; empty: not known."""
    kit_serves: bool = False
    """Whether the kit starts the engines and LMCache's server: their silence is then no fault before it did."""
    engine: str = "vllm"
    """`vllm`, or `emulated`: nothing of the stack is installed then."""
    device: str = "cuda"
    connector: str = "lmcache-inprocess"
    stack_python: str = ""
    """The interpreter that has vLLM, LMCache and Mooncake."""
    timeout_s: float = 5.0
    """That one connection, and one external command, may take at most."""

    protocol: str = "tcp"
    rdma_devices: tuple[str, ...] = ()
    """Wanted RDMA devices; empty: whatever there is."""
    rdma_min_rate: float = 0.0
    rdma_link_layer: str = ""
    """`InfiniBand` or `Ethernet`."""
    gid_index: int = -1
    """As MC_GID_INDEX sets it; -1: Mooncake chooses."""

    mooncake_managed: bool = False
    """Whether the kit starts the store itself."""
    mooncake_host: str = ""
    mooncake_rpc_port: int = 0
    mooncake_metrics_port: int = 0
    mooncake_metadata_port: int = 0
    """0: P2PHANDSHAKE, which needs no metadata server."""
    local_hostname: str = ""
    """The name under which this host's segments are registered; peers must reach it."""
    working_set_bytes: int = 0
    canary: bool = True
    """Whether a key may be put into the store, read back and removed."""

    lmcache_config: str = ""
    """Path of the rendered lmcache_config.yaml."""
    lmcache_host: str = "127.0.0.1"
    lmcache_port: int = 0
    lmcache_http_port: int = 0
    chunk_size: int = 0

    vllm_host: str = ""
    vllm_port: int = 0
    vllm_model: str = ""
    api_key: str = ""
    """Sent to the engines, and never in a finding."""
    vllm_external: bool = False
    """Whether the user's own commands start the engine."""
    vllm_unit: str = ""
    """Its systemd unit, where systemd runs it."""
    vllm_urls: tuple[str, ...] = ()
    """Where the load generator reaches the engines."""
    workers: int = 1
    """Tensor-parallel ranks on this host: each holds its own segment, buffer and CPU tier."""

    global_segment_size: int = 0
    local_buffer_size: int = 0
    cpu_tier_size: int = 0
    segments: int = 0
    """How many segments of that size this host gives to the store."""

    peers: tuple[str, ...] = ()
    """Addresses of the other vLLM hosts that this one must reach."""
    results_dir: str = ""
    state_dir: str = ""
    """What the kit owns on the host; the processes of its own services are recorded there."""

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Target:
        """Check names, types and choices.

        Raises:
            TargetError: a name is unknown, or a value is of the wrong type or not among the allowed.
        """
        known = {field.name: field for field in fields(cls)}
        for name in settings:
            if name not in known:
                raise TargetError(f"{name}: unknown setting; known are {', '.join(sorted(known))}")
        target = cls(**{name: _converted(name, value, known[name].default) for name, value in settings.items()})
        for name, allowed in (
            ("stage", STAGES),
            ("device", DEVICES),
            ("connector", CONNECTORS),
            ("protocol", PROTOCOLS),
            ("engine", ("vllm", "emulated")),
            ("mode", ("with-cache", "baseline", "")),
        ):
            if getattr(target, name) not in allowed:
                raise TargetError(f"{name}: found {getattr(target, name)!r}; allowed are {', '.join(allowed)}")
        return target

    @property
    def uses_store(self) -> bool:
        return self.connector != "none"

    @property
    def uses_rdma(self) -> bool:
        return self.uses_store and self.protocol == "rdma"


def _converted(name: str, value: Any, default: Any) -> Any:
    """The value in the type of its default; Ansible hands over numbers as they are or as text."""
    if isinstance(default, tuple):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise TargetError(f"{name}: found {value!r}; allowed is a list")
        return tuple(str(item) for item in value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TargetError(f"{name}: found {value!r}; allowed are true and false")
        return value
    try:
        return type(default)(value)
    except (TypeError, ValueError) as error:
        raise TargetError(f"{name}: found {value!r}; allowed is a value like {default!r}") from error
