"""A snapshot in one canonical order, checked, and as versioned JSON.

`normalised` sorts every tuple by name, so the order in which a cache delivers objects can never change a plan. `problems` and `validated`
are those of `faults`. JSON carries the version; a file of another version is refused by name, never
guessed at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from placement._codec import decode, encode
from placement.faults import ROLES as ROLES
from placement.faults import problems as problems
from placement.faults import validated as validated
from placement.types import SNAPSHOT_VERSION, Demand, ModelDemand, PlacementError, Snapshot


def normalised(snapshot: Snapshot) -> Snapshot:
    """Sorted by name; as text, so that a name of the wrong kind comes as far as the check that names it."""
    return replace(
        snapshot,
        cells=tuple(sorted(snapshot.cells, key=lambda c: str(c.name))),
        nodes=tuple(sorted(snapshot.nodes, key=lambda n: str(n.name))),
        models=tuple(sorted(snapshot.models, key=lambda m: str(m.name))),
        options=tuple(sorted(snapshot.options, key=lambda o: str(o.id))),
        replicas=tuple(sorted(snapshot.replicas, key=lambda r: str(r.id))),
    )


@dataclass(frozen=True, slots=True)
class Split(ModelDemand):
    """The entries of a split deployment as one: the buckets of decode, then those of prefill. `parts` are the entries, in this order."""

    parts: tuple[ModelDemand, ...] = ()


def demand_by_model(snapshot: Snapshot, demand: Demand) -> tuple[ModelDemand, ...]:
    """One entry per model of the snapshot, in its order; a model without an entry has a fixed size."""
    asked: dict[str, list[ModelDemand]] = {}
    for d in demand.models:
        asked.setdefault(d.model, []).append(d)
    return tuple(_one(asked[m.name]) if m.name in asked else ModelDemand(m.name) for m in snapshot.models)


def _one(entries: list[ModelDemand]) -> ModelDemand:
    if not any(d.role for d in entries):
        return entries[0]
    parts = tuple(sorted(entries, key=lambda d: d.role))
    loads = tuple(x for d in parts for x in d.loads)
    return Split(
        model=parts[0].model,
        work_per_s=sum(loads),
        bucket_work=loads,
        kv_floor=max(d.kv_floor for d in parts),
        may_shrink=all(d.may_shrink for d in parts),
        reason=parts[0].reason,
        parts=parts,
    )


def to_json(snapshot: Snapshot, demand: Demand | None = None, *, indent: int | None = None) -> str:
    """The snapshot (and the demand, if given) as JSON with sorted keys."""
    body: dict[str, Any] = {"kind": "PlacementSnapshot", "version": snapshot.version, "snapshot": encode(normalised(snapshot))}
    if demand is not None:
        body["demand"] = encode(Demand(tuple(sorted(demand.models, key=lambda d: d.model))))
    return json.dumps(body, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> tuple[Snapshot, Demand]:
    """The reverse. PlacementError for what is no snapshot or of another version."""
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlacementError(f"snapshot: no JSON: {error}") from error
    if not isinstance(body, dict) or body.get("kind") != "PlacementSnapshot":
        raise PlacementError('snapshot: the document must be an object with kind "PlacementSnapshot"')
    version = body.get("version")
    if version != SNAPSHOT_VERSION:
        raise PlacementError(
            f"snapshot.version: {version!r} is not supported, this placer reads {SNAPSHOT_VERSION}; "
            "write it again with `polyfleet snapshot -o FILE` of this version"
        )
    snapshot = decode(Snapshot, body.get("snapshot"), "snapshot")
    demand = decode(Demand, body["demand"], "demand") if "demand" in body else Demand()
    return normalised(snapshot), demand
