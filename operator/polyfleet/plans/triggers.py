"""What made a plan: the part of the inputs that changed since the last solve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from polyfleet.inputs import Inputs
from polyfleet.state import CustomState, Observed

SPEC, LOAD, INVENTORY, PROFILE, ACCURACY, RESYNC = (
    "SpecChanged", "LoadChanged", "InventoryChanged", "ProfileChanged", "AccuracyChanged", "Resync",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What is compared; values only, so that two solves can be told apart after the objects are gone."""

    specs: Any
    profiles: Any
    verdicts: Any
    load: Any
    inventory: Any


def facts(observed: Observed, inputs: Inputs) -> Facts:
    snapshot = inputs.snapshot
    policy = (observed.policy,) if observed.policy is not None else ()
    return Facts(
        specs=_generations((*observed.model_deployments, *observed.pools, *policy)),
        profiles=_generations(observed.profiles),
        verdicts=tuple((option.id, option.eligible) for option in snapshot.options),
        load=tuple((item.model, item.role, item.loads) for item in inputs.demand.models if any(item.loads)),
        # The residence of a replica ends by itself: time, not inventory.
        inventory=(snapshot.cells, snapshot.nodes, tuple(replace(replica, resident=False) for replica in snapshot.replicas)),
    )


def _generations(states: Iterable[CustomState]) -> tuple[tuple[str, str, str, int], ...]:
    return tuple((state.kind, state.key, state.uid, state.generation) for state in states if not state.deleting)


def trigger(before: Facts | None, after: Facts) -> str:
    """The first of these that differs: a person's edit explains more than what followed from it. Resync: none, or not known."""
    if before is None:
        return RESYNC
    if before.specs != after.specs:
        return SPEC
    if before.profiles != after.profiles:
        return PROFILE
    if before.verdicts != after.verdicts and dict(before.verdicts).keys() == dict(after.verdicts).keys():
        return ACCURACY
    if before.load != after.load:
        return LOAD
    return INVENTORY if before.inventory != after.inventory else RESYNC
