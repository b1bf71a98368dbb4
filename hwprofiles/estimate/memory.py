"""What one unit must hold: weights, KV and a reserve. Everything here needs no bandwidth and no peak."""

from __future__ import annotations

from hwprofiles.estimate.formats import bytes_per_parameter
from hwprofiles.estimate.formula import RESERVE_BYTES
from hwprofiles.estimate.hardware import Hardware
from hwprofiles.model import Layout
from hwprofiles.shape import Shape

# Keys and values are kept in 16 bit unless the caller knows better; engines quantise them only when told to.
KV_BYTES = 2.0


def kv_value_bytes(kv_precision: str | None) -> float:
    """Bytes of one cached number; None = 16 bit."""
    return KV_BYTES if kv_precision is None else bytes_per_parameter(kv_precision)


def weights_per_unit(shape: Shape, layout: Layout, precision: str | None) -> tuple[float, float]:
    """Bytes of (dense, routed expert) weights on one unit.

    Attention groups hold the dense weights once each, cut over their tensor and pipeline units; experts are cut over all units.
    """
    size = bytes_per_parameter(precision) * 1e9
    dense = max(shape.params_b - shape.expert_params_b, 0.0)
    return dense * size / (layout.tensor * layout.pipeline), shape.expert_params_b * size / layout.devices


def kv_layer_bytes(shape: Shape, layout: Layout, kv_precision: str | None = None) -> float | None:
    """KV bytes per token, layer and unit, pipeline stages included; None = unknown.

    Tensor parallelism cuts key-value heads, at most into single ones. A latent cache (MLA) has no heads: every unit keeps all of it.
    """
    width = kv_value_bytes(kv_precision) / layout.pipeline
    if shape.kv_lora:
        return shape.kv_lora * width
    if shape.kv_heads is None or shape.head_dim is None:
        return None
    return 2.0 * shape.kv_heads * shape.head_dim * width / max(1, min(layout.tensor, shape.kv_heads))


def window_layers(shape: Shape) -> int:
    """Layers that keep a window of the context; without a known window they count as growing."""
    return shape.window_layers if shape.window else 0


def kv_token_bytes(shape: Shape, layout: Layout, kv_precision: str | None = None) -> float | None:
    """KV bytes per token of context and unit, as if every layer with KV grew: an upper bound for models with windows. None = unknown."""
    each = kv_layer_bytes(shape, layout, kv_precision)
    if each is None or shape.layers is None:
        return None
    return each * max(0, shape.layers - shape.stateless_layers)


def memory_need(
    shape: Shape, hardware: Hardware, layout: Layout, precision: str | None, *, kv_tokens: int, kv_precision: str | None = None
) -> int | None:
    """Bytes that one unit needs for the weights, the reserve and its part of `kv_tokens` tokens of context of the whole replica.

    None where tokens are asked for and the shape does not say what a token takes. `hardware` is part of the question for later use of
    device-specific reserves; today only the layout and the formats matter.
    """
    dense, experts = weights_per_unit(shape, layout, precision)
    per_token = kv_token_bytes(shape, layout, kv_precision) if kv_tokens else 0.0
    if per_token is None:
        return None
    return int(dense + experts + RESERVE_BYTES + per_token * kv_tokens / layout.data)


def room(shape: Shape, hardware: Hardware, layout: Layout, precision: str | None) -> float:
    """Bytes of one unit that are left for KV; negative where the weights do not fit."""
    dense, experts = weights_per_unit(shape, layout, precision)
    return hardware.usable_fraction * hardware.memory_bytes - dense - experts - RESERVE_BYTES


def kv_capacity(shape: Shape, hardware: Hardware, layout: Layout, precision: str | None, *, kv_precision: str | None = None) -> int | None:
    """Tokens of context that the whole replica holds (0 = not even the weights fit); None where a token takes nothing or unknown memory."""
    per_token = kv_token_bytes(shape, layout, kv_precision)
    if not per_token:
        return None
    return layout.data * int(max(room(shape, hardware, layout, precision), 0.0) // per_token)
