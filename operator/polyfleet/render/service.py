"""The endpoint of a model: one Service over every pool and revision.

The selector is the deployment label alone. Who takes traffic is decided by the readiness gate on each pod, never by labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyfleet import naming
from polyfleet.render.deployment import owner_reference
from polyfleet.render.engines import PORT
from polyfleet.render.pod import PORT_NAME
from polyfleet.state import CustomState
from polyfleet.wake.names import ROLE, SERVING


def labels(owner: CustomState) -> dict[str, str]:
    return {naming.DEPLOYMENT: naming.label_value(owner.name)}


def metadata(owner: CustomState, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    own, full = naming.labels_and_annotations({naming.DEPLOYMENT: owner.name})
    found: dict[str, Any] = {
        "name": naming.service_name(owner.name),
        "namespace": owner.namespace,
        "labels": {**own, **(extra or {})},
        "ownerReferences": [owner_reference(owner)],
    }
    return {**found, "annotations": full} if full else found


def url(owner: CustomState) -> str:
    return f"http://{naming.service_name(owner.name)}.{owner.namespace}.svc:{PORT}/v1"


def manifest(owner: CustomState, *, woken: bool = False) -> dict[str, Any]:
    """`woken`: the model may sleep. The label goes from the Service to its EndpointSlices, where the activator finds the replicas."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, {ROLE: SERVING} if woken else None),
        "spec": {
            "selector": labels(owner),
            "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    }
