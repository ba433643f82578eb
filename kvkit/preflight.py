"""The preflight of this host by hand: files and flags become the target that the checks hold the host against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from kvkit.checks.finding import ERROR, FAIL, Finding
from kvkit.checks.host import Host
from kvkit.checks.run import gather, judge
from kvkit.checks.target import LOADGEN, VLLM, Target
from kvkit.config import Config
from kvkit.ending import Ending


class PreflightError(Exception):
    """Something that was named cannot be used. The message is complete: print it as it is."""


@dataclass(frozen=True)
class Described:
    """What the caller says of the deployment beside its files."""

    connector: str | None = None
    device: str | None = None
    stack_python: Path | None = None


def target_of(config: Config | None, lmcache_config: Path | None, described: Described) -> Target:
    """The target of this host.

    A test configuration makes the host a load generator, LMCache's file makes it a vLLM host, neither a vLLM host about
    whose deployment nothing is known.

    Raises:
        PreflightError: LMCache's file cannot be read.
    """
    settings: dict[str, Any] = {
        "parts": [VLLM] * (config is None or lmcache_config is not None) + [LOADGEN] * (config is not None),
        "device": described.device or _device(),
        "connector": described.connector or ("lmcache-inprocess" if lmcache_config else "none"),
        "stack_python": str(described.stack_python or ""),
    }
    if config is not None:
        settings |= _of_test_configuration(config, described)
    if lmcache_config is not None:
        settings |= _of_lmcache_file(lmcache_config)
    return Target.from_dict(settings)


def check_this_host(target: Target) -> list[Finding]:
    """Look at this host and judge it."""
    return judge(gather(Host(), target), target)


def ending(findings: Iterable[Finding]) -> Ending:
    """A fail outranks what could not be looked at; neither is a pass."""
    statuses = {finding.status for finding in findings}
    if FAIL in statuses:
        return Ending.INVALID
    return Ending.NOT_FINISHED if ERROR in statuses else Ending.DONE


def _device() -> str:
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


def _of_test_configuration(config: Config, described: Described) -> dict[str, Any]:
    base = config.openai_api.base_url.removesuffix("/v1")
    settings: dict[str, Any] = {"vllm_urls": [base], "vllm_model": config.openai_api.model_name}
    if config.mooncake is not None:
        settings |= {
            "mooncake_host": config.mooncake.master_ip,
            "mooncake_rpc_port": config.mooncake.master_port,
            "mooncake_metrics_port": config.mooncake.metrics_port,
            "mooncake_metadata_port": config.mooncake.metadata_port or 0,
            # A store that is named is one that the deployment uses.
            "connector": described.connector or "lmcache-inprocess",
        }
    if config.lmcache is not None:
        address = urlsplit(config.lmcache.url)
        settings |= {"lmcache_host": address.hostname or "", "lmcache_http_port": address.port or 80}
    return settings


def _of_lmcache_file(path: Path) -> dict[str, Any]:
    """What the file says that other checks need; its own faults are for the checks of the file to name."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PreflightError(f"{path}: cannot be read ({error.strerror}); give the path of LMCache's file") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        document = {}
    document = document if isinstance(document, Mapping) else {}
    extra = document.get("extra_config")
    extra = extra if isinstance(extra, Mapping) else {}
    settings: dict[str, Any] = {"lmcache_config": str(path.resolve())}
    if extra.get("protocol") in ("rdma", "tcp"):
        settings["protocol"] = extra["protocol"]
    devices = extra.get("mooncake_rdma_devices") or extra.get("device_name")
    if isinstance(devices, str):
        settings["rdma_devices"] = [name.strip() for name in devices.split(",") if name.strip()]
    if isinstance(extra.get("local_hostname"), str):
        settings["local_hostname"] = extra["local_hostname"]
    for key, source in (
        ("chunk_size", document.get("chunk_size")),
        ("global_segment_size", extra.get("global_segment_size")),
        ("local_buffer_size", extra.get("local_buffer_size")),
    ):
        if isinstance(source, int) and not isinstance(source, bool):
            settings[key] = source
    staging = document.get("max_local_cpu_size")
    if isinstance(staging, (int, float)) and not isinstance(staging, bool):
        settings["cpu_tier_size"] = int(staging * 2**30)  # GiB per worker
    settings["segments"] = 1
    return settings
