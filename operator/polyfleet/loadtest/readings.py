"""An engine's Prometheus text in canonical names. Pure. vLLM (also vllm-ascend, PPU's vLLM and the sandbox engine) and SGLang.

Rules: `_` is read like `:` (some stacks rewrite names); counters and queue gauges are summed over series (one per engine of a data
parallel replica), the share of the KV cache is the largest; a series that is not there is unknown (None), never 0. Names as the engines'
documentation gives them (2026-08).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")

# canonical -> names of which the first that is there counts
_NAMES: dict[str, tuple[str, ...]] = {
    "running": ("vllm_num_requests_running", "sglang_num_running_reqs"),
    "waiting": ("vllm_num_requests_waiting", "sglang_num_queue_reqs"),
    "kv_used": ("vllm_kv_cache_usage_perc", "vllm_gpu_cache_usage_perc", "sglang_token_usage"),
    "prompt_tokens": ("vllm_prompt_tokens_total", "sglang_prompt_tokens_total"),
    "output_tokens": ("vllm_generation_tokens_total", "sglang_generation_tokens_total"),
    "requests": ("vllm_request_success_total", "sglang_num_requests_total"),
    "preemptions": ("vllm_num_preemptions_total", "sglang_num_retracted_requests_total"),
    "prefix_queries": ("vllm_prefix_cache_queries_total",),
    "prefix_hits": ("vllm_prefix_cache_hits_total",),
    "ttft_sum": ("vllm_time_to_first_token_seconds_sum", "sglang_time_to_first_token_seconds_sum"),
    "ttft_count": ("vllm_time_to_first_token_seconds_count", "sglang_time_to_first_token_seconds_count"),
    "itl_sum": (
        "vllm_inter_token_latency_seconds_sum",
        "vllm_time_per_output_token_seconds_sum",
        "sglang_inter_token_latency_seconds_sum",
    ),
    "itl_count": (
        "vllm_inter_token_latency_seconds_count",
        "vllm_time_per_output_token_seconds_count",
        "sglang_inter_token_latency_seconds_count",
    ),
}
_LARGEST = ("kv_used",)


@dataclass(frozen=True, slots=True)
class Readings:
    """One scrape. Counters are as the engine counts them, since it started. None = the engine does not say."""

    running: float | None = None
    waiting: float | None = None
    kv_used: float | None = None  # 0 to 1
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    requests: float | None = None  # completed
    preemptions: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    ttft_sum: float | None = None
    ttft_count: float | None = None
    itl_sum: float | None = None
    itl_count: float | None = None


def read(text: str) -> Readings:
    """Unreadable lines and values that are no numbers are left out."""
    series: dict[str, list[float]] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        if math.isfinite(value):
            series.setdefault(found[1].replace(":", "_"), []).append(value)
    return Readings(**{field.name: _value(series, field.name) for field in fields(Readings)})


def _value(series: Mapping[str, list[float]], canonical: str) -> float | None:
    found = next((series[name] for name in _NAMES[canonical] if name in series), None)
    if found is None:
        return None
    return max(found) if canonical in _LARGEST else math.fsum(found)


OTHERS = 0.05


def foreign(before: Readings | None, after: Readings | None, received: int, unseen: int = 0) -> str:
    """Why the endpoint's own count of output tokens says that this was not one replica serving only this test ("" = it does not say so).

    Above what was received here: somebody else's requests ran, so the rate is not the engine's. Below: the address has several replicas
    behind it, and what answered /metrics is one of them. 5 % are left for tokens without text. `unseen`: tokens that may have been made
    for requests that were cut off and did not arrive: an engine runs ahead of a busy client, so in a short test they are more than that.
    """
    if before is None or after is None or before.output_tokens is None or after.output_tokens is None or received <= 0:
        return ""
    made = after.output_tokens - before.output_tokens
    if made < 0:
        return "the engine was restarted meanwhile"
    share = made / received
    if made > received * (1 + OTHERS) + unseen:
        return f"the engine made {made:.0f} tokens meanwhile, {received} of them for this test: somebody else used it"
    if share < 1 - OTHERS:
        return f"the engine behind /metrics made {made:.0f} of the {received} tokens: the address has more than one replica behind it"
    return ""
