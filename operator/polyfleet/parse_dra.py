"""Raw objects of resource.k8s.io/v1 (dynamic resource allocation) to slim values: which devices there are, and which are given away.

Field meanings: k8s.io/api, resource/v1 (Kubernetes 1.34 and later).
"""

from __future__ import annotations

from typing import Any

from polyfleet.parse import Raw
from polyfleet.state import ClaimState, DeviceClassState, DeviceRef, SliceDevice, SliceState

# The scheduler marks the claims with which it answers a pod's request of an extended resource.
EXTENDED_CLAIM = "resource.kubernetes.io/extended-resource-claim"
_KEEPS_AWAY = ("NoSchedule", "NoExecute")


def resource_slice(raw: Raw) -> SliceState:
    spec = raw.get("spec") or {}
    driver, pool = str(spec.get("driver") or ""), spec.get("pool") or {}
    return SliceState(
        name=raw["metadata"]["name"],
        driver=driver,
        pool=str(pool.get("name") or ""),
        generation=int(pool.get("generation") or 0),
        node=str(spec.get("nodeName") or ""),
        devices=tuple(_device(each, driver) for each in spec.get("devices") or ()),
    )


def _device(raw: Raw, driver: str) -> SliceDevice:
    return SliceDevice(
        name=str(raw.get("name") or ""),
        attributes=_attributes(raw.get("attributes") or {}, driver),
        node=str(raw.get("nodeName") or ""),
        tainted=any(taint.get("effect") in _KEEPS_AWAY for taint in raw.get("taints") or ()),
        counters=tuple(sorted(str(each.get("counterSet") or "") for each in raw.get("consumesCounters") or ())),
    )


def _attributes(given: Raw, driver: str) -> dict[str, Any]:
    """Each attribute holds one value under the name of its type (string, version, bool, int)."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        full = name if "/" in name else f"{driver}/{name}"
        found[full] = next(iter(value.values()), None) if isinstance(value, dict) else None
    return found


def resource_claim(raw: Raw) -> ClaimState | None:
    """An allocated claim; None for one that holds nothing."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    allocation = status.get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    held = [
        DeviceRef(str(each.get("driver") or ""), str(each.get("pool") or ""), str(each.get("device") or ""))
        for each in results
        if not each.get("adminAccess")
    ]
    if not held:
        return None
    users = [each for each in status.get("reservedFor") or () if each.get("resource") == "pods"]
    owners = [each for each in metadata.get("ownerReferences") or () if each.get("kind") == "Pod"]
    return ClaimState(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        devices=tuple(sorted(set(held), key=lambda ref: (ref.driver, ref.pool, ref.device))),
        node=_named_node(allocation.get("nodeSelector") or {}),
        pods=tuple(sorted({str(each.get("uid") or "") for each in (*users, *owners)} - {""})),
        extended=(metadata.get("annotations") or {}).get(EXTENDED_CLAIM) == "true",
    )


def _named_node(selector: Raw) -> str:
    """The node that a node selector of one term names by its name or hostname; "" if it names none."""
    terms = selector.get("nodeSelectorTerms") or []
    if len(terms) != 1:
        return ""
    for part in (*(terms[0].get("matchFields") or ()), *(terms[0].get("matchExpressions") or ())):
        values = part.get("values") or []
        if part.get("key") in ("metadata.name", "kubernetes.io/hostname") and part.get("operator") == "In" and len(values) == 1:
            return str(values[0])
    return ""


def device_class(raw: Raw) -> DeviceClassState:
    spec = raw.get("spec") or {}
    selectors = [(each.get("cel") or {}).get("expression") for each in spec.get("selectors") or ()]
    return DeviceClassState(
        name=raw["metadata"]["name"],
        extended_resource=str(spec.get("extendedResourceName") or ""),
        selectors=tuple(str(text or "") for text in selectors),
    )
