"""Text Generation Inference (Hugging Face).

Source of the names: the page "Metrics" of the TGI documentation (huggingface.co/docs/text-generation-inference/reference/metrics) and the
router's source: `tgi_request_count` rises when a request comes in. Tokens are published as histograms of whole requests only; their sums
rise when a request ends. The time of a token is the mean of each request, the only one there is; a time to the first token and the use of
the cache are not published.
"""

from __future__ import annotations

from autoscaling.signals.vocabulary import Number, Vocabulary

WORDS = Vocabulary(
    engine="tgi",
    prefix="tgi",
    separators="_",
    numbers={
        "arrived": Number(("request_count",)),
        "finished": Number(("request_success",), plus=("request_failure",)),
        "running": Number(("batch_current_size",)),
        "waiting": Number(("queue_size",)),
        "prompt_tokens": Number(("request_input_length_sum",)),
        "output_tokens": Number(("request_generated_tokens_sum",)),
    },
    histograms={"itl": ("request_mean_time_per_token_duration",)},
    hint="check that the router's own port is asked",
)
