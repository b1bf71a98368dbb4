"""From a published config.json to a Shape and the number format of the weights. Pure: the file is read elsewhere.

Only families whose layers are known here are counted (`KNOWN`): the parameters of an unknown layout would be a guess, so it is refused
with the fields that a user sets instead. Multimodal wrappers are followed to their text model; the vision tower is counted on top.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from hwprofiles import config_vision
from hwprofiles.architecture import Architecture, count
from hwprofiles.config_fields import CONTEXT, EXPERTS, HEAD_DIM, HEADS, LAYERS, REMEDY, VOCABULARY, WIDTH, Fields, refuse, shown
from hwprofiles.config_precision import precision
from hwprofiles.schema import SchemaError
from hwprofiles.shape import Shape

_LLAMA = ("llama", "mistral", "ministral", "phi3", "internlm2", "internlm3", "smollm3", "seed_oss", "glm", "glm4", "chatglm", "granite")
_QWEN = ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3", "qwen3_vl", "qwen3_vl_text", "qwen3_5", "qwen3_5_text")
_GEMMA = ("gemma", "gemma2", "gemma3", "gemma3_text")
_MOE = (
    *("mixtral", "qwen2_moe", "qwen3_moe", "qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text"),
    *("glm4_moe", "gpt_oss", "minimax_m2"),
)
_LATENT = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe_lite", "glm_moe_dsa")
_ENCODERS = ("bert", "roberta", "xlm-roberta")
KNOWN = frozenset((*_LLAMA, *_QWEN, *_GEMMA, *_MOE, *_LATENT, *_ENCODERS))

# Fields that a family leaves out of the file where they have the value of its configuration class (Transformers 4.57).
_GEMMA3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208, "max_position_embeddings": 131_072}
_DEFAULTS: dict[str, dict[str, int]] = {"gemma3": _GEMMA3, "gemma3_text": _GEMMA3}
_WRAPPED = ("text_config", "llm_config", "language_config")
_BIASED = (
    "qwen2",
    "qwen2_moe",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen2_5_vl_text",
    "gpt_oss",
)  # of queries, keys and values, unless the file says
# Experts whose width is called intermediate_size in these families.
_EXPERT_WIDTH = ("mixtral", "gpt_oss", "minimax_m2")
_FULL, _SLIDING, _LINEAR = ("full_attention", "deepseek_sparse_attention"), ("sliding_attention", "chunked_attention"), "linear_attention"
MOST_BYTES = 4 << 20


def parse(text: str | bytes) -> tuple[Shape, str | None]:
    """The same from the file's content, which must be one JSON object of at most 4 MiB."""
    if len(text) > MOST_BYTES:
        raise SchemaError(f"config.json has {len(text)} bytes; allowed: at most {MOST_BYTES}; {REMEDY}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"config.json is not JSON: {str(error)[:200]}; {REMEDY}") from error
    if not isinstance(value, dict):
        raise SchemaError(f"config.json is {shown(value)}; allowed: a JSON object; {REMEDY}")
    return shape_from_config(value)


def shape_from_config(config: Mapping[str, object]) -> tuple[Shape, str | None]:
    """Shape, and the number format of the weights (None = not stated; a word of HardwareProfile.dtypes otherwise).

    Raises SchemaError that names the field, its value, the allowed range and what to set instead.
    """
    top = Fields(config)
    text, family = _text_model(top)
    model = _architecture(top, text, family)
    counted = count(model)
    window, window_layers = _windows(text, family, model.layers)
    context = text.maybe("max_position_embeddings", "seq_length", "n_positions", most=CONTEXT)
    if context is not None and family in ("roberta", "xlm-roberta"):
        context = max(1, context - 2)  # the first two positions are not for tokens
    shape = Shape(
        params_b=counted.total / 1e9,
        active_params_b=counted.active / 1e9,
        layers=model.layers,
        hidden=model.hidden,
        heads=model.heads,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        experts=model.experts,
        experts_per_token=model.experts_per_token,
        expert_params_b=counted.experts / 1e9,
        # The indexer of sparse attention caches its own key beside the latent.
        kv_lora=model.kv_lora + model.rope + model.index_dim if model.kv_lora else 0,
        window=window,
        window_layers=window_layers,
        stateless_layers=model.layers if family in _ENCODERS else model.linear_layers,
        max_context=context,
    )
    return shape, precision(top, text)


def _text_model(top: Fields) -> tuple[Fields, str]:
    fields = top
    for _ in range(3):
        inner = next((name for name in _WRAPPED if fields.has(name)), None)
        if inner is None or fields.has("num_hidden_layers"):
            break
        child = fields.child(inner)
        if child is None:
            break
        fields = child
    family = fields.text("model_type") or top.text("model_type")
    if family not in KNOWN:
        given = shown(fields.values.get("model_type", top.values.get("model_type")))
        raise SchemaError(f"config.json: {fields.name('model_type')} is {given}; allowed: {', '.join(sorted(KNOWN))}; {REMEDY}")
    return Fields(fields.values, fields.path, _DEFAULTS.get(family)), family


def _architecture(top: Fields, text: Fields, family: str) -> Architecture:
    layers = text.integer("num_hidden_layers", "num_layers", "n_layer", most=LAYERS)
    hidden = text.integer("hidden_size", "n_embd", most=WIDTH)
    heads = text.integer("num_attention_heads", "n_head", most=HEADS)
    kv_heads = text.maybe("num_key_value_heads", "multi_query_group_num", most=HEADS) or heads
    if kv_heads > heads or heads % kv_heads:
        raise refuse(text.name("num_key_value_heads"), kv_heads, f"a divisor of num_attention_heads {heads}")
    head_dim = text.maybe("head_dim", "kv_channels", most=HEAD_DIM)
    latent = _latent(text) if family in _LATENT else {}
    if latent:
        head_dim = latent["nope"] + latent["rope"]  # of queries and of keys once they are unpacked
    if head_dim is None:
        if hidden % heads:
            raise refuse(text.name("hidden_size"), hidden, f"a multiple of num_attention_heads {heads} where head_dim is absent")
        head_dim = max(1, hidden // heads)
    encoder = family in _ENCODERS
    linear = _linear(text, layers) if text.has("layer_types", "full_attention_interval") else {}
    return Architecture(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=text.integer("vocab_size", "padded_vocab_size", most=VOCABULARY),
        tied=encoder or text.flag("tie_word_embeddings", top.flag("tie_word_embeddings", family in _GEMMA)),
        gated=not encoder,
        qkv_bias=encoder or text.flag("attention_bias", family in _BIASED),
        output_gate=bool(linear.get("linear_layers")) and text.flag("attn_output_gate", True),
        expert_bias=family == "gpt_oss",
        positions=text.maybe("max_position_embeddings", most=CONTEXT) or 0 if encoder else 0,
        extra=config_vision.parameters(top, hidden) if text.path else config_vision.beside(top, hidden),
        **_experts(text, family, layers),
        **latent,
        **linear,
    )


def _latent(text: Fields) -> dict[str, int]:
    return {
        "kv_lora": text.integer("kv_lora_rank", most=WIDTH),
        "q_lora": text.maybe("q_lora_rank", most=WIDTH) or 0,
        "rope": text.integer("qk_rope_head_dim", most=HEAD_DIM),
        "nope": text.integer("qk_nope_head_dim", most=HEAD_DIM),
        "value_dim": text.integer("v_head_dim", most=HEAD_DIM),
        "index_heads": text.maybe("index_n_heads", most=HEADS) or 0,
        "index_dim": text.maybe("index_head_dim", most=HEAD_DIM) or 0,
    }


def _linear(text: Fields, layers: int) -> dict[str, int]:
    kinds = text.words("layer_types", layers)
    if kinds is not None:
        known = (*_FULL, *_SLIDING, _LINEAR)
        odd = next((kind for kind in kinds if kind not in known), None)
        if odd is not None:
            raise refuse(text.name("layer_types"), odd, f"words out of {', '.join(known)}")
        number = kinds.count(_LINEAR)
    else:
        number = layers - layers // text.integer("full_attention_interval", most=LAYERS)
    if not number:
        return {}
    key_heads, key = text.integer("linear_num_key_heads", most=HEADS), text.integer("linear_key_head_dim", most=HEAD_DIM)
    value_heads, value = text.integer("linear_num_value_heads", most=HEADS), text.integer("linear_value_head_dim", most=HEAD_DIM)
    return {
        "linear_layers": number,
        "linear_key": key_heads * key,
        "linear_value": value_heads * value,
        "linear_value_heads": value_heads,
        "linear_kernel": text.maybe("linear_conv_kernel_dim", most=1_000) or 4,
    }


def _experts(text: Fields, family: str, layers: int) -> dict[str, int]:
    if family not in (*_MOE, *_LATENT):
        return {"intermediate": text.integer("intermediate_size", "ffn_hidden_size", most=10 * WIDTH)}
    experts = text.integer("num_experts", "num_local_experts", "n_routed_experts", most=EXPERTS)
    chosen = text.integer("num_experts_per_tok", "experts_per_token", "num_experts_per_token", most=experts)
    widths = ("moe_intermediate_size", "intermediate_size") if family in _EXPERT_WIDTH else ("moe_intermediate_size",)
    width = text.integer(*widths, most=10 * WIDTH)
    moe_layers = _moe_layers(text, layers)
    shared = text.maybe("shared_expert_intermediate_size", "shared_intermediate_size", least=0, most=10 * WIDTH)
    if shared is None:
        shared = (text.maybe("n_shared_experts", "num_shared_experts", least=0, most=EXPERTS) or 0) * width
    dense = text.integer("intermediate_size", most=10 * WIDTH) if moe_layers < layers else 0
    return {
        "experts": experts,
        "experts_per_token": chosen,
        "moe_intermediate": width,
        "moe_layers": moe_layers,
        "shared_intermediate": shared,
        "intermediate": dense,
    }


def _moe_layers(text: Fields, layers: int) -> int:
    first = text.maybe("first_k_dense_replace", least=0, most=layers) or 0
    dense = text.numbers("mlp_only_layers", LAYERS, LAYERS)
    step = text.maybe("decoder_sparse_step", most=LAYERS) or 1
    lone = set(dense or ())
    found = sum(1 for layer in range(first, layers) if layer not in lone and (layer + 1) % step == 0)
    if not found:
        raise refuse(text.name("first_k_dense_replace"), first, "fewer dense layers than layers in a model with experts")
    return found


def _windows(text: Fields, family: str, layers: int) -> tuple[int | None, int]:
    """Tokens of the sliding window and the layers that have it; (None, 0) where no layer has one."""
    window = text.maybe("sliding_window", least=0, most=CONTEXT)
    if family in ("gemma3", "gemma3_text") and window is None:
        window = 4_096  # of its configuration class
    context = text.maybe("max_position_embeddings", most=CONTEXT)
    if not window or not text.flag("use_sliding_window", True) or (context is not None and window >= context):
        return None, 0
    kinds = text.words("layer_types", layers)
    if kinds is not None:
        number = sum(1 for kind in kinds if kind in _SLIDING)
    elif family in ("gemma2", "gpt_oss"):
        number = (layers + 1) // 2
    elif family in ("gemma3", "gemma3_text"):
        number = layers - layers // (text.maybe("sliding_window_pattern", "_sliding_window_pattern", most=LAYERS) or 6)
    elif family in _QWEN or family in _MOE:
        # Qwen's window is off unless asked for, and starts at max_window_layers.
        number = max(0, layers - (text.maybe("max_window_layers", least=0, most=LAYERS) or 0)) if text.has("use_sliding_window") else 0
    else:
        number = layers
    return (window, number) if number else (None, 0)
