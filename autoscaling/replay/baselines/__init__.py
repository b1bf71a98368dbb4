"""Other autoscalers, re-implemented from their documentation and source for comparison. Each at its documented defaults and with one knob.

None is called by the operator. What they see is what their originals see: gauges of engines, counters of a gateway, ready pods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoscaling.replay.baselines import dynamo, hpa, hysteresis, keda, knative, kthena, wva
from autoscaling.replay.harness import Policy


@dataclass(frozen=True, slots=True)
class Baseline:
    """`make` builds a fresh policy from (knob, cold start in s); `default` is the documented value of the knob, `knobs` what is tried."""

    name: str
    knob: str
    default: float
    knobs: Sequence[float]
    make: Callable[[float, float], Policy]


BASELINES: tuple[Baseline, ...] = (
    Baseline("HPA in-flight", "target, share of the slots", 0.7, (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.7), lambda knob, _: hpa.Hpa(knob)),
    Baseline("KEDA waiting", "waiting per replica", 5.0, (0.1, 0.5, 1.0, 2.0, 5.0, 10.0), lambda knob, _: keda.Keda(knob)),
    Baseline("KPA in-flight", "target, share of the slots", 0.7, (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.7), lambda knob, _: knative.Kpa(knob)),
    Baseline("WVA V1", "KV threshold", 0.8, (0.3, 0.4, 0.5, 0.6, 0.8), lambda knob, _: wva.V1(knob)),
    Baseline("WVA V2", "scale-up threshold", 0.85, (0.2, 0.3, 0.4, 0.5, 0.6, 0.85), lambda knob, _: wva.V2(knob)),
    Baseline("Dynamo easy", "KV share that adds one", 1.0, (0.15, 0.2, 0.3, 0.4, 0.6, 1.0), lambda knob, _: dynamo.Easy(knob)),
    Baseline("Dynamo SLA", "time to the first token, s", 0.5, (0.25, 0.5, 1.0, 2.0), lambda knob, _: dynamo.Sla(knob)),
    Baseline("Kthena-like", "target, share of the slots", 0.7, (0.1, 0.2, 0.3, 0.4, 0.5, 0.7), lambda knob, _: kthena.Kthena(knob)),
    Baseline("demand hysteresis", "utilisation", 0.9, (0.6, 0.7, 0.8, 0.85, 0.9), lambda knob, cold: hysteresis.Hysteresis(knob, cold)),
)
