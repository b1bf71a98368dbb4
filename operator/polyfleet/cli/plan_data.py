"""A plan as data: the placer's own JSON document, with what the command adds to it beside it. Stable: fields are only added.

`placement.plan_from_json` reads the document; the fields beside `plan` are for scripts that want no second look at the snapshot.
"""

from __future__ import annotations

import json
from typing import Any

import placement
from polyfleet.cli.fix import Fixes
from polyfleet.cli.planning import Planned, Row, unused


def document(planned: Planned, fixes: dict[str, Fixes]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(placement.to_json(planned.plan))
    body["source"] = {"snapshot": planned.situation.source, "takenAt": planned.situation.taken_at}
    body["exitCode"] = planned.code
    body["objects"] = [{"kind": kind, "name": key, "change": change} for kind, key, change in planned.situation.laid]
    body["models"] = [_model(planned, name, fixes.get(name, Fixes())) for name in sorted(planned.wanted)]
    body["faults"] = [
        {"profile": item.profile, "field": item.field, "reason": item.reason, "message": item.message, "state": item.state}
        for item in planned.situation.faults
    ]
    body["notes"] = list(planned.situation.notes)
    return body


def _model(planned: Planned, name: str, fixes: Fixes) -> dict[str, Any]:
    return {
        "name": name,
        "wanted": planned.wanted[name],
        "before": planned.before[name],
        "after": planned.after[name],
        "hourlyCost": round(planned.cost(name), 6),
        "placements": [
            {
                "pool": row.pool,
                "profile": row.profile,
                "variant": row.variant,
                "engine": row.engine,
                "devicesPerReplica": row.devices,
                "before": row.before,
                "after": row.after,
                "hourlyCost": round(row.cost, 6),
                "workPerSecond": row.rate,
                "evidence": row.evidence,
                "date": row.date,
                "performance": _performance(row),
                "stale": row.resolved.stale if row.resolved is not None else "",
                "assumptions": list(row.resolved.assumptions) if row.resolved is not None else [],
            }
            for row in planned.rows
            if row.model == name
        ],
        "rejected": [
            {"profile": profile, "reason": reason, "message": message, "hint": hint}
            for profile, reason, message, hint in unused(planned, name)
        ],
        "refused": [{"reason": item.reason, "message": item.message, "held": item.held} for item in planned.refused if item.model == name],
        "fixes": [
            {"change": fix.change, "command": fix.command, "hourlyCost": fix.cost, "shortfall": {"before": fix.before, "after": fix.after}}
            for fix in fixes.found
        ],
    }


def _performance(row: Row) -> dict[str, Any] | None:
    """Of one replica, at the load of its model; null where nothing is known. Rates in output tokens/s, times in seconds."""
    found = row.performance
    if found is None:
        return None
    return {
        "tokensPerSecond": _rounded(found.output_tokens_per_s),
        "point": _rounded(found.point),
        "lower": _rounded(found.lower),
        "upper": _rounded(found.upper),
        "ttft": _rounded(found.ttft_s),
        "itl": _rounded(found.itl_s),
        "concurrency": found.concurrency,
        "evidence": found.evidence,
        "confidence": found.confidence,
        "source": found.source,
        "date": found.date,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def to_json(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)


def to_yaml(body: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(body, sort_keys=True, allow_unicode=True, width=120).rstrip("\n")
