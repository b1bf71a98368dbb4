"""What somebody's edit changes for the whole inventory: profiles, pools, discovery, and which models share devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hwprofiles import HardwareProfileSpec
from polyfleet import naming
from polyfleet.api.fleetpolicy import Discovery
from polyfleet.objects import Objects
from polyfleet.stocktaking import ModelRef


@dataclass(frozen=True, slots=True)
class Rules:
    """With other rules nothing of an earlier answer holds."""

    profiles: Mapping[str, HardwareProfileSpec]
    pools: tuple[tuple[object, ...], ...]
    discovery: Discovery
    willing: frozenset[ModelRef]

    def allow(self, new: Rules) -> bool:
        """Whether an answer under these rules is one under the new ones. Profiles are compared by identity first: mostly that is enough."""
        if self.profiles.keys() != new.profiles.keys():
            return False
        if any(self.profiles[name] is not spec and self.profiles[name] != spec for name, spec in new.profiles.items()):
            return False
        return (self.pools, self.discovery, self.willing) == (new.pools, new.discovery, new.willing)


def rules_of(objects: Objects) -> Rules:
    profiles = {parsed.name: parsed.spec for parsed in objects.profiles if parsed.spec is not None}
    # Of a pool's object everything but the status, which we write ourselves.
    pools = tuple((parsed.name, parsed.spec, parsed.state.spec.get("profile")) for parsed in objects.pools if not parsed.state.deleting)
    willing: Iterable[ModelRef] = ()
    if any(parsed.spec is not None and parsed.spec.sharing == "Shared" for parsed in objects.pools):
        willing = (
            (parsed.state.namespace, naming.label_value(parsed.state.name))
            for parsed in objects.models
            if parsed.spec is not None and parsed.spec.placement.sharing == "Shared"
        )
    return Rules(profiles, pools, objects.policy.discovery, frozenset(willing))
