"""MindIE Service (Ascend).

Source of the names: "Service monitoring metrics query interface (Prometheus format)" of the MindIE documentation (1.0.0 to 2.1.RC1,
hiascend.com, mindie_service0103) and its published sample page; the names have no prefix, so they are looked for only where a replica is
known to run MindIE. It is served on `metricsPort` of the configuration, and only with MIES_SERVICE_MONITOR_MODE=1.

`request_received_total` is a true counter of arrivals. The HELP text of `npu_cache_usage_perc` says 1 = 100 %, a published sample shows 30:
once a value above 1.5 is seen the replica is taken to write per cent (`Sticky`).
"""

from __future__ import annotations

from autoscaling.signals.vocabulary import Number, Vocabulary

WORDS = Vocabulary(
    engine="mindie",
    prefix="",
    separators="",
    numbers={
        "arrived": Number(("request_received_total",)),
        "finished": Number(("request_success_total",), plus=("request_failed_total",)),
        "running": Number(("num_requests_running",)),
        "waiting": Number(("num_requests_waiting",), plus=("num_requests_swapped",)),
        "prompt_tokens": Number(("prompt_tokens_total",)),
        "output_tokens": Number(("generation_tokens_total",)),
        "kv_used": Number(("npu_cache_usage_perc",), largest=True),
    },
    histograms={
        "ttft": ("time_to_first_token_seconds",),
        "itl": ("time_per_output_token_seconds",),
    },
    percent=("kv_used",),
    hint="check that MIES_SERVICE_MONITOR_MODE=1 is set and that metricsPort of its configuration is asked",
)
