"""How many bytes of KV one prompt token takes, from a model's Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from kvkit.results.stats import Figure

DTYPE_BYTES = {
    "float32": 4,
    "float": 4,
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "fp8_inc": 1,
}
"""Bytes per element. Formats that keep scales beside the elements (`nvfp4`, `fp8_ds_mla`, `int8_per_token_head`) are
not here: how many bytes those take is each format's own affair."""

_FULL_LAYERS = frozenset({"full_attention", "attention"})
"""Kinds of layers that keep KV for every token."""

_STATE_LAYERS = frozenset({"linear_attention", "mamba", "conv", "recurrent"})
"""Kinds of layers whose state does not grow with the prompt."""

_ANOTHER_SHAPE = (
    "attention_chunk_size",  # Llama 4
    "attn_config",  # DBRX, MPT
    "attn_layer_indices",  # Bamba
    "attn_layer_period",  # Jamba
    "attn_type_list",  # MiniMax-01
    "block_configs",  # Nemotron-NAS: heads differ by layer
    "cross_attention_layers",  # Llama 3.2 Vision
    "hybrid_override_pattern",  # Nemotron-H
    "index_topk",  # DeepSeek V3.2: its indexer keeps keys of its own
    "layers_block_type",  # Zamba
    "linear_attn_config",  # Kimi Linear
    "multi_query",  # Falcon
    "multi_query_group_num",  # ChatGLM
    "num_kv_heads",  # Falcon
    "num_kv_shared_layers",  # Gemma 3n
    "sliding_window_pattern",  # Gemma 3, Cohere 2
)
"""Keys of models whose layers keep KV in another way than the formulas here say. Any that is set makes it unknown."""


def kv_bytes_per_token(model: Mapping[str, Any], kv_dtype: str | None) -> Figure:
    """Bytes of KV per prompt token over all layers, one copy, or why they are not known.

    - MHA and GQA: 2 · layers · KV heads · head dimension · bytes per element (keys and values);
    - MLA: layers · (kv_lora_rank + qk_rope_head_dim) · bytes per element (one latent for both).

    Layers are those that keep KV for every token: layers of linear attention are not counted, and where layers have a
    sliding window it is unknown, because what of it is kept is the engine's choice. Ranks that hold the same KV (MLA,
    or more ranks than KV heads) and layers added for speculative decoding are not counted either.

    Args:
        model: the parsed `config.json`; where the language model is one part of several, its `text_config` counts.
        kv_dtype: of the KV cache; `None` is the checkpoint's own.
    """
    text = {**model, **model.get("text_config", {})}
    try:
        dtype = kv_dtype or _checkpoint_dtype(text)
        layers, of_layers = _layers(text)
        factors = _elements(text)
        width = _width(dtype)
    except _UnknownError as reason:
        return Figure(value=None, source=str(reason))
    shape = " × ".join(f"{name} {value}" if name else str(value) for name, value in factors)
    return Figure(
        value=layers * prod(value for _, value in factors) * width,
        source=f"config.json: {of_layers} × {shape} × {width} B ({dtype})",
    )


class _UnknownError(Exception):
    """Why the figure is not known, in words that follow a colon."""


def _checkpoint_dtype(text: Mapping[str, Any]) -> str:
    quantization = text.get("quantization_config") or {}
    for key in ("kv_cache_scheme", "kv_cache_quant_algo"):
        if quantization.get(key):
            raise _UnknownError(
                f"config.json's quantization_config has a {key}: say the KV cache's type with model.kv_cache_dtype"
            )
    dtype = text.get("dtype") or text.get("torch_dtype")
    if not isinstance(dtype, str):
        raise _UnknownError("config.json has no torch_dtype: say the KV cache's type with model.kv_cache_dtype")
    return dtype


def _width(dtype: str) -> int:
    if dtype not in DTYPE_BYTES:
        raise _UnknownError(f"how many bytes an element of type {dtype} takes is not known")
    return DTYPE_BYTES[dtype]


def _layers(text: Mapping[str, Any]) -> tuple[int, str]:
    """How many layers keep KV for every token, and that in words."""
    layers = _count(text, "num_hidden_layers")
    if found := [key for key in _ANOTHER_SHAPE if text.get(key)]:
        raise _UnknownError(f"config.json has {', '.join(found)}: what KV its layers keep is not known here")
    kinds = text.get("layer_types")
    if kinds is None:
        return _layers_by_interval(text, layers)
    if others := sorted(set(kinds) - _FULL_LAYERS - _STATE_LAYERS):
        raise _UnknownError(
            f"config.json has layers of type {', '.join(others)}: how much KV those keep is the engine's choice"
        )
    if len(kinds) != layers:
        raise _UnknownError(f"config.json has {layers} layers and the types of {len(kinds)}")
    keep = sum(kind in _FULL_LAYERS for kind in kinds)
    return keep, f"{keep} layers" if keep == layers else f"{keep} of {layers} layers"


def _layers_by_interval(text: Mapping[str, Any], layers: int) -> tuple[int, str]:
    if interval := text.get("full_attention_interval"):
        return layers // interval, f"{layers // interval} of {layers} layers"
    if text.get("sliding_window") and text.get("use_sliding_window", True):
        raise _UnknownError(
            f"config.json has a sliding_window of {text['sliding_window']} tokens: how much KV its layers keep is the "
            "engine's choice"
        )
    return layers, f"{layers} layers"


def _elements(text: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """The factors of a layer's elements per token, each with its name."""
    if text.get("kv_lora_rank"):
        latent, rope = _count(text, "kv_lora_rank"), _count(text, "qk_rope_head_dim")
        return ((f"MLA latent {latent} + {rope} =", latent + rope),)
    key_values = "num_key_value_heads" if text.get("num_key_value_heads") is not None else "num_attention_heads"
    heads = _count(text, key_values)
    size = _count(text, "head_dim") if text.get("head_dim") is not None else _head_dim(text)
    if text.get("v_head_dim") not in (None, size):
        raise _UnknownError(f"config.json has keys of {size} and values of {text['v_head_dim']} elements")
    return (("", 2), ("KV heads", heads), ("head dim", size))


def _head_dim(text: Mapping[str, Any]) -> int:
    return _count(text, "hidden_size") // _count(text, "num_attention_heads")


def _count(text: Mapping[str, Any], key: str) -> int:
    value = text.get(key)
    if not isinstance(value, int) or value < 1:
        raise _UnknownError(f"config.json: key {key}: found {value!r}, expected a number above 0")
    return value
