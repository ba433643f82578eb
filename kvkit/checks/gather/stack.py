"""Section `stack`: the versions of vLLM, LMCache and Mooncake, and LMCache's file as its own parser reads it.

{"python", "problem", "python_version", "packages": {name: version}, "extensions": [...], "torch_cuda",
"lmcache_config": {"path", "error", "document", "lines": {dotted key: line}} or null}
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from ..host import Host
from ..target import VLLM, Target
from . import inside

LIMIT_S = 30.0
"""A cold interpreter on a network file system takes its time."""


def gather(host: Host, target: Target) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "python": target.stack_python,
        "problem": "",
        "python_version": "",
        "packages": {},
        "extensions": [],
        "torch_cuda": "",
        "lmcache_config": None,
    }
    if VLLM not in target.parts or not (target.stack_python or target.lmcache_config):
        return empty
    # As text: on a host this module lives in a zip file that the stack's Python cannot see.
    source = inspect.getsource(inside)
    python = target.stack_python or sys.executable
    ran = host.run([python, "-c", source, *([target.lmcache_config] if target.lmcache_config else [])], LIMIT_S)
    if not ran.ok:
        last = ran.err.strip().splitlines()[-1:] or [f"exit code {ran.rc}"]
        return {**empty, "problem": ran.problem or last[0]}
    told = {**empty, **json.loads(ran.out)}
    # Without an interpreter of the stack, the versions are those of some other Python.
    return told if target.stack_python else {**told, "packages": {}, "extensions": [], "torch_cuda": ""}
