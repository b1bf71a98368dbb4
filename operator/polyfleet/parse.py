"""Raw API JSON to the slim values of `state`: pure, total (an odd object gives an odd value, never an exception upwards).

Slim is what keeps ten thousand pods in memory: managedFields and the last-applied copy are dropped, and of a pod that is not
ours only its identity, node, phase and device requests survive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from polyfleet.state import Condition, ContainerState, CustomState, DeploymentState, NodeState, OwnedState, PodState, ScalerState, Taint

DEPLOYMENT_LABEL = "polyfleet.io/deployment"
ALLOCATION_ANNOTATIONS = frozenset({"huawei.com/AscendReal"})  # which devices a pod really got (MindCluster)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Suffixes of a Kubernetes quantity (apimachinery, resource.Quantity); an exponent takes the place of a suffix.
_SUFFIXES: dict[str, int | Decimal] = {
    "": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "P": 10**15, "E": 10**18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]{1,4})|(n|u|m|k|[MGTPE]i?|Ki)?)")
# More than any node has, and than any sum over a fleet needs: what is larger is taken for this, so that nothing behind ever overflows.
MOST = 2**31 - 1

Raw = Mapping[str, Any]


def quantity(value: object) -> Decimal | None:
    """A Kubernetes quantity as a number; None if it is none."""
    found = _QUANTITY.fullmatch(str(value).strip())
    return Decimal(found[1] + (found[2] or "")) * _SUFFIXES[found[3] or ""] if found is not None else None


def devices(value: object) -> int | None:
    """A number of devices: 4, '4', '4000m', '4e0' and '4k' by value, never more than MOST. None for what is no whole number: devices are
    not divisible, so such an amount is refused and not rounded."""
    text = str(value)
    if len(text) < 10 and text.isascii() and text.isdigit():
        return int(text)  # how nearly all of them are written
    number = quantity(text)
    if number is None or number < 0:
        return None
    if number >= MOST:
        return MOST
    return int(number) if number == number.to_integral_value() else None


def extended(resources: Raw | None) -> dict[str, int]:
    """The extended resources of a list (names with a slash), as whole numbers; what is none is left out."""
    found: dict[str, int] = {}
    for name, value in sorted((resources or {}).items()):
        number = devices(value) if "/" in name else None
        if number is not None:
            found[name] = number
    return found


def conditions(items: Iterable[Raw] | None) -> dict[str, Condition]:
    return {
        str(item.get("type")): Condition(
            type=str(item.get("type")),
            status=str(item.get("status")),
            reason=item.get("reason") or "",
            message=item.get("message") or "",
            last_transition=item.get("lastTransitionTime") or "",
            observed_generation=item.get("observedGeneration"),
        )
        for item in items or ()
    }


def owner_uid(metadata: Raw) -> str:
    """The uid of the controlling owner, else of the only owner, else nothing."""
    owners = metadata.get("ownerReferences") or []
    for owner in owners:
        if owner.get("controller"):
            return str(owner["uid"])
    return str(owners[0]["uid"]) if len(owners) == 1 else ""


def kept_annotations(metadata: Raw) -> dict[str, str]:
    return {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _LAST_APPLIED}


def allocations(metadata: Raw) -> dict[str, str]:
    """Of a foreign pod only what tells which devices it really got: without it the node's free cards cannot be counted."""
    return {key: value for key, value in (metadata.get("annotations") or {}).items() if key in ALLOCATION_ANNOTATIONS}


def node(raw: Raw) -> NodeState:
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    ready = conditions(status.get("conditions")).get("Ready")
    return NodeState(
        name=metadata["name"],
        uid=metadata["uid"],
        labels=metadata.get("labels") or {},
        taints=tuple(Taint(t.get("key", ""), t.get("value") or "", t.get("effect", "")) for t in spec.get("taints") or ()),
        ready=None if ready is None or ready.status == "Unknown" else ready.status == "True",
        unschedulable=bool(spec.get("unschedulable")),
        capacity=extended(status.get("capacity")),
        allocatable=extended(status.get("allocatable")),
    )


