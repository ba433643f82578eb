"""HTTP as the gatherers need it: GET alone, no proxy, a limit, no exception."""

from __future__ import annotations

import http.client
import re
from typing import Any

from .network import address_of

BODY_LIMIT = 4 << 20


def get(url: str, limit_s: float, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """{"status", "body"}, or without an answer status 0, "error" and "connected": whether somebody took the call."""
    connected = False
    host, port = address_of(url)
    path = re.sub(r"^https?://[^/]+", "", url) or "/"
    try:
        if url.startswith("https:"):
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=limit_s)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=limit_s)
        try:
            connection.connect()
            connected = True
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return {"status": answer.status, "body": answer.read(BODY_LIMIT).decode(errors="replace")}
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"status": 0, "body": "", "error": str(error) or type(error).__name__, "connected": connected}


def samples(text: str, names: tuple[str, ...]) -> dict[str, float]:
    """Sums over the labels of the wanted samples in Prometheus' text format."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = re.match(r"[A-Za-z_:][\w:]*", line)
        if name and name[0] in names:
            try:
                found[name[0]] = found.get(name[0], 0.0) + float(line.rsplit(maxsplit=1)[-1])
            except ValueError:
                continue
    return found
