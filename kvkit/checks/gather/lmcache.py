"""Section `lmcache`: what LMCache's own server says (connector lmcache-mp).

{"health": {"status", "body"} or null, "status": {"status", "body"} or null}
"""

from __future__ import annotations

from typing import Any

from ..host import Host
from ..target import VLLM, Target
from .web import get


def gather(host: Host, target: Target) -> dict[str, Any]:
    wanted = target.connector == "lmcache-mp" and VLLM in target.parts and target.engine == "vllm"
    if not wanted or not target.lmcache_http_port:
        return {"health": None, "status": None}
    base = f"http://{target.lmcache_host}:{target.lmcache_http_port}"
    return {"health": get(f"{base}/healthcheck", target.timeout_s), "status": get(f"{base}/status", target.timeout_s)}
