"""The accuracy series of /metrics, out of the stored AccuracyReports. Pure but for the collector that holds them.

Several reports can have the same labels, one per fingerprint: the newest one speaks, violations are summed. A value that is not known has
no sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from polyfleet.state import CustomState

LABELS = ("namespace", "model", "profile", "variant", "reference")
RUNNING = "Running"  # in place of a verdict that is not there yet

Labels = tuple[str, ...]


class AccuracySeries(Collector):
    def __init__(self) -> None:
        self.reports: Sequence[CustomState] = ()

    def collect(self) -> Iterator[Metric]:
        ratio = GaugeMetricFamily("polyfleet_accuracy_noise_ratio", "Distance over the reference's own noise", labels=LABELS)
        evidence = GaugeMetricFamily(
            "polyfleet_accuracy_evidence", "Evidence: the weakest gate's for promote, the strongest's for block", labels=(*LABELS, "side")
        )
        violations = CounterMetricFamily("polyfleet_accuracy_violations", "Prompts beyond the tail limits", labels=LABELS)
        verdict = GaugeMetricFamily("polyfleet_accuracy_verdict", "1 for the verdict of the newest report", labels=(*LABELS, "verdict"))
        override = GaugeMetricFamily("polyfleet_accuracy_override", "1 while a human's verdict holds", labels=LABELS)
        for labels, reports in grouped(self.reports).items():
            status = reports[-1].status
            if (value := _number(status.get("noiseRatio"))) is not None:
                ratio.add_metric(labels, value)
            for side, figure in evidences(status).items():
                evidence.add_metric([*labels, side], figure)
            violations.add_metric(labels, sum(bad_prompts(report.status) for report in reports))
            overridden = _reason(status) == "Overridden"
            said = (reports[-1].spec.get("override") or {}).get("verdict") if overridden else status.get("verdict")
            verdict.add_metric([*labels, str(said or RUNNING)], 1)
            if overridden:
                override.add_metric(labels, 1)
        yield from (ratio, evidence, violations, verdict, override)


def grouped(reports: Iterable[CustomState]) -> Mapping[Labels, list[CustomState]]:
    """Reports by their labels, the oldest first."""
    found: dict[Labels, list[CustomState]] = {}
    for report in sorted(reports, key=lambda each: (each.created, each.name)):
        candidate, reference = report.spec.get("candidate") or {}, report.spec.get("reference") or {}
        labels = (
            report.namespace,
            report.spec.get("deployment"),
            candidate.get("profile"),
            candidate.get("variant"),
            reference.get("profile"),
        )
        found.setdefault(tuple(str(part or "") for part in labels), []).append(report)
    return dict(sorted(found.items()))


def evidences(status: Mapping[str, Any]) -> dict[str, float]:
    """What stands against a promotion and what speaks for a block: a promotion needs every gate, a block needs one."""
    gates = status.get("gates") or ()
    promote = [value for gate in gates if (value := _number(gate.get("evidencePromote"))) is not None]
    block = [value for gate in gates if (value := _number(gate.get("evidenceBlock"))) is not None]
    return {**({"promote": min(promote)} if promote else {}), **({"block": max(block)} if block else {})}


def bad_prompts(status: Mapping[str, Any]) -> int:
    """Prompts that gate Tail counted as bad, all strata together."""
    for gate in status.get("gates") or ():
        if gate.get("name") == "Tail" and not gate.get("stratum"):
            return round((_number(gate.get("estimate")) or 0.0) * int(gate.get("prompts") or 0))
    return 0


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _reason(status: Mapping[str, Any]) -> str:
    return next((str(row.get("reason")) for row in status.get("conditions") or () if row.get("type") == "AccuracyVerified"), "")
