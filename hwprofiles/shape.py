"""The shape of one model: the numbers from which memory and speed on any hardware follow. Hardware independent.

A shape comes from the catalogue (`hwprofiles.catalogue`), from a published config.json (`hwprofiles.config_json`) or from
`spec.model.shape` of a ModelDeployment. What is not known is None; a shape that lacks a number can still bound the memory of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """One model. Counts of layers include every kind of layer; billions are 10**9.

    Layers that grow with the context are `layers - window_layers - stateless_layers`; `window_layers` stop growing at `window` tokens,
    `stateless_layers` (linear attention, Mamba, encoders) cache nothing per token.
    """

    params_b: float  # billions of parameters, all that an engine loads (no layers for multi-token prediction)
    active_params_b: float  # billions that one token passes; equals params_b where dense
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    experts: int = 0  # routed experts per layer with experts; 0 = dense
    experts_per_token: int = 0
    expert_params_b: float = 0.0  # billions in routed experts, all layers
    kv_lora: int = 0  # cached width per token and layer of latent attention, latent + rope (DeepSeek-V3: 576); 0 = ordinary keys and values
    window: int | None = None  # sliding window, tokens
    window_layers: int = 0
    stateless_layers: int = 0
    max_context: int | None = None  # tokens

    @property
    def complete(self) -> bool:
        """Everything that the estimator needs is there; otherwise only the memory of the weights can be judged."""
        if self.layers is None or self.hidden is None or self.heads is None:
            return False
        if self.experts and not (self.experts_per_token and self.expert_params_b):
            return False
        return bool(self.kv_lora) or (self.kv_heads is not None and self.head_dim is not None)

    @property
    def growing_layers(self) -> int:
        """Layers whose cache grows with every token of the context; 0 where the layers are unknown."""
        return max(0, (self.layers or 0) - self.window_layers - self.stateless_layers)

    @property
    def kv_values_per_layer(self) -> int | None:
        """Numbers cached per token in one layer with a cache: the latent, or keys and values of every key-value head; None = unknown."""
        if self.kv_lora:
            return self.kv_lora
        if self.kv_heads is None or self.head_dim is None:
            return None
        return 2 * self.kv_heads * self.head_dim

    def kv_bytes_per_token(self, bytes_per_value: float = 2.0) -> float | None:
        """Bytes that one more token of context costs in all growing layers together (`bytes_per_value` 2 = bf16); None = unknown.

        Llama-3.1-8B: 32 layers x 2 x 8 heads x 128 x 2 bytes = 131072. DeepSeek-V3: 61 layers x 576 x 2 bytes = 70272.
        """
        width = self.kv_values_per_layer
        return None if width is None or self.layers is None else self.growing_layers * width * bytes_per_value
