"""Section `vllm`: what the engines say over HTTP.

{"engines": [{"url", "health", "models": [...] or null, "version", "external": bool or null (whether the connector's
counters exist), "dev_mode": bool or null, "problem"}], "block_size": int or null}
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..host import Host
from ..target import VLLM, Target
from ..told import object_of
from .web import get


def gather(host: Host, target: Target) -> dict[str, Any]:
    urls = list(dict.fromkeys(url.rstrip("/") for url in (*target.vllm_urls, *_own(target)) if url))
    with ThreadPoolExecutor(max_workers=8) as pool:
        engines = list(pool.map(lambda url: _engine(url, target), urls))
    sizes = [engine.pop("block_size") for engine in engines]
    return {"engines": engines, "block_size": next((size for size in sizes if size), None)}


def _own(target: Target) -> list[str]:
    """The engine of this host, as the host itself reaches it."""
    if VLLM not in target.parts or not target.vllm_port:
        return []
    everywhere = target.vllm_host in ("", "0.0.0.0", "::")  # noqa: S104  compared, not bound
    return [f"http://{'127.0.0.1' if everywhere else target.vllm_host}:{target.vllm_port}"]


def _engine(url: str, target: Target) -> dict[str, Any]:
    told: dict[str, Any] = {"url": url, "models": None, "version": "", "external": None, "dev_mode": None}
    told["block_size"] = None
    health = get(f"{url}/health", target.timeout_s)
    told["health"], told["problem"] = health["status"], health.get("error", "")
    if not health["status"]:
        return told
    headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    models = get(f"{url}/v1/models", target.timeout_s, headers)
    told["models_status"] = models["status"]
    document = object_of(models["body"])
    if isinstance(document.get("data"), list):
        told["models"] = [str(model.get("id")) for model in document["data"]]
    told["version"] = str(object_of(get(f"{url}/version", target.timeout_s)["body"]).get("version", ""))
    metrics = get(f"{url}/metrics", target.timeout_s)
    if metrics["status"] == 200 and "vllm:" in metrics["body"]:
        told["external"] = "vllm:external_prefix_cache_queries_total" in metrics["body"]
        size = re.search(r'vllm:cache_config_info\{[^}]*\bblock_size="(\d+)"', metrics["body"])
        told["block_size"] = int(size[1]) if size else None
    # Only looked at: the other endpoints of the mode change things.
    told["dev_mode"] = get(f"{url}/server_info", target.timeout_s)["status"] == 200
    return told
