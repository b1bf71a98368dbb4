"""How many parameters a transformer has: counted from its dimensions, as its layers are built.

    per attention layer   hidden x heads x head x (1, or 2 with an output gate) + 2 x hidden x kv_heads x head + heads x head x hidden
    latent attention      hidden x q_lora + q_lora x heads x (nope + rope) + hidden x (kv_lora + rope) + kv_lora x heads x (nope + v)
                          + heads x v x hidden                  (without q_lora: hidden x heads x (nope + rope))
    linear attention      hidden x (2 x key + 2 x value + 2 x value heads) + kernel x (2 x key + value) + value x hidden
    feed-forward          3 x hidden x intermediate (gated) or 2 x hidden x intermediate
    layer with experts    E x 3 x hidden x moe_intermediate + 3 x hidden x shared + hidden x E
    around them           vocabulary x hidden, twice unless the embedding is tied

Biases of queries, keys and values are counted where the family has them; other biases and small norms are below 0.1 %. A token passes
everything but the experts that it is not routed to; the embedding table counts, as most publishers count it. Layers for multi-token
prediction are left out: an engine loads them only for speculative decoding. The formulas follow the families' published definitions
(Transformers model code); tests compare the counts with the numbers of parameters that the publishers state.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """Dimensions of one model; 0 = the model has no such part."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int  # of a dense layer
    vocabulary: int
    tied: bool
    gated: bool = True  # feed-forward with a gate: three matrices
    qkv_bias: bool = False
    output_gate: bool = False
    # mixture of experts
    experts: int = 0
    experts_per_token: int = 0
    moe_intermediate: int = 0
    moe_layers: int = 0
    shared_intermediate: int = 0
    expert_bias: bool = False
    # latent attention
    kv_lora: int = 0
    q_lora: int = 0
    rope: int = 0
    nope: int = 0
    value_dim: int = 0
    index_heads: int = 0  # sparse-attention indexer
    index_dim: int = 0
    # linear attention
    linear_layers: int = 0
    linear_key: int = 0
    linear_value: int = 0
    linear_value_heads: int = 0
    linear_kernel: int = 0
    positions: int = 0  # rows of a learned position table
    extra: int = 0  # vision tower and projector


@dataclass(frozen=True, slots=True)
class Count:
    """Parameters, not billions."""

    total: int
    active: int
    experts: int


def count(model: Architecture) -> Count:
    attention_layers = model.layers - model.linear_layers
    routed_layer = model.experts * _feed_forward(model, model.moe_intermediate)
    if model.expert_bias:
        routed_layer += model.experts * (2 * model.moe_intermediate + model.hidden)
    routed = routed_layer * model.moe_layers
    shared = (_feed_forward(model, model.shared_intermediate) + model.hidden * model.experts) * model.moe_layers
    dense = _feed_forward(model, model.intermediate) * (model.layers - model.moe_layers)
    norms = 2 * model.hidden * model.layers + model.hidden
    tables = model.vocabulary * model.hidden * (1 if model.tied else 2) + model.positions * model.hidden
    rest = attention_layers * _attention(model) + model.linear_layers * _linear(model) + shared + dense + norms + tables + model.extra
    idle = routed * (model.experts - model.experts_per_token) // model.experts if model.experts else 0
    return Count(rest + routed, rest + routed - idle, routed)


def _feed_forward(model: Architecture, intermediate: int) -> int:
    return (3 if model.gated else 2) * model.hidden * intermediate


def _attention(model: Architecture) -> int:
    h = model.hidden
    if model.kv_lora:
        query = model.q_lora or h
        head = model.nope + model.rope
        total = (h * model.q_lora if model.q_lora else 0) + query * model.heads * head
        total += h * (model.kv_lora + model.rope) + model.kv_lora * model.heads * (model.nope + model.value_dim)
        total += model.heads * model.value_dim * h
        return total + query * model.index_heads * model.index_dim + h * (model.index_dim + model.index_heads)
    query_width, key_width = model.heads * model.head_dim, model.kv_heads * model.head_dim
    total = h * query_width * (2 if model.output_gate else 1) + 2 * h * key_width + query_width * h
    return total + (query_width + 2 * key_width if model.qkv_bias else 0)


def _linear(model: Architecture) -> int:
    key, value = model.linear_key, model.linear_value
    inputs = model.hidden * (2 * key + 2 * value + 2 * model.linear_value_heads)
    return inputs + model.linear_kernel * (2 * key + value) + value * model.hidden


@dataclass(frozen=True, slots=True)
class Tower:
    """A vision encoder with its projector."""

    depth: int
    hidden: int
    intermediate: int
    gated: bool
    patch: int  # values of one patch: channels x frames x side x side
    positions: int
    merge: int  # patches per side that the projector joins; 0 = one plain matrix
    out: int
    mergers: int = 1


def count_tower(tower: Tower) -> int:
    h = tower.hidden
    blocks = tower.depth * (4 * h * h + (3 if tower.gated else 2) * h * tower.intermediate)
    joined = h * tower.merge * tower.merge
    projector = tower.mergers * (joined * joined + joined * tower.out) if tower.merge else h * tower.out
    return blocks + h * (tower.patch + tower.positions) + projector
