"""What the model commands share: numbers of a shape in words, and as the block `spec.model.shape` of a ModelDeployment."""

from __future__ import annotations

from typing import Any

from hwprofiles.shape import Shape

ROTARY = 64  # rotary part of the latent cache in every published model with one; spec.model.shape.kvLora is without it


def billions(value: float) -> str:
    """Four significant digits, no exponent: 671, 30.53, 0.1345."""
    text = f"{value:.{4 if value < 1 else 3 if value < 10 else 2 if value < 100 else 1}f}"
    return text.rstrip("0").rstrip(".")


def kib(shape: Shape) -> str:
    """KiB of cache per token of context at two bytes a number; "0" for encoders."""
    found = shape.kv_bytes_per_token()
    return "" if found is None else f"{found / 1024:.1f}".removesuffix(".0")


def tokens(value: int | None) -> str:
    """128Ki, 32000; a count of tokens as people say it."""
    if value is None:
        return ""
    return f"{value >> 10}Ki" if value % 1024 == 0 else str(value)


def block(shape: Shape) -> dict[str, Any]:
    """`spec.model.shape`: the numbers that it can hold."""
    dense = shape.active_params_b == shape.params_b
    found = {
        "paramsB": billions(shape.params_b),
        "activeParamsB": None if dense else billions(shape.active_params_b),
        "layers": shape.layers,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "kvHeads": shape.kv_heads,
        "headDim": shape.head_dim,
        "experts": shape.experts or None,
        "expertsPerToken": shape.experts_per_token or None,
        "kvLora": shape.kv_lora - ROTARY if shape.kv_lora > ROTARY else None,
        "maxContext": shape.max_context,
    }
    return {key: value for key, value in found.items() if value is not None}


def beyond(shape: Shape) -> str:
    """What the block cannot say; "" if nothing is lost."""
    lost = []
    if shape.window_layers:
        lost.append(f"{shape.window_layers} layers keep only {shape.window} tokens")
    if shape.stateless_layers:
        lost.append(f"{shape.stateless_layers} layers cache nothing per token")
    return f"not in spec.model.shape: {' and '.join(lost)}; from the block alone the cache is counted too large" if lost else ""
