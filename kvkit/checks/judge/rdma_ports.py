"""Which RDMA ports a judgement is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..target import VLLM, Target


def ports_of(rdma: Any, target: Target) -> Iterator[tuple[str, dict[str, Any]]]:
    """The ports that Mooncake would use: of the wanted devices, or of all."""
    for device in rdma["devices"]:
        if not target.rdma_devices or device["name"] in target.rdma_devices:
            for port in device["ports"]:
                yield f"{device['name']}/{port['port']}", port


def applies(target: Target) -> bool:
    return target.uses_rdma and VLLM in target.parts
