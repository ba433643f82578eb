"""The store's three ports: a batch interface for the engine, a master's metrics port and its metadata server.

A real master speaks its own binary RPC; the emulated one takes JSON over HTTP on the same port. Answers of the two
other ports were read from a master 0.3.13.post1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kvkit.emulator.store import metrics
from kvkit.emulator.store.tier import Tier

OBJECT_NOT_FOUND = {"success": False, "error_code": -704, "error_message": "OBJECT_NOT_FOUND"}


def rpc_app(tier: Tier) -> Starlette:
    """The engine's way in: `{"keys": [...]}` or `{"sizes": {key: bytes}}`, answered with one item per key."""

    async def exist(request: Request) -> Response:
        return JSONResponse({"exist": tier.exist((await request.json())["keys"])})

    async def get(request: Request) -> Response:
        return JSONResponse({"sizes": tier.get((await request.json())["keys"])})

    async def put(request: Request) -> Response:
        return JSONResponse({"codes": tier.put((await request.json())["sizes"])})

    async def remove_all(_: Request) -> Response:
        return JSONResponse({"removed": tier.remove_all()})

    return Starlette(
        routes=[
            Route("/batch_exist", exist, methods=["POST"]),
            Route("/batch_get", get, methods=["POST"]),
            Route("/batch_put", put, methods=["POST"]),
            Route("/remove_all", remove_all, methods=["POST"]),
        ]
    )


def metrics_app(tier: Tier, segment: str) -> Starlette:
    """A master's metrics port; `segment` is the name of the one memory segment, `host:port`."""

    async def query_key(request: Request) -> Response:
        size = tier.query(request.query_params.get("key", ""))
        if size is None:
            return JSONResponse(OBJECT_NOT_FOUND, status_code=404)
        return JSONResponse({"success": True, "data": [_replica(size, segment)]})

    async def batch_query_keys(request: Request) -> Response:
        keys = [key for key in request.query_params.get("keys", "").split(",") if key]
        data = {key: _batch_item(tier.query(key), segment) for key in keys}
        return JSONResponse({"success": True, "data": data})

    async def all_keys(_: Request) -> Response:
        return PlainTextResponse("".join(f"{key}\n" for key in tier.keys))

    async def segments_detail(_: Request) -> Response:
        return JSONResponse({"total_segments": 1, "segments": [_segment(tier, segment)]})

    async def remove_all(_: Request) -> Response:
        return JSONResponse({"success": True, "removed_count": tier.remove_all()})

    return Starlette(
        routes=[
            Route("/metrics", _text(lambda: metrics.exposition(tier, segment))),
            Route("/metrics/summary", _text(lambda: metrics.summary(tier))),
            Route("/health", _health),
            Route("/role", _text(lambda: "leader")),
            Route("/ha_status", _text(lambda: "serving")),
            Route("/query_key", query_key),
            Route("/batch_query_keys", batch_query_keys),
            Route("/get_all_keys", all_keys),
            Route("/get_all_segments", _text(lambda: f"{segment}\n")),
            Route("/get_segments_detail", segments_detail),
            Route("/api/v1/remove_all", remove_all, methods=["POST"]),
        ]
    )


def metadata_app() -> Starlette:
    """The HTTP metadata server; what is put here lives as long as the process."""
    entries: dict[str, bytes] = {}

    async def metadata(request: Request) -> Response:
        key = request.query_params.get("key")
        if not key:
            return PlainTextResponse("Missing key parameter", status_code=400)
        if request.method == "PUT":
            entries[key] = await request.body()
            return PlainTextResponse("metadata updated")
        if key not in entries:
            return PlainTextResponse("metadata not found", status_code=404)
        if request.method == "DELETE":
            del entries[key]
            return PlainTextResponse("metadata deleted")
        return Response(entries[key], media_type="application/json")

    return Starlette(
        routes=[
            Route("/metadata", metadata, methods=["GET", "PUT", "DELETE"]),
            Route("/health", _text(lambda: "OK")),
        ]
    )


def _text(content: Callable[[], str]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return PlainTextResponse(content())

    return answer


async def _health(_: Request) -> Response:
    return JSONResponse(
        {
            "status": "ok",
            "role": "leader",
            "ha_state": "serving",
            "service_ready": True,
            "leader_address": None,
            "view_version": None,
        }
    )


def _replica(size: int, segment: str) -> dict[str, Any]:
    return {"size_": size, "buffer_address_": 0, "protocol_": "tcp", "transport_endpoint_": segment}


def _batch_item(size: int | None, segment: str) -> dict[str, Any]:
    absent = {"disk_values": None, "local_disk_values": None, "nof_values": None}
    if size is None:
        return {"ok": False, "error": "OBJECT_NOT_FOUND", "values": None, **absent}
    return {"ok": True, "error": None, "values": [_replica(size, segment)], **absent}


def _segment(tier: Tier, segment: str) -> dict[str, Any]:
    return {
        "segment_name": segment,
        "size_bytes": tier.capacity_bytes,
        "te_endpoint": segment,
        "protocol": "tcp",
        "status": "OK",
        "allocator_used_bytes": tier.allocated_bytes,
        "allocator_capacity_bytes": tier.capacity_bytes,
        "allocator_usage_percent": 100 * tier.allocated_bytes / tier.capacity_bytes,
    }
