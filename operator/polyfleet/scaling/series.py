"""The autoscaler's series. Gauges of a model go with it; a value that is not known has no sample."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from autoscaling.types import Demand, MetricState
from placement.types import Plan
from polyfleet.inputs import Inputs
from polyfleet.scaling import spill

STARTS_S = (5, 10, 20, 40, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1800)
_STATE = {MetricState.VALUE: 2, MetricState.PARTIAL: 2, MetricState.RECOVERING: 2, MetricState.ZERO: 1}
Model = tuple[str, str]  # namespace, name


class ScalingSeries:
    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        own = registry if registry is not None else CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=own)

        model = ("namespace", "model")
        self.demand = gauge("polyfleet_demand_work", "Measured load, in replicas of the reference option; absent = unknown", *model)
        self.asked = gauge("polyfleet_covered_work", "Load that the plan covers, head-room included", *model)
        self.capacity = gauge("polyfleet_capacity_work", "What replicas carry, in replicas of the reference option", *model, "state")
        self.info = gauge("polyfleet_decision_info", "1 for the reason of the last decision", *model, "reason")
        self.decisions = Counter("polyfleet_decisions", "Decisions, one per tick", [*model, "direction", "reason"], registry=own)
        self.state = gauge("polyfleet_metrics_state", "What is known of the load: 0 unknown, 1 a true zero, 2 a value", *model)
        self.age = gauge("polyfleet_metrics_age_seconds", "Age of the newest reading of the load", *model)
        self.horizon = gauge("polyfleet_horizon_seconds", "Until a replica that is asked for now serves", *model)
        self.starts = Histogram(
            "polyfleet_cold_start_seconds",
            "From bound to serving, the entry check included",
            ["model", "profile"],
            buckets=STARTS_S,
            registry=own,
        )
        self.spillover = gauge(
            "polyfleet_spillover_replicas", "Replicas on dearer hardware for want of the preferred", *model, "from", "to"
        )
        self._models: dict[Model, str] = {}  # -> reason last told

    def decided(self, namespace: str, name: str, demand: Demand, age_s: float | None) -> None:
        key, reason = (namespace, name), str(demand.reason)
        self.decisions.labels(*key, str(demand.direction), reason).inc()
        if self._models.get(key) != reason:
            self._drop(self.info, key, self._models.get(key))
            self.info.labels(*key, reason).set(1)
        self._models[key] = reason
        self._set(self.demand, key, demand.now_work)
        self._set(self.age, key, age_s)
        self.asked.labels(*key).set(demand.work_per_s)
        self.capacity.labels(*key, "ready").set(demand.ready_work)
        self.capacity.labels(*key, "pending").set(demand.pending_work)
        self.state.labels(*key).set(_STATE.get(demand.metrics, 0))
        self.horizon.labels(*key).set(demand.horizon_s)

    def keep(self, models: Collection[Model]) -> None:
        """Models that are not among these have no series any more, but for counters."""
        for key in [key for key in self._models if key not in models]:
            for metric in (self.demand, self.asked, self.state, self.age, self.horizon):
                self._set(metric, key, None)
            for state in ("ready", "pending"):
                self._drop(self.capacity, key, state)
            self._drop(self.info, key, self._models.pop(key))

    def cold_start(self, namespace: str, name: str, profile: str, took_s: float) -> None:
        self.starts.labels(name, profile).observe(took_s)

    def spilled(self, inputs: Inputs, plan: Plan) -> None:
        self.spillover.clear()
        for _, view in sorted(inputs.models.items()):
            found = spill.over(inputs, view)
            for (before, to), count in found.replicas if found is not None else ():
                self.spillover.labels(view.state.namespace, view.state.name, before, to).set(count)

    @staticmethod
    def _set(metric: Gauge, key: Model, value: float | None) -> None:
        if value is not None:
            metric.labels(*key).set(value)
            return
        try:
            metric.remove(*key)
        except KeyError:
            pass

    @staticmethod
    def _drop(metric: Gauge, key: Model, label: str | None) -> None:
        if label is None:
            return
        try:
            metric.remove(*key, label)
        except KeyError:
            pass
