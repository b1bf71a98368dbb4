"""The number format of published weights, from `quantization_config`, MindIE's `quantize`, or the dtype. Words of HardwareProfile.dtypes.

None means that the file does not say, or says it in a way that is not known here: the caller then assumes bf16 and says so, or the user
sets `spec.model.precision`.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwprofiles.config_fields import Fields

_DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}
_FP4 = ("mxfp4", "nvfp4", "fp4")
_INTEGER = ("w8a8", "w4a8", "w8a16", "w4a16", "w4a4")


def precision(config: Fields, text: Fields) -> str | None:
    """Of the weights in the linear layers, which are nearly all of them."""
    for fields in (config, text):
        method = fields.child("quantization_config") or fields.child("compression_config")
        if method is not None:
            return _quantised(method)
        word = fields.text("quantize")  # MindIE writes the format here
        if word:
            return _integer_word(word)
    for fields in (text, config):
        for field in ("dtype", "torch_dtype"):
            word = fields.text(field).removeprefix("torch.")
            if word:
                return _DTYPES.get(word)
    return None


def _quantised(method: Fields) -> str | None:
    name = method.text("quant_method") or method.text("quant_algo")
    algorithm = method.text("quant_algo")
    if name in ("fp8", "fbgemm_fp8"):
        return "fp8"
    if name in _FP4:
        return "fp4"
    if name in ("awq", "gptq", "awq_marlin", "gptq_marlin"):
        bits = method.maybe("bits", "w_bit", "num_bits", most=32)
        return {4: name[:4].rstrip("_"), 8: "w8a16", None: name[:4].rstrip("_")}.get(bits)
    if name == "bitsandbytes":
        if method.flag("load_in_4bit", False) or method.flag("_load_in_4bit", False):
            return "int4"
        return "int8" if method.flag("load_in_8bit", False) or method.flag("_load_in_8bit", False) else None
    if name in ("ascend", "modelslim"):
        return _integer_word(method.text("model_quant_type") or method.text("quant_type") or method.text("quant_mode"))
    groups = method.child("config_groups")
    if groups is not None:
        return _groups(groups)
    if any(word in algorithm for word in _FP4):
        return "fp4"
    return "fp8" if algorithm.startswith("fp8") else _integer_word(algorithm)


def _integer_word(word: str) -> str | None:
    """W8A8, W8A8_DYNAMIC, w4a8-per-channel, W4A16_AWQ."""
    return next((known for known in _INTEGER if word.startswith(known)), None)


def _groups(groups: Fields) -> str | None:
    """compressed-tensors and modelopt: of several groups the one with the widest weights, so that memory is never undercounted."""
    found: list[tuple[int, str]] = []
    for name in sorted(groups.values):
        group = groups.values[name]
        weights = Fields(group, groups.name(f"{name}.")).child("weights") if isinstance(group, Mapping) else None
        if weights is None or not isinstance(group, Mapping):
            continue
        inputs = Fields(group, groups.name(f"{name}.")).child("input_activations")
        bits, kind = weights.maybe("num_bits", most=32) or 0, weights.text("type")
        given = (inputs.maybe("num_bits", most=32) or 16) if inputs is not None else 16
        word = {8: "fp8", 4: "fp4"}.get(bits, "") if kind == "float" else f"w{bits}a{given}"
        found.append((bits, word))
    widest = max(found, default=(0, ""))[1]
    return widest if widest in ("fp8", "fp4", *_INTEGER) else None
