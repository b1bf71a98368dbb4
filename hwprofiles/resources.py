"""Which resource name a node uses, and how many devices pods hold under any of the names.

One kind of silicon is advertised under several names by different plugins. A node that advertises two of them has one set of
devices: the first alias of the profile that is found counts, while what is held is summed over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwprofiles.model import HardwareProfileSpec, ResourceAlias

# Kubernetes' own name for "one device of this class" (k8s.io/api, resource/v1, ResourceDeviceClassPrefix).
CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"


def class_resource(device_class: str) -> str:
    """The name under which devices of a DeviceClass are counted: a pod may request it, and no plugin advertises it."""
    return CLASS_PREFIX + device_class


def resource_names(spec: HardwareProfileSpec) -> tuple[str, ...]:
    """Every name of the profile's devices, in its own order; the name of its DeviceClass last."""
    names = tuple(alias.name for alias in spec.resources)
    return names if spec.dra is None else (*names, class_resource(spec.dra.device_class))


def advertised_alias(spec: HardwareProfileSpec, allocatable: Mapping[str, int], capacity: Mapping[str, int]) -> ResourceAlias | None:
    """The alias that pods on this node must request: the first found in allocatable, else in capacity, with devices if any has."""
    for amounts in (allocatable, capacity):
        for alias in spec.resources:
            if amounts.get(alias.name, 0) > 0:
                return alias
    # A plugin that is gone leaves its name with 0 devices.
    for alias in spec.resources:
        if alias.name in allocatable or alias.name in capacity:
            return alias
    return None


def installed_devices(spec: HardwareProfileSpec, capacity: Mapping[str, int]) -> int | None:
    """Devices on the node, counted under one name; None if it shows none of them."""
    alias = advertised_alias(spec, capacity, capacity)
    if alias is not None:
        return capacity.get(alias.name, 0)
    return capacity.get(class_resource(spec.dra.device_class)) if spec.dra is not None else None


def held_devices(spec: HardwareProfileSpec, requests: Iterable[Mapping[str, int]]) -> int:
    """Devices that pods with these requests hold, over all names."""
    names = frozenset(resource_names(spec))
    return sum(amount for request in requests for name, amount in request.items() if name in names)
