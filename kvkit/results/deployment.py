"""What configuration and engine tell of a deployment before anything is sent, as far as its limit depends on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from kvkit.config import Config, ConfigError
from kvkit.results.kv_bytes import kv_bytes_per_token
from kvkit.results.limit import Deployment
from kvkit.results.stats import Figure

_RANKS = ("tensor_parallel_size", "pipeline_parallel_size")


def describe(config: Config, flags: Mapping[str, Any] | None) -> Deployment:
    """Read the model's `config.json`, if one is named, and take the rest from the engine's flags.

    Args:
        config: the test configuration.
        flags: what the engine told of its configuration; `None` where it tells nothing.

    Raises:
        ConfigError: the file that `model.config_json` names cannot be used.
    """
    parallel = (flags or {}).get("parallel_config", {})
    return Deployment(
        kv_bytes_per_token=_kv_bytes(config, flags or {}),
        bandwidth_gb_s=config.mooncake.bandwidth_gb_s if config.mooncake else None,
        workers=prod(parallel[name] for name in _RANKS) if all(name in parallel for name in _RANKS) else None,
    )


def _kv_bytes(config: Config, flags: Mapping[str, Any]) -> Figure:
    path = config.model.config_json
    if path is None:
        return Figure(value=None, source="no counter tells the bytes of a token; set model.config_json")
    return kv_bytes_per_token(_read(path), _kv_dtype(config.model.kv_cache_dtype, flags))


def _kv_dtype(configured: str, flags: Mapping[str, Any]) -> str | None:
    """What is configured, else what the engine runs with, else `None`: the checkpoint's own."""
    if configured != "auto":
        return configured
    cache = flags.get("cache_config", {}).get("cache_dtype", "auto")
    model = flags.get("model_config", {}).get("dtype")
    found = model if cache == "auto" else cache
    return str(found).removeprefix("torch.") if found is not None else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.config_json: {path}: is not a JSON file that can be read ({error})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"model.config_json: {path}: found no JSON object, expected a model's config.json")
    return data
