"""EndpointSlices of the three kinds of `names.ROLE`, read and written. Pure: raw JSON in, values out.

A slice of ours belongs to the model's Service beside those that Kubernetes' own controller keeps, which leaves alone what another manager's
label is on. It stands as long as the model may sleep; its endpoints are the activator's pods while the activator is in the way, and none
while replicas serve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from polyfleet import naming
from polyfleet.parse import Raw, kept_annotations, owner_uid
from polyfleet.render.deployment import owner_reference
from polyfleet.render.pod import PORT_NAME
from polyfleet.state import CustomState, EndpointsState
from polyfleet.wake.names import (
    CONTROLLER,
    FIRST_PORT,
    HELD,
    HOLD_S,
    LAST_PORT,
    MANAGED_BY,
    MODEL,
    OURS,
    PODS,
    ROLE,
    SERVED,
    SERVICE,
    SERVING,
    WAKE_S,
)

FAMILIES = ("IPv4", "IPv6")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    address: str
    uid: str = ""  # of the pod


@dataclass(frozen=True, slots=True)
class Route:
    """What a slice of ours says. `wake_s` None = not known."""

    namespace: str
    name: str  # of the ModelDeployment
    service: str
    port: int
    hold_s: float
    wake_s: float | None
    served: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse(raw: Raw, home: str = "") -> EndpointsState | None:
    """A slice with the label; None for one whose role nobody knows. `home`: the only namespace where the activator's pods may be."""
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    if labels.get(ROLE) not in (PODS, HELD, SERVING) or (labels[ROLE] == PODS and home not in ("", metadata["namespace"])):
        return None
    return EndpointsState(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_uid=owner_uid(metadata),
        labels=labels,
        annotations=kept_annotations(metadata),
        spec={key: raw.get(key) for key in ("addressType", "endpoints", "ports")},
        created=metadata.get("creationTimestamp") or "",
    )


def role(found: EndpointsState) -> str:
    """The label's value, where whoever should have written the slice did; else "". An address that somebody else adds is no replica."""
    said = found.labels.get(ROLE, "")
    return said if found.labels.get(MANAGED_BY) == (OURS if said == HELD else CONTROLLER) else ""


def ready(found: EndpointsState) -> tuple[Endpoint, ...]:
    """Endpoints that take traffic; sorted. Unset means ready, as for whoever reads slices."""
    return tuple(sorted(_endpoint(each) for each in found.spec.get("endpoints") or () if _addresses(each) and _ready(each)))


def everyone(found: EndpointsState) -> tuple[Endpoint, ...]:
    """Those that leave as well."""
    return tuple(sorted(_endpoint(each) for each in found.spec.get("endpoints") or () if _addresses(each)))


def port(found: EndpointsState, name: str = PORT_NAME) -> int | None:
    for each in found.spec.get("ports") or ():
        number = each.get("port")
        if each.get("name") == name and isinstance(number, int) and 0 < number < 65536:
            return number
    return None


def route(found: EndpointsState) -> Route | None:
    """None for a slice that is not ours, or that says what it cannot mean."""
    number, hold = port(found), _seconds(found.annotations.get(HOLD_S))
    service, name = found.labels.get(SERVICE, ""), found.annotations.get(MODEL, "")
    if role(found) != HELD or number is None or not FIRST_PORT <= number <= LAST_PORT or hold is None or not service or not name:
        return None
    return Route(found.namespace, name, service, number, hold, _seconds(found.annotations.get(WAKE_S)), found.annotations.get(SERVED, name))


def routes(found: Iterable[EndpointsState]) -> dict[int, Route]:
    """By port. Where two slices name one port the older one has it: a slice that somebody makes up takes nobody's requests."""
    order = sorted(found, key=lambda each: (each.created, each.uid))
    by_port: dict[int, Route] = {}
    for each in order:
        if (wanted := route(each)) is not None:
            by_port.setdefault(wanted.port, wanted)
    return by_port


def name(owner: CustomState, family: str) -> str:
    """A slice's address family cannot be changed, so each has its own slice."""
    return f"{naming.service_name(owner.name)}-activator{'-ipv6' if family == 'IPv6' else ''}"


def manifest(
    owner: CustomState, *, family: str, number: int, pods: Iterable[Endpoint], hold_s: float, wake_s: float | None, served: str
) -> dict[str, Any]:
    """`pods`: the activator's, or none while replicas serve."""
    annotations = {MODEL: owner.name, HOLD_S: f"{hold_s:g}", SERVED: served}
    if wake_s is not None:
        annotations[WAKE_S] = f"{wake_s:.0f}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name(owner, family),
            "namespace": owner.namespace,
            "labels": {
                SERVICE: naming.service_name(owner.name),
                MANAGED_BY: OURS,
                ROLE: HELD,
                naming.DEPLOYMENT: naming.label_value(owner.name),
            },
            "annotations": dict(sorted(annotations.items())),
            "ownerReferences": [owner_reference(owner)],
        },
        "addressType": family,
        "endpoints": [{"addresses": [each.address], "conditions": {"ready": True}} for each in sorted(pods)],
        "ports": [{"name": PORT_NAME, "port": number, "protocol": "TCP"}],
    }


def _endpoint(raw: Mapping[str, Any]) -> Endpoint:
    return Endpoint(str(raw["addresses"][0]), str((raw.get("targetRef") or {}).get("uid") or ""))


def _addresses(raw: Mapping[str, Any]) -> bool:
    return bool(raw.get("addresses"))


def _ready(raw: Mapping[str, Any]) -> bool:
    conditions = raw.get("conditions") or {}
    return conditions.get("ready") is not False and not conditions.get("terminating")


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
