"""config.json files of each family give the published shape; files that make no sense give a SchemaError that says what to do."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles.config_json import KNOWN, parse, shape_from_config
from hwprofiles.schema import SchemaError
from hwprofiles.shape import Shape

LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
}
DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}


def changed(base: dict[str, Any], **fields: object) -> dict[str, Any]:
    return {**base, **fields}


def test_llama_is_counted_exactly() -> None:
    """8 030 261 248 is the number of parameters in Meta's checkpoint of Llama-3.1-8B."""
    shape, precision = shape_from_config(LLAMA_8B)
    assert shape.params_b * 1e9 == pytest.approx(8_030_261_248, abs=1)
    assert shape.active_params_b == shape.params_b
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim) == (32, 4096, 32, 8, 128)
    assert shape.max_context == 131_072
    assert precision == "bf16"
    assert shape.complete


def test_latent_attention_and_experts() -> None:
    """The DeepSeek-V3 report: 671 billion, 37 active, 58 layers with 256 experts of 3 x 7168 x 2048, cache 512 + 64 wide."""
    shape, precision = shape_from_config(DEEPSEEK_V3)
    assert shape.params_b == pytest.approx(671, rel=0.001)
    assert shape.active_params_b == pytest.approx(37, rel=0.02)
    assert shape.expert_params_b == pytest.approx(58 * 256 * 3 * 7168 * 2048 / 1e9)
    assert (shape.kv_lora, shape.experts, shape.experts_per_token) == (576, 256, 8)
    assert precision == "fp8"


