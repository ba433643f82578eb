"""Judgements on GPUs. Source of the Xid lists: NVIDIA's catalogue and published cluster health checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..target import VLLM, Target

FATAL_XIDS = frozenset({48, 62, 64, 74, 79, 92, 95, 119, 120})
"""Hardware or driver is broken until a reset. Others are an application's fault, or contained."""


def _applies(target: Target) -> bool:
    return target.device == "cuda" and VLLM in target.parts


@check(
    "gpu.present",
    looks_at="The GPUs that `nvidia-smi` lists.",
    why="Without its GPUs vLLM does not start; a `nvidia-smi` that hangs means that a GPU has fallen off the bus.",
    mend="Run `nvidia-smi` by hand; load the driver, give the container the GPUs, or reboot the host when it hangs. "
    "On a host without GPUs set kv_device to cpu.",
    needs=("accelerators",),
)
def present(accelerators: Any, target: Target) -> Iterator[Verdict]:
    if not _applies(target):
        yield skipped(f"device {target.device}")
        return
    problem, gpus = accelerators["nvidia_smi"], accelerators["gpus"]
    if problem:
        yield failed(f"nvidia-smi: {problem}", f"at least {target.workers} GPUs", "")
    elif len(gpus) < target.workers:
        yield failed(f"{len(gpus)} GPUs", f"at least {target.workers}, one a tensor-parallel worker", "")
    else:
        yield passed(", ".join(f"{gpu['index']}: {gpu['name']}" for gpu in gpus))


@check(
    "gpu.ecc",
    looks_at="Uncorrected ECC errors of every GPU since the driver was loaded.",
    why="Memory with uncorrected errors gives wrong KV blocks, which are stored and then shared with every host.",
    mend="Drain the host and reset the GPU (`nvidia-smi --gpu-reset -i N`); replace it when the errors come back.",
    needs=("accelerators",),
)
def ecc(accelerators: Any, target: Target) -> Iterator[Verdict]:
    for gpu in accelerators["gpus"] if _applies(target) else ():
        count = gpu["ecc_uncorrected"]
        if count is None:
            yield skipped("this GPU tells no ECC errors", f"GPU {gpu['index']}")
        elif count:
            yield failed(f"{count} uncorrected errors", "0", "", f"GPU {gpu['index']}")
        else:
            yield passed("0", f"GPU {gpu['index']}")


@check(
    "gpu.xid",
    looks_at="Xid messages of the NVIDIA driver in the kernel's journal since boot.",
    why="Some mean broken hardware or a lost link between GPUs: the engine hangs or answers wrongly.",
    mend="Look the code up in NVIDIA's Xid catalogue; drain and reboot the host for the fatal ones.",
    needs=("accelerators",),
)
def xid(accelerators: Any, target: Target) -> Iterator[Verdict]:
    if not _applies(target) or accelerators["nvidia_smi"]:
        return
    fatal = [found for found in accelerators["xids"] if found["code"] in FATAL_XIDS]
    others = sorted({str(found["code"]) for found in accelerators["xids"]})
    if fatal:
        yield failed(fatal[-1]["line"], "no fatal Xid since boot", "")
    elif others:
        yield warned(f"Xid {', '.join(others)}", "none since boot", "")
    else:
        yield passed("none since boot")


@check(
    "gpu.driver.cuda",
    looks_at="The newest CUDA that the driver serves, against the CUDA that torch was built for.",
    why="A driver that is older than the wheels' CUDA major version cannot run them: vLLM dies at start.",
    mend="Update the driver, or install the wheels of an older CUDA (mooncake-transfer-engine for 12, -cuda13 for 13).",
    needs=("accelerators", "stack"),
)
def driver_cuda(sections: Any, target: Target) -> Iterator[Verdict]:
    accelerators, stack = sections
    if not _applies(target) or accelerators["nvidia_smi"]:
        return
    driver, wheel = accelerators["cuda"], stack.get("torch_cuda") or ""
    if not wheel:
        yield skipped("torch's CUDA is not known: give the stack's interpreter")
    elif not driver:
        yield unknown("nvidia-smi tells no CUDA version")
    elif int(driver.split(".")[0]) < int(wheel.split(".")[0]):
        yield failed(f"driver {accelerators['driver']} serves CUDA {driver}", f"CUDA {wheel}, as torch needs it", "")
    else:
        yield passed(f"driver serves {driver}, torch needs {wheel}")


@check(
    "gpu.memory.leftover",
    looks_at="Memory that compute processes hold on the GPUs before an engine is started.",
    why="A worker of an earlier engine that lives on holds memory: the next one dies with 'Free memory on device "
    "... is less than desired GPU memory utilization'.",
    mend="End the named processes (`kill PID`), then start the engine.",
    needs=("accelerators",),
)
def memory_leftover(accelerators: Any, target: Target) -> Iterator[Verdict]:
    if not _applies(target) or target.stage != "before" or accelerators["nvidia_smi"]:
        return
    holders = accelerators["processes"]
    if holders:
        seen = ", ".join(f"{one['name']} ({one['pid']}): {one['memory']} MiB" for one in holders)
        yield warned(seen, "no compute process", "")
    else:
        yield passed("no compute process")


CHECKS: tuple[Check, ...] = (present, ecc, xid, driver_cuda, memory_leftover)