def pod(raw: Raw) -> PodState | None:
    """A pod, or None if it is neither ours nor holds a device: such a pod decides nothing."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    requests = pod_requests(spec)
    ours = DEPLOYMENT_LABEL in (metadata.get("labels") or {})
    if not ours and not requests:
        return None
    return PodState(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_uid=owner_uid(metadata),
        labels=(metadata.get("labels") or {}) if ours else {},
        annotations=kept_annotations(metadata) if ours else allocations(metadata),
        node=spec.get("nodeName") or "",
        pinned_node=pinned_node(spec),
        gates=tuple(gate["name"] for gate in spec.get("schedulingGates") or ()),
        phase=status.get("phase") or "",
        reason=status.get("reason") or "",
        deleting=bool(metadata.get("deletionTimestamp")),
        requests=requests,
        conditions=conditions(status.get("conditions")) if ours else {},
        containers=tuple(container(c) for c in status.get("containerStatuses") or ()) if ours else (),
        ip=status.get("podIP") or "",
        created=metadata.get("creationTimestamp") or "",
    )


def pod_requests(spec: Raw) -> dict[str, int]:
    """What the scheduler counts: containers and sidecars together, or an init container with the sidecars before it, if larger."""
    total: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for entry in spec.get("initContainers") or ():
        request = _request(entry)
        if entry.get("restartPolicy") == "Always":
            _add(sidecars, request)
            _raise(peak, sidecars)
        else:
            together = dict(sidecars)
            _add(together, request)
            _raise(peak, together)
    _add(total, sidecars)
    for entry in spec.get("containers") or ():
        _add(total, _request(entry))
    _raise(total, peak)
    return {name: count for name, count in sorted(total.items()) if count > 0}


def _request(entry: Raw) -> dict[str, int]:
    resources = entry.get("resources") or {}
    return extended({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _add(into: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        into[name] = into.get(name, 0) + count


def _raise(into: dict[str, int], least: Mapping[str, int]) -> None:
    for name, count in least.items():
        into[name] = max(into.get(name, 0), count)


def pinned_node(spec: Raw) -> str:
    """The node that required node affinity names by `matchFields: metadata.name`; several terms are alternatives, so no pin."""
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = affinity.get("nodeSelectorTerms") or []
    if len(terms) != 1:
        return ""
    for field in terms[0].get("matchFields") or ():
        values = field.get("values") or []
        if field.get("key") == "metadata.name" and field.get("operator") == "In" and len(values) == 1:
            return str(values[0])
    return ""


def container(status: Raw) -> ContainerState:
    state = status.get("state") or {}
    name = next((word for word in ("running", "waiting", "terminated") if word in state), "")
    detail = state.get(name) or {}
    return ContainerState(
        name=status.get("name") or "",
        container_id=status.get("containerID") or "",
        ready=bool(status.get("ready")),
        restarts=int(status.get("restartCount") or 0),
        state=name,
        reason=detail.get("reason") or "",
        message=detail.get("message") or "",
        exit_code=detail.get("exitCode"),
        image_id=status.get("imageID") or "",
    )


def owned(raw: Raw) -> OwnedState:
    return _owned(raw, raw.get("spec") or {})


def replica_set(raw: Raw) -> OwnedState:
    """A ReplicaSet without its pod template, which only the Deployment's is ever compared with."""
    spec = raw.get("spec") or {}
    return _owned(raw, {key: spec[key] for key in ("replicas", "selector") if key in spec})


def named(raw: Raw) -> OwnedState:
    """A Service or budget, whoever owns it: one that is not ours only takes a name, so its content is left out."""
    ours = DEPLOYMENT_LABEL in (raw["metadata"].get("labels") or {})
    found = owned(raw)
    return found if ours else replace(found, labels={}, annotations={}, spec={})


def scaler(raw: Raw) -> ScalerState:
    metadata, target = raw["metadata"], (raw.get("spec") or {}).get("scaleTargetRef") or {}
    owner: Raw = next(iter(metadata.get("ownerReferences") or ()), {})
    return ScalerState(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        target=(str(target.get("kind") or ""), str(target.get("name") or "")),
        made_by=f"{owner.get('kind')} {owner.get('name')}" if owner else "",
    )


def _owned(raw: Raw, spec: Raw) -> OwnedState:
    metadata = raw["metadata"]
    return OwnedState(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_uid=owner_uid(metadata),
        labels=metadata.get("labels") or {},
        annotations=kept_annotations(metadata),
        spec=spec,
    )


def deployment(raw: Raw) -> DeploymentState:
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    return DeploymentState(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner_uid=owner_uid(metadata),
        labels=metadata.get("labels") or {},
        annotations=kept_annotations(metadata),
        spec=spec,
        replicas=int(spec.get("replicas", 1)),
        generation=int(metadata.get("generation") or 0),
        observed_generation=int(status.get("observedGeneration") or 0),
        status_replicas=int(status.get("replicas") or 0),
        deleting=bool(metadata.get("deletionTimestamp")),
        conditions=conditions(status.get("conditions")),
    )


def custom(kind: str, raw: Raw) -> CustomState:
    metadata = raw["metadata"]
    return CustomState(
        kind=kind,
        namespace=metadata.get("namespace") or "",
        name=metadata["name"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation") or 0),
        resource_version=metadata["resourceVersion"],
        labels=metadata.get("labels") or {},
        annotations=kept_annotations(metadata),
        spec=raw.get("spec") or {},
        status=raw.get("status") or {},
        deleting=bool(metadata.get("deletionTimestamp")),
        created=metadata.get("creationTimestamp") or "",
    )
