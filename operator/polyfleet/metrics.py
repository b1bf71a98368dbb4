"""The operator's own series. No pod or node name is a label; gauges of objects are replaced as a whole, so nothing stale stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from placement.types import Plan
from polyfleet.actions import Report
from polyfleet.certify.series import AccuracySeries
from polyfleet.hold import solver_failed
from polyfleet.queue import Clock
from polyfleet.state import CustomState, Observed

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class OptionalGauge(Collector):
    """A gauge that has no sample while its value is unknown: nought would claim a proof."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self.value: float | None = None

    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(self._name, self._text)
        if self.value is not None:
            found.add_metric([], self.value)
        yield found


class Metrics:
    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._cycle_at = clock()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        self.leader = gauge("polyfleet_leader", "1 if this process leads")
        self.cycle_seconds = Histogram("polyfleet_cycle_seconds", "Length of a cycle", buckets=SECONDS, registry=self.registry)
        self.cycle_failures = Counter("polyfleet_cycle_failures", "Cycles that ended in an error", ["stage"], registry=self.registry)
        gauge("polyfleet_cycle_age_seconds", "Since the last cycle that ended well").set_function(lambda: clock() - self._cycle_at)
        self.watch_age = gauge("polyfleet_watch_age_seconds", "Since the API server last said anything", "kind")
        self.loop_lag = gauge("polyfleet_loop_lag_seconds", "How late the event loop's last tick was")
        self.api_writes = Counter("polyfleet_api_writes", "Writes to the API server", ["kind", "verb", "code"], registry=self.registry)
        self.solver_seconds = Histogram("polyfleet_solver_seconds", "Length of a solve", buckets=SECONDS, registry=self.registry)
        self.solver_outcomes = Counter("polyfleet_solver_outcomes", "Solves", ["outcome", "solver"], registry=self.registry)
        self.gap = OptionalGauge("polyfleet_gap_ratio", "Gap of the last plan to a bound that holds for all plans; absent = no bound known")
        self.registry.register(self.gap)
        self.solver_healthy = gauge("polyfleet_solver_healthy", "1 if the solver of the last solve passed its self-test; 0: none did")
        self.moves = Counter("polyfleet_moves", "Replicas moved by plans", ["reason"], registry=self.registry)
        self.unreadable = gauge("polyfleet_resource_unreadable", "1 for each resource that cannot be listed", "kind", "reason")
        self.desired = gauge("polyfleet_desired_replicas", "Replicas that are wanted", "namespace", "model")
        self.placed = gauge("polyfleet_placed_replicas", "Replicas that exist", "namespace", "model", "vendor", "pool")
        self.ready = gauge("polyfleet_ready_replicas", "Replicas that serve", "namespace", "model", "vendor", "pool")
        self.shortfall = gauge("polyfleet_shortfall_replicas", "Replicas that are missing", "namespace", "model", "reason")
        self.devices = gauge("polyfleet_pool_devices", "Devices of a pool", "pool", "vendor", "state")
        self.entries = gauge("polyfleet_profile_entries", "Throughput entries of a profile", "profile", "evidence")
        self.oldest = gauge(
            "polyfleet_profile_oldest_timestamp_seconds", "Date of a profile's oldest throughput entry, midnight UTC", "profile", "evidence"
        )
        self.accuracy = AccuracySeries()
        self.registry.register(self.accuracy)
        self.condition = gauge(
            "polyfleet_condition", "1 for the status of each condition", "kind", "namespace", "name", "type", "status", "reason"
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def wrote(self, kind: str, verb: str, code: str) -> None:
        self.api_writes.labels(kind, verb, code).inc()

    def cycle_done(self, seconds: float) -> None:
        self._cycle_at = self._clock()
        self.cycle_seconds.observe(seconds)

    def solved(self, plan: Plan, seconds: float) -> None:
        self.solver_seconds.observe(seconds)
        self.solver_outcomes.labels(str(plan.outcome), plan.solver).inc()
        self.gap.value = plan.gap
        self.solver_healthy.set(0 if solver_failed(plan) else 1)

    def moved(self, count: int, reason: str) -> None:
        """A plan begins that stops `count` replicas whose models start others; `reason` is the plan's trigger."""
        self.moves.labels(reason).inc(count)

    def watches(self, ages: Mapping[str, float], unknown: Mapping[str, str]) -> None:
        for name, age in ages.items():
            self.watch_age.labels(name).set(age)
        self.unreadable.clear()
        for name, reason in unknown.items():
            self.unreadable.labels(name, reason).set(1)

    def reported(self, observed: Observed, report: Report) -> None:
        """The gauges of objects, from the statuses of this cycle."""
        for metric in (self.desired, self.placed, self.ready, self.shortfall, self.devices, self.condition, self.entries, self.oldest):
            metric.clear()
        self.accuracy.reports = observed.reports
        for profile in observed.profiles:
            self._profile(profile)
        statuses = {(status.kind, status.namespace, status.name): status.status for status in report.statuses}
        vendors = {pool.name: str(pool.status.get("vendor") or "") for pool in observed.pools}
        for (kind, namespace, name), status in statuses.items():
            for entry in status.get("conditions") or ():
                self.condition.labels(kind, namespace, name, entry["type"], entry["status"], entry.get("reason", "")).set(1)
            if kind == "ModelDeployment":
                self._model(namespace, name, status, vendors)
            elif kind == "AcceleratorPool":
                self._pool(name, status)

    def _profile(self, state: CustomState) -> None:
        """From the stored spec. A class of evidence without entries has no series: nought would be a date."""
        dates: dict[str, list[str]] = {}
        for entry in state.spec.get("throughput") or ():
            dates.setdefault(str(entry.get("evidence")), []).append(str(entry.get("date")))
        for evidence, days in sorted(dates.items()):
            self.entries.labels(state.name, evidence).set(len(days))
            if known := [stamp for day in days if (stamp := _midnight(day)) is not None]:
                self.oldest.labels(state.name, evidence).set(min(known))

    def _model(self, namespace: str, name: str, status: Mapping[str, Any], vendors: Mapping[str, str]) -> None:
        self.desired.labels(namespace, name).set(_desired(status))
        for row in status.get("placements") or ():
            labels = (namespace, name, vendors.get(row["pool"], ""), row["pool"])
            self.placed.labels(*labels).inc(row.get("replicas") or 0)
            self.ready.labels(*labels).inc(row.get("readyReplicas") or 0)
        short = status.get("shortfall") or {}
        for reason in short.get("reasons") or ():
            self.shortfall.labels(namespace, name, reason["reason"]).set(reason.get("missing") or short.get("replicas") or 0)

    def _pool(self, name: str, status: Mapping[str, Any]) -> None:
        for state in ("allocatable", "used", "free", "reserved", "withdrawn", "stranded"):
            count = (status.get("devices") or {}).get(state)
            if count is not None:
                self.devices.labels(name, str(status.get("vendor") or ""), state).set(count)


def _desired(status: Mapping[str, Any]) -> float:
    """The size that is wanted; where another scaler or a person sets it, the one that is recommended: it is what they follow."""
    advice = (status.get("autoscaler") or {}).get("desired")
    reasons = {row.get("reason") for row in status.get("conditions") or () if row.get("type") == "ScalingActive"}
    if advice is not None and reasons & {"AdvisoryOnly", "ExternallyScaled"}:
        return float(advice)
    return float(status.get("desiredReplicas") or 0)


def _midnight(day: str) -> float | None:
    """Seconds since 1970 of YYYY-MM-DD; a month counts from its first day. None for what is no date."""
    try:
        return datetime.fromisoformat(day if len(day) > len("YYYY-MM") else f"{day}-01").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
