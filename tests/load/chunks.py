"""Chat completion chunks as servers send them (vLLM's `chat_completion/serving.py`), for scripting streams."""

from __future__ import annotations

import json
from typing import Any

DONE = b"data: [DONE]\n\n"


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    return event(
        {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}],
        }
    )


def role() -> bytes:
    return delta(role="assistant", content="")


def usage(prompt: int = 100, completion: int = 3, cached: int | None = None) -> bytes:
    details = None if cached is None else {"cached_tokens": cached}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return event({"object": "chat.completion.chunk", "choices": [], "usage": counts, "system_fingerprint": "vllm-x"})


def error(message: str = "Internal server error") -> bytes:
    return event({"error": {"message": message, "type": "InternalServerError", "code": 500}})


def good(*texts: str) -> list[bytes]:
    """A whole good stream whose last text comes with the finish reason."""
    *middle, last = texts or ("a", "b", "c")
    return [role(), *(delta(content=text) for text in middle), delta("stop", content=last), usage(), DONE]
