"""Which resource name a node uses, and how many devices pods hold under any of the names.

One kind of silicon is advertised under several names by different plugins. A node that advertises two of them has one set of
devices: the first alias of the profile that is found counts, while what is held is summed over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwprofiles.model import HardwareProfileSpec, ResourceAlias


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
    """Devices on the node, counted under one alias; None if it advertises none of them."""
    alias = advertised_alias(spec, capacity, capacity)
    return None if alias is None else capacity.get(alias.name, 0)


def held_devices(spec: HardwareProfileSpec, requests: Iterable[Mapping[str, int]]) -> int:
    """Devices that pods with these requests hold, over all aliases."""
    names = {alias.name for alias in spec.resources}
    return sum(amount for request in requests for name, amount in request.items() if name in names)
