"""Parameter counts of well-known models, so that a seven-line object needs no shape.

Only the total is used: it bounds the memory of the weights. Figures are billions of parameters as the publishers' model cards state
them (read 2026-11); a model that is not listed states `model.shape.paramsB` or `model.footprint`.
"""

from __future__ import annotations

from decimal import Decimal

_PARAMS_B: dict[str, str] = {
    "HuggingFaceTB/SmolLM2-135M": "0.135",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "0.135",
    "HuggingFaceTB/SmolLM2-360M-Instruct": "0.362",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "1.71",
    "Qwen/Qwen2.5-7B-Instruct": "7.61",
    "Qwen/Qwen2.5-72B-Instruct": "72.7",
    "Qwen/Qwen3-0.6B": "0.6",
    "Qwen/Qwen3-1.7B": "1.7",
    "Qwen/Qwen3-4B": "4.0",
    "Qwen/Qwen3-8B": "8.2",
    "Qwen/Qwen3-14B": "14.8",
    "Qwen/Qwen3-32B": "32.8",
    "Qwen/Qwen3-30B-A3B": "30.5",
    "Qwen/Qwen3-235B-A22B": "235",
    "meta-llama/Llama-3.1-8B-Instruct": "8.03",
    "meta-llama/Llama-3.1-70B-Instruct": "70.6",
    "meta-llama/Llama-3.3-70B-Instruct": "70.6",
    "mistralai/Mistral-7B-Instruct-v0.3": "7.25",
    "deepseek-ai/DeepSeek-V3": "671",
    "deepseek-ai/DeepSeek-R1": "671",
}


def params_billion(model_id: str) -> Decimal | None:
    """Billions of parameters of a model named as its publisher names it; None if it is not listed."""
    found = _PARAMS_B.get(model_id)
    return None if found is None else Decimal(found)
