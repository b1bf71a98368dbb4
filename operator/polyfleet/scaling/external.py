"""The objects of another scaler that follows polyfleet: a KEDA ScaledObject or a HorizontalPodAutoscaler on the ModelDeployment. Pure.

Both read `polyfleet_desired_replicas`, whose value is the size itself: with a target of 1 (an average value, so metric / 1) they ask for
exactly it. What they must not do is guess: KEDA would read a missing series as 0 (`ignoreNullValues` is true by default) and scale to the
minimum at peak; so it is told that a missing value is an error, and its fallback never goes below what runs. Their own damping is switched
off where it can be, for the number is damped already.

Sources: KEDA's ScaledObject (keda.sh/v1alpha1) and its Prometheus scaler; autoscaling/v2 of Kubernetes, whose controller changes nothing
within a tolerance of 10 %, which is why `tolerance` is 0 (Kubernetes 1.33 and later; older ones do not know the field).
"""

from __future__ import annotations

from typing import Any

from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec

SERIES = "polyfleet_desired_replicas"
DEFAULT_PROMETHEUS = "http://prometheus.monitoring.svc:9090"
POLL_S = 15
_BEHAVIORS = {"Static": "static", "CurrentReplicas": "currentReplicas", "CurrentReplicasIfHigher": "currentReplicasIfHigher"}


def keda(namespace: str, name: str, spec: ModelDeploymentSpec, server: str = DEFAULT_PROMETHEUS) -> dict[str, Any]:
    """A ScaledObject. `spec.scaling` must be there; `server`: address of the Prometheus that has the operator's series."""
    scaling = spec.scaling
    assert scaling is not None
    back = scaling.fallback
    trigger = {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": server,
            "query": f'max({SERIES}{{namespace="{namespace}",model="{name}"}})',
            "threshold": "1",
            "ignoreNullValues": "false",
        },
    }
    found: dict[str, Any] = {
        "scaleTargetRef": _target(name),
        "pollingInterval": POLL_S,
        "cooldownPeriod": 0,
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "fallback": {
            "failureThreshold": back.failure_threshold if back is not None else 3,
            "replicas": back.replicas if back is not None else max(1, scaling.min_replicas),
            "behavior": _BEHAVIORS[back.behavior] if back is not None else "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _undamped()}},
        "triggers": [trigger],
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name, "namespace": namespace}, "spec": found}


def hpa(namespace: str, name: str, spec: ModelDeploymentSpec) -> dict[str, Any]:
    """A HorizontalPodAutoscaler with the series as an external metric, which an adapter must serve. It cannot go to zero."""
    scaling = spec.scaling
    assert scaling is not None
    metric = {"name": SERIES, "selector": {"matchLabels": {"namespace": namespace, "model": name}}}
    behavior = {side: {**rules, "tolerance": "0"} for side, rules in _undamped().items()}
    found: dict[str, Any] = {
        "scaleTargetRef": _target(name),
        "minReplicas": max(1, scaling.min_replicas),
        "maxReplicas": scaling.max_replicas,
        "metrics": [{"type": "External", "external": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}}],
        "behavior": behavior,
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": found}


def _target(name: str) -> dict[str, str]:
    return {"apiVersion": naming.API_VERSION, "kind": "ModelDeployment", "name": name}


def _undamped() -> dict[str, Any]:
    """At once to the number, up and down."""
    all_of_it = [{"type": "Percent", "value": 100000, "periodSeconds": 15}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": all_of_it},
        "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
    }
