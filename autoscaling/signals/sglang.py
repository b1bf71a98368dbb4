"""SGLang.

Source of the names: python/sglang/srt/metrics/collector.py and the page "Production Metrics" of sgl-project/sglang (0.4 to 0.5). Nothing
is published unless the server was started with `--enable-metrics`; with labels, a counter is not there before its first event, so a server
that has answered nothing yet has no arrivals, which is unknown.

`num_requests_total` and the token counters rise when a request ends; aborted requests are counted apart. Schedulers of one replica
(`tp_rank`, `pp_rank`, `moe_ep_rank`, written with `--enable-metrics-for-all-schedulers`) hold the same requests, replicas of data
parallelism (`dp_rank`) do not: the largest of the first, the sum of the second. Requests that compile a grammar or wait for the other half
of a split deployment wait, too; those whose cache is being sent are still inside.
"""

from __future__ import annotations

from autoscaling.signals.vocabulary import Number, Tokens, Vocabulary

WORDS = Vocabulary(
    engine="sglang",
    prefix="sglang",
    separators=":_",
    numbers={
        "finished": Number(("num_requests_total",), plus=("num_aborted_requests_total",)),
        "running": Number(("num_running_reqs",), plus=("num_prefill_inflight_queue_reqs",)),
        "waiting": Number(
            ("num_queue_reqs",),
            plus=(
                "num_grammar_queue_reqs",
                "num_prefill_prealloc_queue_reqs",
                "num_decode_prealloc_queue_reqs",
                "num_decode_transfer_queue_reqs",
            ),
        ),
        "prompt_tokens": Number(("prompt_tokens_total",)),
        "output_tokens": Number(("generation_tokens_total",)),
        "cached_tokens": Number(("cached_tokens_total",)),
        "queried_tokens": Number(("prompt_tokens_total",)),
        "kv_used": Number(("token_usage",), largest=True),
    },
    histograms={
        "ttft": ("time_to_first_token_seconds",),
        "itl": ("inter_token_latency_seconds", "time_per_output_token_seconds"),
    },
    tokens=Tokens(gauge="max_total_num_tokens"),
    ranks=("tp_rank", "pp_rank", "moe_ep_rank"),
    hint="check that the server was started with --enable-metrics",
)
