"""vLLM, and what keeps its names: vllm-ascend (a plug-in of vLLM), the vLLM builds of the PPU's vendor, llm-d's simulator.

Source of the names: vllm/v1/metrics/loggers.py and docs/design/metrics.md of vllm-project/vllm (0.9 to 0.11; version 0 engine: the
"production metrics" page up to 0.8). Renamed in 0.9: `gpu_cache_usage_perc` -> `kv_cache_usage_perc`, `gpu_prefix_cache_*` ->
`prefix_cache_*`; in 0.11 `time_per_output_token_seconds` -> `inter_token_latency_seconds`. Fleets run both at once.

With data parallelism each series has one `engine` label per replica: counters and queues add up, of the cache's use the largest counts.
Tensor parallel ranks are not told apart. `request_success` counts every ended request by its reason, aborted ones too, so it is `finished`;
arrivals are not published. The version 0 engine parks requests on the host (`num_requests_swapped`): they wait.
"""

from __future__ import annotations

from dataclasses import replace

from autoscaling.signals.vocabulary import Number, Tokens, Vocabulary

WORDS = Vocabulary(
    engine="vllm",
    prefix="vllm",
    separators=":_",
    numbers={
        "finished": Number(("request_success_total",)),
        "running": Number(("num_requests_running",)),
        "waiting": Number(("num_requests_waiting",), plus=("num_requests_swapped",)),
        "prompt_tokens": Number(("prompt_tokens_total",)),
        "output_tokens": Number(("generation_tokens_total",)),
        "cached_tokens": Number(("prefix_cache_hits_total", "gpu_prefix_cache_hits_total")),
        "queried_tokens": Number(("prefix_cache_queries_total", "gpu_prefix_cache_queries_total")),
        "kv_used": Number(("kv_cache_usage_perc", "gpu_cache_usage_perc"), largest=True),
    },
    histograms={
        "ttft": ("time_to_first_token_seconds",),
        "itl": ("inter_token_latency_seconds", "time_per_output_token_seconds"),
    },
    tokens=Tokens(info="cache_config_info", labels=("num_gpu_blocks", "block_size")),
    hint="check that the engine's own port is asked and that it runs without --disable-log-stats",
)

# The sandbox's engine publishes under the names of vLLM 0.11 (sandbox/engine/metrics.py).
SANDBOX = replace(WORDS, engine="sandbox", hint="")
