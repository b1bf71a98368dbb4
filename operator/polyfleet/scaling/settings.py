"""From `spec.scaling`, `spec.slo` and the FleetPolicy to the settings that `autoscaling.decide` takes."""

from __future__ import annotations

from autoscaling.types import CronFloor, FallbackRule, Settings, SleepRule, Slo
from hwprofiles.schema import decimal_float, duration_seconds
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.api.modeldeployment import Scaling
from polyfleet.scaling import cron

TICK_S = 10.0
ZERO_TICK_S = 5.0  # while a model is at zero: somebody may be waiting
# What FleetPolicy `scaling.classes` held by schema default in releases that had one. The API server wrote it into every stored object, so
# nobody can tell it from a person's word, and it is read as not set: head-room then follows the load's own volatility and the SLO.
_ONCE_SHIPPED = {"Strict": ("0.98", "0.7"), "Standard": ("0.8", "0.9"), "Batch": (None, "0.9")}


def of(spec: ModelDeploymentSpec, policy: FleetPolicySpec, now: float, *, at_zero: bool = False) -> Settings:
    """`spec.scaling` must be there. A cron floor that cannot be read is left out here; `faults` says so."""
    scaling = spec.scaling
    assert scaling is not None
    quantile, utilization = _class(policy, spec.slo.class_)
    down = scaling.behavior.scale_down if scaling.behavior is not None else None
    up = scaling.behavior.scale_up if scaling.behavior is not None else None
    sleep, back = scaling.scale_to_zero, scaling.fallback
    window = down.stabilization_window_seconds if down is not None else None
    return Settings(
        min_replicas=min(scaling.min_replicas, scaling.max_replicas),
        max_replicas=scaling.max_replicas,
        slo=Slo(
            ttft_s=duration_seconds(spec.slo.ttft) if spec.slo.ttft is not None else None,
            itl_s=duration_seconds(spec.slo.itl) if spec.slo.itl is not None else None,
            percentile=float(spec.slo.percentile),
            slo_class=spec.slo.class_,
        ),
        metric=scaling.metric,
        target_per_replica=decimal_float(scaling.target_per_replica) if scaling.target_per_replica is not None else None,
        down_window_s=float(window) if window is not None else None,
        down_events_per_hour=down.max_events_per_hour if down is not None and down.max_events_per_hour is not None else 6,
        up_window_s=float(up.stabilization_window_seconds or 0) if up is not None else 0.0,
        up_events_per_hour=up.max_events_per_hour if up is not None else None,
        fallback=FallbackRule(back.replicas, back.failure_threshold, back.behavior) if back is not None else None,
        sleep=SleepRule(duration_seconds(sleep.idle_after), sleep.max_wake_seconds) if sleep is not None else None,
        floors=floors(scaling, now),
        burst_quantile=quantile,
        utilization=utilization,
        max_horizon_s=duration_seconds(policy.scaling.max_horizon),
        hold_unknown_s=duration_seconds(policy.scaling.hold_unknown_for),
        tick_s=ZERO_TICK_S if at_zero else TICK_S,
    )


def _class(policy: FleetPolicySpec, name: str) -> tuple[float | None, float | None]:
    """(burst quantile, utilisation) where somebody set them."""
    row = next((item for item in policy.scaling.classes if item.name == name), None)
    if row is None or (row.burst_quantile, row.utilization) == _ONCE_SHIPPED.get(name):
        return None, None
    quantile = decimal_float(row.burst_quantile) if row.burst_quantile is not None else None
    return quantile, decimal_float(row.utilization) if row.utilization is not None else None


def floors(scaling: Scaling, now: float) -> tuple[CronFloor, ...]:
    """The interval of each cron floor that holds now or comes next, in the order of the spec."""
    found: list[CronFloor] = []
    for item in scaling.floors:
        try:
            span = cron.interval(item.schedule, item.time_zone, duration_seconds(item.duration), now)
        except cron.CronError:
            continue
        if span is not None:
            found.append(CronFloor(*span, min(item.min_replicas, scaling.max_replicas)))
    return tuple(found)


def remarks(spec: ModelDeploymentSpec) -> list[str]:
    """What of `spec.scaling` counts for less than it says: by field, with the way out."""
    scaling = spec.scaling
    if scaling is None:
        return []
    most = scaling.max_replicas
    return [
        f"spec.scaling.floors[{place}].minReplicas {item.min_replicas} is above maxReplicas {most} and counts as {most}: raise maxReplicas"
        for place, item in enumerate(scaling.floors)
        if item.min_replicas > most
    ]


def faults(spec: ModelDeploymentSpec) -> list[str]:
    """What of `spec.scaling` cannot be read although the schema took it: by field, with the way out."""
    found: list[str] = []
    for place, item in enumerate(spec.scaling.floors if spec.scaling is not None else ()):
        try:
            cron.parse(item.schedule), cron.zone(item.time_zone)
        except cron.CronError as fault:
            found.append(f"spec.scaling.floors[{place}]: {fault}")
    return found
