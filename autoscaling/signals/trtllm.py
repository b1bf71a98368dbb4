"""TensorRT-LLM (`trtllm-serve`), also as Dynamo passes it on (`trtllm:` in place of `trtllm_`).

Source of the names: tensorrt_llm/metrics/collector.py of NVIDIA/TensorRT-LLM (1.1 to 1.3). The page in Prometheus text is
`/prometheus/metrics` and needs `return_perf_metrics: true`, queues and cache also `enable_iter_perf_stats: true`; plain `/metrics` answers
with JSON. Requests and tokens are counted when a request ends; the time of a token is the mean of each request.
"""

from __future__ import annotations

from autoscaling.signals.vocabulary import Number, Tokens, Vocabulary

WORDS = Vocabulary(
    engine="trtllm",
    prefix="trtllm",
    separators="_:",
    numbers={
        "finished": Number(("num_requests_completed_total", "request_success_total")),
        "running": Number(("num_requests_running",)),
        "waiting": Number(("num_requests_waiting",)),
        "prompt_tokens": Number(("prompt_tokens_total",)),
        "output_tokens": Number(("generation_tokens_total",)),
        "cached_tokens": Number(("prompt_cached_tokens_total",)),
        "queried_tokens": Number(("prompt_tokens_total",)),
        "kv_used": Number(("kv_cache_utilization",), largest=True),
    },
    histograms={
        "ttft": ("time_to_first_token_seconds",),
        "itl": ("time_per_output_token_seconds",),
    },
    tokens=Tokens(gauges=("kv_cache_max_blocks", "kv_cache_tokens_per_block")),
    hint="ask /prometheus/metrics, and start it with return_perf_metrics and enable_iter_perf_stats",
)
