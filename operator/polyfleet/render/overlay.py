"""Merges a user's `podTemplate` over the generated pod: maps by key, lists of named things by name, other lists as a whole.

The parts that the operator's promises rest on are not the user's: gates, the node, the device request. A template that names them
is refused with the field and the reason, never silently corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The field by which the items of a list are told apart; lists that are not here are replaced as a whole.
_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "name",
    "hostAliases": "ip",
}
_APPENDED = ("tolerations", "topologySpreadConstraints", "envFrom")

RESERVED: Mapping[str, str] = {
    "nodeName": "the node comes from the plan",
    "schedulingGates": "the gate polyfleet.io/placement holds a pod until its node is planned",
    "readinessGates": "the gate polyfleet.io/serving decides who takes traffic",
    "schedulerName": "the scheduler comes from the AcceleratorPool (spec.scheduler)",
    "restartPolicy": "a Deployment's pods always restart",
}


def faults(spec: Mapping[str, Any] | None) -> list[str]:
    """What a podTemplate.spec must not say, in words."""
    found = [f"spec.podTemplate.spec.{field} must not be set: {why}" for field, why in sorted(RESERVED.items()) if field in (spec or {})]
    containers = (spec or {}).get("containers")
    if containers is not None and not isinstance(containers, list):
        found.append("spec.podTemplate.spec.containers must be a list of containers with a name")
    elif any(not isinstance(item, Mapping) or not item.get("name") for item in containers or ()):
        found.append("spec.podTemplate.spec.containers: every container needs a name; the engine's is engine")
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key in over:
        result[key] = _value(key, base.get(key), over[key])
    return result


def _value(key: str, base: Any, over: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return merge(base, over)
    if isinstance(base, list) and isinstance(over, list):
        if key in _KEYS:
            return _by_key(_KEYS[key], base, over)
        if key in _APPENDED:
            return [*base, *(item for item in over if item not in base)]
    return over


def _by_key(field: str, base: list[Any], over: list[Any]) -> list[Any]:
    merged: dict[Any, Any] = {item.get(field): item for item in base}
    for item in over:
        name = item.get(field) if isinstance(item, Mapping) else None
        merged[name] = merge(merged[name], item) if name in merged and isinstance(item, Mapping) else item
    return list(merged.values())