def test_a_wrapper_is_followed_to_its_text_model_and_the_tower_counted() -> None:
    """Gemma 3 4B leaves heads, head size and vocabulary out of the file (class defaults); Google states 4.3 billion with the tower."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window": 1024}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304}
    vision |= {"patch_size": 14, "image_size": 896}
    shape, precision = shape_from_config({"model_type": "gemma3", "text_config": text, "vision_config": vision, "torch_dtype": "bfloat16"})
    assert shape.params_b == pytest.approx(4.3, rel=0.005)
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.window, shape.window_layers) == (8, 4, 256, 1024, 29)
    assert precision == "bf16"


def test_layer_types_decide_over_patterns() -> None:
    kinds = ["sliding_attention", "full_attention"] * 12
    config: dict[str, Any] = {"model_type": "gpt_oss", "num_hidden_layers": 24, "hidden_size": 2880, "intermediate_size": 2880}
    config |= {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4}
    config |= {"vocab_size": 201088, "sliding_window": 128, "max_position_embeddings": 131072, "layer_types": kinds}
    config |= {"quantization_config": {"quant_method": "mxfp4"}}
    shape, precision = shape_from_config(config)
    assert (shape.window, shape.window_layers, precision) == (128, 12, "fp4")
    assert shape.params_b == pytest.approx(20.9, rel=0.002)
    assert shape_from_config(changed(config, layer_types=["full_attention"] * 24))[0].window is None
    assert shape_from_config(changed(config, layer_types=["full_attention"] * 23 + ["sliding_attention"]))[0].window_layers == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sliding_window": None}, (None, 0)),
        ({"sliding_window": 4096, "use_sliding_window": False}, (None, 0)),
        ({"sliding_window": 131072}, (None, 0)),  # as long as the context: no window
        ({"sliding_window": 4096}, (4096, 32)),
    ],
)
def test_windows(fields: dict[str, object], expected: tuple[int | None, int]) -> None:
    shape, _ = shape_from_config(changed(LLAMA_8B, model_type="mistral", **fields))
    assert (shape.window, shape.window_layers) == expected


def test_a_qwen_window_counts_only_if_it_is_on() -> None:
    off = changed(LLAMA_8B, model_type="qwen2", sliding_window=4096, max_window_layers=28, use_sliding_window=False)
    assert shape_from_config(off)[0].window is None
    assert shape_from_config(changed(off, use_sliding_window=True))[0].window_layers == 4


def bits(number: int, kind: str) -> dict[str, object]:
    return {"num_bits": number, "type": kind}


FLOAT8 = {"weights": bits(8, "float"), "input_activations": bits(8, "float")}
INTEGER8 = {"weights": bits(8, "int"), "input_activations": bits(8, "int")}


def quantised(**fields: object) -> dict[str, object]:
    return {"quantization_config": fields}


@pytest.mark.parametrize(
    ("fields", "precision"),
    [
        ({}, "bf16"),
        ({"torch_dtype": None}, None),
        ({"torch_dtype": None, "dtype": "float16"}, "fp16"),
        ({"torch_dtype": "torch.bfloat16"}, "bf16"),
        (quantised(quant_method="fp8"), "fp8"),
        (quantised(quant_method="fbgemm_fp8"), "fp8"),
        (quantised(quant_method="mxfp4"), "fp4"),
        (quantised(quant_method="awq", bits=4), "awq"),
        (quantised(quant_method="gptq", bits=4), "gptq"),
        (quantised(quant_method="gptq", bits=8), "w8a16"),
        (quantised(quant_method="bitsandbytes", load_in_4bit=True), "int4"),
        (quantised(quant_method="compressed-tensors", config_groups={"group_0": FLOAT8}), "fp8"),
        (quantised(quant_method="compressed-tensors", config_groups={"group_0": INTEGER8}), "w8a8"),
        (quantised(quant_method="compressed-tensors", config_groups={"group_0": {"weights": bits(4, "int")}}), "w4a16"),
        # experts in four bits, the rest in eight: the wider counts
        (quantised(quant_method="modelopt", config_groups={"a": {"weights": bits(4, "float")}, "b": FLOAT8}), "fp8"),
        (quantised(quant_method="modelopt", quant_algo="NVFP4"), "fp4"),
        (quantised(quant_algo="FP8"), "fp8"),
        (quantised(quant_method="ascend", model_quant_type="W8A8_DYNAMIC"), "w8a8"),
        (quantised(quant_method="modelslim", model_quant_type="W4A8"), "w4a8"),
        ({"quantize": "w8a8_dynamic"}, "w8a8"),
        ({"quantization_config": {"quant_method": "quip"}}, None),
    ],
)
def test_number_formats(fields: dict[str, object], precision: str | None) -> None:
    assert shape_from_config(changed(LLAMA_8B, **fields))[1] == precision


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"num_hidden_layers": 10**10}, ("num_hidden_layers", "10000000000", "1 to 1000")),
        ({"num_hidden_layers": -32}, ("num_hidden_layers", "-32")),
        ({"num_hidden_layers": 0}, ("num_hidden_layers", "0")),
        ({"num_hidden_layers": "32"}, ("num_hidden_layers", "'32'")),
        ({"num_hidden_layers": math.nan}, ("num_hidden_layers", "nan")),
        ({"num_hidden_layers": True}, ("num_hidden_layers", "True")),
        ({"num_hidden_layers": None}, ("num_hidden_layers", "missing")),
        ({"hidden_size": 4097}, ("hidden_size", "4097", "multiple of num_attention_heads 32")),
        ({"num_key_value_heads": 5}, ("num_key_value_heads", "5", "divisor of num_attention_heads 32")),
        ({"vocab_size": 1e5}, ("vocab_size", "100000.0")),
        ({"max_position_embeddings": -1}, ("max_position_embeddings", "-1")),
        ({"tie_word_embeddings": "no"}, ("tie_word_embeddings", "'no'", "true or false")),
        ({"model_type": "jamba"}, ("model_type", "'jamba'", "llama")),
        ({"model_type": 7}, ("model_type", "7")),
        ({"quantization_config": "fp8"}, ("quantization_config", "'fp8'", "an object")),
        ({"layer_types": ["full_attention"]}, ("layer_types", "32 words")),
        ({"layer_types": ["mamba"] * 32}, ("layer_types", "'mamba'")),
        ({"vision_config": {"hidden_size": 0, "depth": 3}}, ("vision_config.hidden_size", "0")),
        ({"model_type": "mixtral"}, ("num_experts", "missing")),
        ({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 9}, ("num_experts_per_tok", "9", "1 to 8")),
    ],
)
def test_nonsense_is_refused_by_name(fields: dict[str, object], parts: tuple[str, ...]) -> None:
    """The field, its value, the allowed range, and what to set instead."""
    with pytest.raises(SchemaError) as refused:
        shape_from_config(changed(LLAMA_8B, **fields))
    message = str(refused.value)
    for part in (*parts, "spec.model.shape", "spec.model.footprint"):
        assert part in message
    assert len(message) < 900


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"x"', "[" * 100_000, "{" + " " * (5 << 20) + "}", b"\xff\xfe{", "{}"])
def test_what_is_no_configuration_is_refused(text: str | bytes) -> None:
    with pytest.raises(SchemaError, match=re.escape("spec.model.shape")):
        parse(text)


def test_a_file_is_read_as_written() -> None:
    assert parse(json.dumps(LLAMA_8B)) == shape_from_config(LLAMA_8B)
    assert parse(json.dumps(LLAMA_8B).encode()) == shape_from_config(LLAMA_8B)


FIELDS = sorted(
    {
        *LLAMA_8B,
        *DEEPSEEK_V3,
        *(
            "head_dim",
            "sliding_window",
            "use_sliding_window",
            "layer_types",
            "text_config",
            "vision_config",
            "num_local_experts",
            "quantize",
        ),
        *("full_attention_interval", "linear_num_key_heads", "num_experts", "mlp_only_layers", "decoder_sparse_step"),
    }
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 64) | st.floats() | st.text(max_size=8) | st.sampled_from(sorted(KNOWN)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), inner, max_size=6),
    max_leaves=6,
)


def judged(config: dict[str, Any]) -> None:
    try:
        shape, precision = shape_from_config(config)
    except SchemaError:
        return
    assert isinstance(shape, Shape)
    assert 0 < shape.active_params_b <= shape.params_b < math.inf
    assert precision is None or precision.isalnum()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), VALUES, max_size=12))
def test_any_object_gives_a_shape_or_a_schema_error(config: dict[str, Any]) -> None:
    judged(config)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from((LLAMA_8B, DEEPSEEK_V3)), st.sampled_from(sorted(KNOWN)), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3)
)
def test_a_good_file_with_spoilt_fields(base: dict[str, Any], family: str, spoilt: dict[str, Any]) -> None:
    judged(changed(base, model_type=family, **{name: value for name, value in spoilt.items() if name != "model_type"}))
