"""What `polyfleet bench` prints: the stages as a table, the entries as YAML to paste, or all of it as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from hwprofiles.model import Throughput
from polyfleet.cli.text import Column, plain, table, wrap
from polyfleet.loadtest.entries import Subject
from polyfleet.loadtest.measure import Outcome, Stage, seconds

_NUMBERS = ("IN FLIGHT", "TOK/S", "95 %", "REQUESTS", "TTFT", "ITL")


def to_yaml(entries: Sequence[Throughput]) -> str:
    """The list as it stands in a profile, one entry a block; "" without entries."""
    if not entries:
        return ""
    body = {"throughput": [entry.dump_set() for entry in entries]}
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def to_json(subject: Subject, outcome: Outcome, entries: Sequence[Throughput], notes: Sequence[str], percentile: int) -> str:
    """Fields are only added."""
    body: dict[str, Any] = {
        "profile": subject.profile,
        "model": subject.model,
        "place": subject.place,
        "verified": subject.verified,
        "percentile": percentile,
        "stages": [_stage(stage) for stage in outcome.stages],
        "entries": [entry.dump_set() for entry in entries],
        "stop": str(outcome.stop),
        "why": outcome.why,
        "partial": outcome.partial,
        "notes": list(notes),
    }
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False)


def _stage(stage: Stage) -> dict[str, Any]:
    held, waits = stage.held, stage.waits
    return {
        "concurrency": stage.concurrency,
        "outputTokensPerSecond": round(held.tokens_per_s, 3),
        "halfWidth": None if held.half_width is None else round(held.half_width, 3),
        "batches": held.batches,
        "requests": held.requests,
        "warmUpSeconds": round(held.warm_up_s, 3),
        "inputTokens": held.input_tokens and round(held.input_tokens, 2),
        "outputTokens": held.output_tokens and round(held.output_tokens, 2),
        "countedBy": held.counted_by,
        "ttftSeconds": waits.ttft_s,
        "itlSeconds": waits.itl_s,
        "arrivalsPerSecond": stage.rate,
        "inFlight": round(waits.in_flight, 3),
        "errors": dict(sorted(stage.errors.items())),
        "breaksSlo": stage.breaks,
        "unusable": stage.unusable,
    }


def rows(outcome: Outcome, *, limited: bool) -> list[str]:
    """The stages, then why it ended there."""
    columns = [*(Column(name, right=True) for name in _NUMBERS), Column("SLO")]
    lines = table(columns, [_row(stage, limited) for stage in outcome.stages]) if outcome.stages else []
    for stage in outcome.stages:
        if stage.unusable:
            lines += wrap(f"{stage.concurrency} in flight gives no entry: {stage.unusable}", first=" ")
        elif stage.breaks:
            lines += wrap(f"{stage.concurrency} in flight: {stage.breaks}", first=" ")
    return [*lines, *wrap(plain(f"{outcome.stop}: {outcome.why}"))]


def _row(stage: Stage, limited: bool) -> list[str]:
    held, waits = stage.held, stage.waits
    width = "-" if held.relative is None else f"± {100 * held.relative:.1f} %"
    slo = "-" if not limited else ("broken" if stage.breaks else "holds")
    wait = [seconds(value) if value is not None else "-" for value in (waits.ttft_s, waits.itl_s)]
    return [str(stage.concurrency), f"{held.tokens_per_s:.1f}", width, str(held.requests), *wait, slo]
