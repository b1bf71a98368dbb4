"""llama.cpp's server.

Source of the names: tools/server/README.md of ggml-org/llama.cpp ("GET /metrics", only with `--metrics`); `kv_cache_usage_ratio` is of
builds before the summer of 2025. It publishes no counter of requests and no latencies, so arrivals are unknown from its page alone: they
come from the gateway, or the load is what it computes, by its tokens, and what waits, which it publishes. `prompt_tokens_total` leaves out
what the cache had. Some builds answer with the whole page as one quoted string (issue 17384): that is not readable.
"""

from __future__ import annotations

from autoscaling.signals.vocabulary import Number, Vocabulary

WORDS = Vocabulary(
    engine="llamacpp",
    prefix="llamacpp",
    separators=":_",
    numbers={
        "running": Number(("requests_processing",)),
        "waiting": Number(("requests_deferred",)),
        "prompt_tokens": Number(("prompt_tokens_total",)),
        "output_tokens": Number(("tokens_predicted_total",)),
        "kv_used": Number(("kv_cache_usage_ratio",), largest=True),
    },
    hint="check that the server was started with --metrics",
)
