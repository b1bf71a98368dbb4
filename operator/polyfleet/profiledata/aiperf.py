"""Summaries of NVIDIA's aiperf (profile_export_aiperf.json) and of its predecessor genai-perf (profile_export_genai_perf.json).

Format (ai-dynamo/aiperf docs/tutorials/working-with-profile-exports.md and `JsonExportData`; triton-inference-server/perf_analyzer
genai-perf/genai_perf/export_data/json_exporter.py): one object per metric with `unit`, `avg` and percentiles, among them
    output_token_throughput (tokens/sec), input_sequence_length, output_sequence_length (tokens), time_to_first_token,
    inter_token_latency (ms; ns in genai-perf before 0.0.5), request_count, error_request_count, start_time (aiperf).
Early aiperf releases nest the metrics under `records`. `input_config` holds what was asked for and is, by the tool's own page, not stable:
    model      endpoint.model_names | models.items[].name | model_names | model
    in flight  loadgen.concurrency | phases[] of kind or name profiling | perf_analyzer.stimulus.concurrency | concurrency
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyfleet.profiledata.entry import Given, Imported, Reading, build, day
from polyfleet.profiledata.fields import ReadError, as_number, dig, mapping, needed, number, parse_json, shown
from polyfleet.profiledata.vllm import refuse_failed

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}


def read_aiperf(content: str, given: Given) -> Imported:
    return _read(content, given, "aiperf")


def read_genai_perf(content: str, given: Given) -> Imported:
    return _read(content, given, "genai-perf")


def _read(content: str, given: Given, tool: str) -> Imported:
    body = mapping(parse_json(content, tool)[0], "(document)")
    metrics = body["records"] if isinstance(body.get("records"), Mapping) else body
    rate = needed(metrics, "output_token_throughput.avg", tool)
    if (count := number(metrics, "request_count.avg")) is not None:
        refuse_failed(number(metrics, "error_request_count.avg") or 0.0, count)
    config = body.get("input_config")
    asked = config if isinstance(config, Mapping) else {}
    reading = Reading(
        rate=rate,
        model=_model(asked),
        input_tokens=number(metrics, "input_sequence_length.avg", above=True) or number(metrics, "num_input_token.avg", above=True),
        output_tokens=number(metrics, "output_sequence_length.avg", above=True) or number(metrics, "num_output_token.avg", above=True),
        concurrency=_concurrency(asked),
        ttft_s=_seconds(metrics, "time_to_first_token"),
        itl_s=_seconds(metrics, "inter_token_latency"),
        date=day(body.get("start_time")),
    )
    notes = ("the run was cancelled before its end",) if body.get("was_cancelled") is True else ()
    return Imported(build(tool, [reading], given), notes=notes)


def _seconds(metrics: Mapping[str, Any], name: str) -> float | None:
    value = number(metrics, f"{name}.avg", above=True)
    if value is None:
        return None
    unit = dig(metrics, f"{name}.unit")
    if not isinstance(unit, str) or unit not in _SECONDS:
        raise ReadError(f"field {name}.unit", f"{shown(unit)}, must be one of {', '.join(_SECONDS)}")
    return value * _SECONDS[unit]


def _model(asked: Mapping[str, Any]) -> str | None:
    items = dig(asked, "models.items")
    names = [item.get("name") for item in items if isinstance(item, Mapping)] if isinstance(items, list) else None
    for found in (names, dig(asked, "endpoint.model_names"), asked.get("model_names"), asked.get("model")):
        if isinstance(found, list):
            if len(found) > 1:
                raise ReadError("field input_config", f"several models ({shown(found)}), an entry is of one", "measure one model at a time")
            found = found[0] if found else None
        if isinstance(found, str) and found:
            return found
    return None


def _concurrency(asked: Mapping[str, Any]) -> float | None:
    for phase in _phases(asked.get("phases")):
        if phase.get("concurrency") is not None:
            return as_number(phase["concurrency"], "input_config.phases[profiling].concurrency", above=True)
    for path in ("loadgen.concurrency", "perf_analyzer.stimulus.concurrency", "concurrency"):
        found = dig(asked, path)
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if found is not None:
            return as_number(found, f"input_config.{path}", above=True)
    return None


def _phases(value: Any) -> list[Mapping[str, Any]]:
    """The measured phases: warm-up ones are not what the numbers are of."""
    if isinstance(value, Mapping):
        value = [{"name": name, **part} for name, part in value.items() if isinstance(part, Mapping)]
    phases = [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
    return [item for item in phases if "profiling" in (item.get("kind"), item.get("name"))]
