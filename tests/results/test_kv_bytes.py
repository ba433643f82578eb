"""Bytes of KV per token, worked out by hand from the models' published `config.json`."""

from __future__ import annotations

from typing import Any

import pytest

from kvkit.results.kv_bytes import kv_bytes_per_token

QWEN_72B: dict[str, Any] = {
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "sliding_window": 131072,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
}
DEEPSEEK_R1: dict[str, Any] = {
    "kv_lora_rank": 512,
    "num_attention_heads": 128,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"},
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
}
REHEARSAL: dict[str, Any] = {
    "dtype": "bfloat16",
    "hidden_size": 512,
    "layer_types": ["full_attention"] * 8,
    "num_attention_heads": 8,
    "num_hidden_layers": 8,
    "num_key_value_heads": 2,
}
QWEN3_NEXT: dict[str, Any] = {
    "dtype": "bfloat16",
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("model", "kv_dtype", "expected"),
    [
        (QWEN_72B, None, 327_680),  # 2 · 80 · 8 · 128 · 2
        (QWEN_72B, "fp8", 163_840),
        (DEEPSEEK_R1, None, 70_272),  # 61 · (512 + 64) · 2
        (DEEPSEEK_R1, "fp8_e4m3", 35_136),
        (REHEARSAL, None, 4_096),  # 2 · 8 · 2 · 64 · 2
        (REHEARSAL, "float32", 8_192),
        (REHEARSAL | {"num_key_value_heads": None}, None, 16_384),  # MHA: 8 heads instead of 2
        (REHEARSAL | {"head_dim": 128}, None, 8_192),  # not hidden_size / heads
        (QWEN3_NEXT, None, 24_576),  # 2 · 12 of 48 layers · 2 · 256 · 2
        ({"dtype": "float16", "text_config": QWEN_72B}, None, 327_680),
        ({"text_config": {k: v for k, v in QWEN_72B.items() if k != "torch_dtype"}, "dtype": "float32"}, None, 655_360),
    ],
)
def test_bytes_per_token(model: dict[str, Any], kv_dtype: str | None, expected: int) -> None:
    assert kv_bytes_per_token(model, kv_dtype).value == expected


def test_layers_whose_state_does_not_grow_are_not_counted() -> None:
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 2
    figure = kv_bytes_per_token(REHEARSAL | {"layer_types": kinds}, None)
    assert (figure.value, figure.source) == (
        1_024,
        "config.json: 2 of 8 layers × 2 × KV heads 2 × head dim 64 × 2 B (bfloat16)",
    )


def test_a_latent_is_told_as_one() -> None:
    assert kv_bytes_per_token(DEEPSEEK_R1, None).source == (
        "config.json: 61 layers × MLA latent 512 + 64 = 576 × 2 B (bfloat16)"
    )


@pytest.mark.parametrize(
    ("model", "kv_dtype", "reason"),
    [
        ({}, None, "config.json has no torch_dtype: say the KV cache's type with model.kv_cache_dtype"),
        ({"dtype": "bfloat16"}, None, "config.json: key num_hidden_layers: found None, expected a number above 0"),
        (QWEN_72B, "nvfp4", "how many bytes an element of type nvfp4 takes is not known"),
        (
            QWEN_72B | {"quantization_config": {"kv_cache_scheme": {"num_bits": 8}}},
            None,
            "config.json's quantization_config has a kv_cache_scheme: "
            "say the KV cache's type with model.kv_cache_dtype",
        ),
        (
            QWEN_72B | {"use_sliding_window": True},
            None,
            "config.json has a sliding_window of 131072 tokens: how much KV its layers keep is the engine's choice",
        ),
        (
            REHEARSAL | {"layer_types": ["full_attention", "sliding_attention"] * 4},
            None,
            "config.json has layers of type sliding_attention: how much KV those keep is the engine's choice",
        ),
        (REHEARSAL | {"layer_types": ["full_attention"]}, None, "config.json has 8 layers and the types of 1"),
        (
            DEEPSEEK_R1 | {"index_topk": 2048},
            None,
            "config.json has index_topk: what KV its layers keep is not known here",
        ),
        (QWEN_72B | {"v_head_dim": 64}, None, "config.json has keys of 128 and values of 64 elements"),
    ],
)
def test_what_is_not_known_says_why(model: dict[str, Any], kv_dtype: str | None, reason: str) -> None:
    figure = kv_bytes_per_token(model, kv_dtype)
    assert (figure.value, figure.source) == (None, reason)
