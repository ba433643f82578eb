"""What the engine tells about itself before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from kvkit.observe.vllm import root_of

_TIMEOUT_S = 10.0
_SERVER_INFO_TIMEOUT_S = 30.0
"""vLLM collects facts about its machine on the first call."""

FLAGS = {
    "model_config": ("model", "dtype", "max_model_len", "quantization", "enforce_eager"),
    "cache_config": ("block_size", "cache_dtype", "enable_prefix_caching", "prefix_caching_hash_algo"),
    "scheduler_config": ("max_num_batched_tokens", "max_num_seqs", "enable_chunked_prefill"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    "kv_transfer_config": ("kv_connector", "kv_role", "kv_load_failure_policy"),
}
"""What is kept of vLLM's configuration: the whole of it holds tokens and host names."""


class EngineUnreachableError(Exception):
    """Nothing answers at the address. The message is complete: print it as it is."""


class EngineRefusedError(Exception):
    """The engine does not let this client in. The message is complete: print it as it is."""


class ModelNotServedError(Exception):
    """The engine serves other models. The message is complete: print it as it is."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    name: str
    max_model_len: int | None
    """Most tokens of prompt and answer together."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """`None`: the engine does not tell."""

    models: tuple[ServedModel, ...] | None = None
    version: str | None = None
    connector: str | None = None
    """The KV connector's class, `none` where vLLM says that it has none."""
    flags: dict[str, Any] | None = None

    def model(self, name: str) -> ServedModel | None:
        return next((model for model in self.models or () if model.name == name), None)

    def require(self, name: str, base_url: str) -> None:
        """See that a model is served, as far as the engine tells.

        Raises:
            ModelNotServedError: it serves others.
        """
        if self.models is not None and self.model(name) is None:
            served = ", ".join(model.name for model in self.models) or "none"
            raise ModelNotServedError(f"openai_api.model_name: found {name!r}, but {base_url} serves: {served}")


async def look_at_engine(http: httpx.AsyncClient, base_url: str) -> EngineFacts:
    """Ask for the served models, the version and the configuration.

    Args:
        http: sends the API key itself.
        base_url: ends with `/v1`.

    Raises:
        EngineUnreachableError: no HTTP answer.
        EngineRefusedError: HTTP 401 or 403.
    """
    models = await _models(http, f"{base_url}/models")
    root = root_of(base_url)
    version = await _json(http, f"{root}/version", _TIMEOUT_S)
    info = await _json(http, f"{root}/server_info?config_format=json", _SERVER_INFO_TIMEOUT_S)
    flags = _flags(info.get("vllm_config"))
    return EngineFacts(
        models=models,
        version=version["version"] if isinstance(version.get("version"), str) else None,
        connector=_connector(flags),
        flags=flags,
    )


async def _models(http: httpx.AsyncClient, url: str) -> tuple[ServedModel, ...] | None:
    try:
        response = await http.get(url, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, ValueError) as error:  # ValueError: no such host name can exist
        raise EngineUnreachableError(
            f"{url}: no answer ({error or type(error).__name__}); "
            "is the engine up, and is openai_api.base_url its address?"
        ) from None
    if response.status_code in (401, 403):
        raise EngineRefusedError(f"{url}: HTTP {response.status_code}: the engine refuses openai_api.api_key")
    data = _object(response).get("data")
    if not isinstance(data, list):
        return None
    return tuple(
        ServedModel(model["id"], length if isinstance(length := model.get("max_model_len"), int) else None)
        for model in data
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    )


async def _json(http: httpx.AsyncClient, url: str, timeout_s: float) -> dict[str, Any]:
    """The JSON object at an address that only some engines have; empty where there is none."""
    try:
        return _object(await http.get(url, timeout=timeout_s))
    except httpx.HTTPError:
        return {}


def _object(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        return {}
    try:
        data = response.json()
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _flags(config: Any) -> dict[str, Any] | None:
    if not isinstance(config, dict):
        return None
    return {
        section: {key: config[section][key] for key in keys if key in config[section]}
        for section, keys in FLAGS.items()
        if isinstance(config.get(section), dict)
    }


def _connector(flags: dict[str, Any] | None) -> str | None:
    if flags is None:
        return None
    name = flags.get("kv_transfer_config", {}).get("kv_connector")
    return name if isinstance(name, str) else "none"
