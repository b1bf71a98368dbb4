"""Merges a user's `podTemplate` over the generated pod: maps by key, lists of named things by name, other lists as a whole.

The parts that the operator's promises rest on are not the user's: gates, the node, the device request. A template that names them
is refused with the field and the reason, never silently corrected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from polyfleet import naming

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
# Those whose items are nothing without a name.
_NAMED = ("containers", "initContainers", "volumes", "env")
_APPENDED = ("tolerations", "topologySpreadConstraints", "envFrom")

_PATH = "spec.podTemplate.spec"
_SHOWN = 60
VISIBLE_DEVICES = re.compile(r"(^|_)VISIBLE_DEVICES$")

RESERVED: Mapping[str, str] = {
    "nodeName": "the node comes from the plan",
    "schedulingGates": "the gate polyfleet.io/placement holds a pod until its node is planned",
    "readinessGates": "the gate polyfleet.io/serving decides who takes traffic",
    "schedulerName": "the scheduler comes from the AcceleratorPool (spec.scheduler)",
    "restartPolicy": "a Deployment's pods always restart",
    "resourceClaims": "devices come from the plan",
}


def faults(template: Mapping[str, Any], devices: Iterable[str] = ()) -> list[str]:
    """What a podTemplate must not say, in words. `devices`: the extended resources that a plan counts, of every profile.

    `spec` is the one open subtree of the object, so its shape is checked here as far as merging relies on it; the rest is the API
    server's to refuse.
    """
    spec = template.get("spec") or {}
    found = [f"{_PATH}.{field} must not be set: {why}" for field, why in sorted(RESERVED.items()) if field in spec]
    found += _owned_metadata(template.get("metadata") or {})
    for field in sorted(spec.keys() & {*_KEYS, *_APPENDED}):
        found += _items(f"{_PATH}.{field}", field, spec[field])
    counted = frozenset(devices)
    for field in ("containers", "initContainers"):
        items = spec.get(field)
        for item in items if isinstance(items, list) else ():
            if isinstance(item, Mapping):
                found += _container(f"{_PATH}.{field}[{_shown(item.get('name'))}]", item, counted)
    return found


def _owned_metadata(metadata: Mapping[str, Any]) -> list[str]:
    """Labels and annotations by which the operator knows a pod's place and state."""
    found: list[str] = []
    for part in ("labels", "annotations"):
        given = set(metadata.get(part) or {}) - ({naming.METRICS_PORT, naming.METRICS_PATH} if part == "annotations" else set())
        names = [key for key in given if key.startswith(f"{naming.GROUP}/") or key == naming.DELETION_COST]
        found += [f"spec.podTemplate.metadata.{part}: {key} must not be set: the operator writes it" for key in sorted(names)]
    return found


def _items(where: str, field: str, value: Any) -> list[str]:
    """A list that is merged item by item: every item is a mapping, and the field that tells items apart is a text."""
    if not isinstance(value, list):
        return [f"{where}: {_shown(value)} is not a list"]
    key, found = _KEYS.get(field), []
    for index, item in enumerate(value):
        if not isinstance(item, Mapping):
            found.append(f"{where}[{index}]: {_shown(item)} is not a mapping of fields")
        elif key is not None and not isinstance(item.get(key, ""), str):
            found.append(f"{where}[{index}].{key}: {_shown(item[key])} is not a text")
        elif field in _NAMED and not item.get("name"):
            hint = "; the engine's container is named engine" if field == "containers" else ""
            found.append(f"{where}[{index}] needs a name{hint}")
    return found


def _container(where: str, item: Mapping[str, Any], counted: frozenset[str]) -> list[str]:
    found: list[str] = []
    for field in sorted(item.keys() & {*_KEYS, *_APPENDED}):
        found += _items(f"{where}.{field}", field, item[field])
    env = item.get("env")
    for entry in env if isinstance(env, list) else ():
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and VISIBLE_DEVICES.search(name) and not _is_reference(entry):
            found.append(f"{where}.env: {name} must not be set: the device plugin or the scheduler gives the devices; remove it")
    resources = item.get("resources", {})
    if not isinstance(resources, Mapping):
        return [*found, f"{where}.resources: {_shown(resources)} is not a mapping of fields"]
    for part in ("limits", "requests"):
        amounts = resources.get(part, {})
        if not isinstance(amounts, Mapping):
            found.append(f"{where}.resources.{part}: {_shown(amounts)} is not a mapping of resources to amounts")
            continue
        found += [
            f"{where}.resources.{part}: {name} must not be set: the plan gives the engine its devices, and a pod holds no others;"
            " choose the size with spec.runtime.parallelism"
            for name in sorted(amounts)
            if _is_device(name, counted)
        ]
    return found


def _is_device(name: str, counted: frozenset[str]) -> bool:
    """Also a part of a device: its memory or its share under one more suffix (HAMi), and a MIG slice."""
    return "/mig-" in name or any(name.startswith(device) for device in counted)


def _is_reference(entry: Mapping[str, Any]) -> bool:
    """The scheduler's own annotation, read through the downward API: the one legal source of visible devices."""
    source = entry.get("valueFrom")
    return isinstance(source, Mapping) and "fieldRef" in source


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


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
        name = item.get(field)
        merged[name] = merge(merged[name], item) if name in merged else item
    return list(merged.values())
