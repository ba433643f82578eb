"""What of a deployment is known before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvkit.config import Config, ConfigError
from kvkit.results.deployment import describe
from tests.results.test_kv_bytes import REHEARSAL


def config(model: dict[str, Any], **mooncake: Any) -> Config:
    api = {"base_url": "http://127.0.0.1:8000/v1", "model_name": "tiny"}
    store = {"mooncake": {"master_ip": "127.0.0.1", **mooncake}} if mooncake else {}
    return Config.model_validate({"openai_api": api, "model": model, **store})


@pytest.fixture
def config_json(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(REHEARSAL))
    return path


@pytest.mark.parametrize(
    ("configured", "flags", "expected"),
    [
        ("auto", None, 4_096),  # the checkpoint's bfloat16
        ("auto", {"model_config": {"dtype": "torch.float32"}, "cache_config": {"cache_dtype": "auto"}}, 8_192),
        ("auto", {"model_config": {"dtype": "torch.float32"}, "cache_config": {"cache_dtype": "fp8"}}, 2_048),
        ("bfloat16", {"model_config": {"dtype": "torch.float32"}}, 4_096),
    ],
)
def test_what_the_engine_runs_with_goes_before_the_checkpoint(
    config_json: Path, configured: str, flags: dict[str, Any] | None, expected: int
) -> None:
    told = describe(config({"config_json": config_json, "kv_cache_dtype": configured}), flags)
    assert told.kv_bytes_per_token.value == expected


@pytest.mark.parametrize(
    ("flags", "workers"),
    [
        (None, None),
        ({"parallel_config": {"tensor_parallel_size": 8}}, None),
        ({"parallel_config": {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}}, 16),
    ],
)
def test_ranks_that_load_at_once(flags: dict[str, Any] | None, workers: int | None) -> None:
    assert describe(config({}), flags).workers == workers


def test_a_configured_bandwidth_is_taken() -> None:
    assert describe(config({}, bandwidth_gb_s=1.25), None).bandwidth_gb_s == 1.25


@pytest.mark.parametrize(
    ("text", "found"),
    [("[]", "found no JSON object, expected a model's config.json"), ("{", "is not a JSON file that can be read")],
)
def test_a_file_that_is_no_config_json_is_named(config_json: Path, text: str, found: str) -> None:
    config_json.write_text(text)
    with pytest.raises(ConfigError, match=found):
        describe(config({"config_json": config_json}), None)
