"""A simulation as data. Stable: fields are only added; null is unknown."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from autoscaling.usage import Usage, usage
from polyfleet.cli.simulate.loop import Run


def of_run(run: Run) -> Usage:
    return usage(run.intervals)


def percentiles(run: Run) -> dict[str, float | None]:
    """Of the time to the first token over all requests, s; None where so many got none."""
    found: dict[str, float | None] = {}
    for name, share in (("p50", 50.0), ("p95", 95.0), ("p99", 99.0)):
        # The nearest rank: between a number and "never" nothing can be interpolated.
        value = float(np.percentile(run.ttft, share, method="inverted_cdf"))
        found[name] = value if math.isfinite(value) else None
    return found


def shares(run: Run, bins: int) -> list[tuple[float, float, float | None]]:
    """(begin, end, share of the requests that arrived then whose first token came within the goal; None: nobody arrived)."""
    edges = np.linspace(0.0, max(run.trace.span_s, run.tick_s), bins + 1)
    fine = np.histogram(run.trace.arrival[run.ttft <= run.subject.goal[0]], bins=edges)[0]
    all_ = np.histogram(run.trace.arrival, bins=edges)[0]
    return [
        (float(edges[place]), float(edges[place + 1]), float(fine[place] / all_[place]) if all_[place] else None) for place in range(bins)
    ]


def document(run: Run) -> dict[str, Any]:
    report = of_run(run)
    goal, stated = run.subject.goal
    hours = sum(row.replica_hours for row in report.rows)
    return {
        "model": run.subject.model,
        "source": run.subject.source,
        "trace": {"name": run.trace.name, "requests": len(run.trace.arrival), "seconds": round(run.trace.span_s, 3)},
        "policy": run.policy,
        "seed": run.seed,
        "tickSeconds": run.tick_s,
        "goal": {"ttft": goal, "stated": stated, "percentile": run.subject.settings(run.subject.base).slo.percentile},
        "met": round(run.met, 6),
        "reached": run.reached,
        "ttft": percentiles(run),
        "lost": run.lost,
        "unserved": run.unserved,
        "seconds": run.end,
        "replicaHours": round(hours, 6),
        "cost": round(report.cost, 6),
        "scaleUps": run.ups,
        "scaleDowns": run.downs,
        "starts": run.starts,
        "plans": run.solves,
        "shortSeconds": run.short_s,
        "coldStarts": {
            option: {"seconds": start.seconds, "source": start.source}
            for option, start in sorted(run.subject.starts.items())
            if option in run.subject.rates
        },
        "rates": {option: round(rate, 6) for option, rate in sorted(run.subject.rates.items())},
        "usage": [
            {
                "profile": row.profile,
                "vendor": row.vendor,
                "replicaHours": round(row.replica_hours, 6),
                "deviceHours": round(row.device_hours, 6),
                "cost": round(row.cost, 6),
                "utilisation": None if row.utilisation is None else round(row.utilisation, 4),
            }
            for row in report.rows
        ],
        "events": [
            {"at": event.at, "what": event.what, "reason": event.reason, "message": event.text, "change": event.change}
            for event in run.events
        ],
        "ticks": [
            {
                "at": tick.at,
                "load": round(tick.load, 6),
                "asked": round(tick.asked, 6),
                "level": None if tick.level is None else round(tick.level, 6),
                "ready": {name: round(value, 6) for name, value in tick.ready},
                "pending": {name: round(value, 6) for name, value in tick.pending},
                "replicas": {name: {"ready": ready, "pending": pending} for name, ready, pending in tick.replicas},
                "waiting": tick.waiting,
                "hourlyCost": round(tick.hourly_cost, 6),
            }
            for tick in run.ticks
        ],
        "notes": list(run.subject.notes),
    }


def to_json(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
