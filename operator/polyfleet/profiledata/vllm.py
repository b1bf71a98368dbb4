"""Result files of `vllm bench serve` (before: benchmarks/benchmark_serving.py) with --save-result or --append-result.

Format (vllm-project/vllm, vllm/benchmarks/serve.py, the dictionaries that `benchmark` and `main` make; also what vllm-ascend's CI and
SGLang's bench_serving of the same descent keep):
    date 20261124-101500, model_id, request_rate (number or "inf"), max_concurrency (null without a limit), completed, failed (newer),
    total_input_tokens, total_output_tokens, output_throughput, mean_ttft_ms, mean_itl_ms, mean_tpot_ms, max_concurrent_requests (newer,
    a peak), spec_decode_acceptance_length (newer). Metadata of --metadata stands beside them.

Lengths are means over the completed requests. Without a limit on concurrency the requests in flight follow from Little's law,
completed / duration x mean seconds of a request. A run of which more than 5 % failed is refused: its rate is that of the survivors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyfleet.profiledata.entry import Given, Imported, Reading, build, day
from polyfleet.profiledata.fields import ReadError, mapping, needed, number, parse_json, text

TOOL = "vllm bench"
MOST_FAILED = 0.05


def read(content: str, given: Given) -> Imported:
    runs = [mapping(item, f"(run {index})") for index, item in enumerate(parse_json(content, TOOL))]
    notes = (f"{len(runs)} runs in the file",) if len(runs) > 1 else ()
    return Imported(build(TOOL, [_reading(run) for run in runs], given), notes=notes)


def _reading(run: Mapping[str, Any]) -> Reading:
    completed = needed(run, "completed", TOOL)
    refuse_failed(number(run, "failed") or 0.0, completed)
    total_in = number(run, "total_input_tokens") or number(run, "total_input")
    total_out = needed(run, "total_output_tokens", TOOL)
    itl = number(run, "mean_itl_ms", above=True) or number(run, "mean_tpot_ms", above=True)
    ttft = number(run, "mean_ttft_ms", above=True)
    limit, how = number(run, "max_concurrency", above=True), ""
    if limit is None and ttft is not None and itl is not None:
        seconds = (ttft + (total_out / completed - 1) * itl) / 1000
        limit, how = max(1.0, completed / needed(run, "duration", TOOL) * seconds), "requests in flight by Little's law"
    return Reading(
        rate=needed(run, "output_throughput", TOOL),
        model=text(run, "model_id"),
        input_tokens=total_in / completed if total_in else None,
        output_tokens=total_out / completed,
        concurrency=limit,
        ttft_s=ttft / 1000 if ttft is not None else None,
        itl_s=itl / 1000 if itl is not None else None,
        date=day(run.get("date")),
        accepted_length=number(run, "spec_decode_acceptance_length", least=1.0),
        how=how,
    )


def refuse_failed(failed: float, completed: float) -> None:
    """A rate over the requests that survived says little of the load that was offered."""
    share = failed / (failed + completed) if failed + completed else 1.0
    if share > MOST_FAILED:
        raise ReadError(
            "too many requests of this run failed",
            f"{failed:.0f} of {failed + completed:.0f} ({share:.0%}), at most {MOST_FAILED:.0%}",
            "run the benchmark again at a load that the replica survives",
        )
