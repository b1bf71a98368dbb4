"""Reports of kubernetes-sigs/inference-perf: summary_lifecycle_metrics.json and stage_N_lifecycle_metrics.json, as JSON or YAML.

Format (docs/reports.md, inference_perf/reportgen/base.py `summarize_requests`): `load_summary` with count and, per stage, requested_rate,
achieved_rate, concurrency; `successes` with count, `latency` {time_to_first_token, inter_token_latency, time_per_output_token,
request_latency} each with mean in seconds, `throughput` {output_tokens_per_sec, requests_per_sec}, `prompt_tokens` (before: prompt_len)
and `output_tokens` (before: output_len) each with mean; `failures` with count. The model, the engine and the date are in other files.

Requests in flight: `load_summary.concurrency` of a stage, else by Little's law, requests/s x mean seconds of a request. A summary of a run
with several stages mixes several loads; nothing in it says so, hence the note.
"""

from __future__ import annotations

from polyfleet.profiledata.entry import Given, Imported, Reading, build
from polyfleet.profiledata.fields import mapping, needed, number, parse_json, parse_yaml
from polyfleet.profiledata.vllm import refuse_failed

TOOL = "inference-perf"
_SUMMARY = "a summary covers all stages of the run: prefer stage_N_lifecycle_metrics.json where there were several"


def read(content: str, given: Given) -> Imported:
    plain = content.lstrip()[:1] in ("{", "[")
    body = mapping((parse_json if plain else parse_yaml)(content, TOOL)[0], "(document)")
    count = needed(body, "successes.count", TOOL)
    refuse_failed(number(body, "failures.count") or 0.0, count)
    concurrency, how = number(body, "load_summary.concurrency", above=True), ""
    seconds = number(body, "successes.latency.request_latency.mean", above=True)
    per_second = number(body, "successes.throughput.requests_per_sec", above=True)
    if concurrency is None and seconds is not None and per_second is not None:
        concurrency, how = max(1.0, per_second * seconds), "requests in flight by Little's law"
    latency = "successes.latency"
    reading = Reading(
        rate=needed(body, "successes.throughput.output_tokens_per_sec", TOOL),
        input_tokens=number(body, "successes.prompt_tokens.mean", above=True) or number(body, "successes.prompt_len.mean", above=True),
        output_tokens=number(body, "successes.output_tokens.mean", above=True) or number(body, "successes.output_len.mean", above=True),
        concurrency=concurrency,
        ttft_s=number(body, f"{latency}.time_to_first_token.mean", above=True),
        itl_s=number(body, f"{latency}.inter_token_latency.mean", above=True)
        or number(body, f"{latency}.time_per_output_token.mean", above=True),
        how=how,
    )
    stage = number(body, "load_summary.requested_rate") is not None
    return Imported(build(TOOL, [reading], given), notes=() if stage else (_SUMMARY,))
