"""Section `accelerators` of the facts."""

from __future__ import annotations

from typing import Any

from ..host import Host
from ..target import Target


def gather(host: Host, target: Target) -> dict[str, Any]:
    return {}
