"""A snapshot in one canonical order, checked, and as versioned JSON.

`normalised` sorts every tuple by name, so the order in which a cache delivers objects can never change a plan. `problems` lists what is
wrong in plain words; `validated` raises the first few. JSON carries the version; a file of another version is refused by name, never
guessed at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from placement._codec import decode, encode
from placement.types import SNAPSHOT_VERSION, Demand, ModelDemand, PlacementError, Snapshot

MAX_FAULTS = 5


def normalised(snapshot: Snapshot) -> Snapshot:
    return replace(
        snapshot,
        cells=tuple(sorted(snapshot.cells, key=lambda c: c.name)),
        nodes=tuple(sorted(snapshot.nodes, key=lambda n: n.name)),
        models=tuple(sorted(snapshot.models, key=lambda m: m.name)),
        options=tuple(sorted(snapshot.options, key=lambda o: o.id)),
        replicas=tuple(sorted(snapshot.replicas, key=lambda r: r.id)),
    )


def demand_by_model(snapshot: Snapshot, demand: Demand) -> tuple[ModelDemand, ...]:
    """One entry per model of the snapshot, in its order; a model without an entry has a fixed size."""
    asked = {d.model: d for d in demand.models}
    return tuple(asked.get(m.name, ModelDemand(m.name)) for m in snapshot.models)


def validated(snapshot: Snapshot, demand: Demand) -> None:
    faults = problems(snapshot, demand)
    if faults:
        more = f" (and {len(faults) - MAX_FAULTS} more)" if len(faults) > MAX_FAULTS else ""
        raise PlacementError("; ".join(faults[:MAX_FAULTS]) + more)


def problems(snapshot: Snapshot, demand: Demand) -> list[str]:
    """Every fault of the input: field, value, what is allowed."""
    faults: list[str] = []
    if snapshot.version != SNAPSHOT_VERSION:
        faults.append(f"snapshot.version: {snapshot.version}, this placer reads {SNAPSHOT_VERSION}")
    cells = {c.name for c in snapshot.cells}
    models = {m.name for m in snapshot.models}
    options = {o.id: o for o in snapshot.options}
    faults += _twice("cells", (c.name for c in snapshot.cells))
    faults += _twice("nodes", (n.name for n in snapshot.nodes))
    faults += _twice("models", (m.name for m in snapshot.models))
    faults += _twice("options", (o.id for o in snapshot.options))
    faults += _twice("replicas", (r.id for r in snapshot.replicas))
    faults += _twice("demand.models", (d.model for d in demand.models))
    for cell in snapshot.cells:
        at = f"cells[{cell.name}]"
        faults += _whole(at, "sizes", cell.sizes, 1)
        if list(cell.sizes) != sorted(set(cell.sizes)):
            faults.append(f"{at}.sizes: {list(cell.sizes)}, must ascend without repeats")
        faults += _whole(at, "align_to", (cell.align_to,), 1)
        faults += _whole(at, "reserve_devices", (cell.reserve_devices,), 0)
        if cell.limit_devices is not None:
            faults += _whole(at, "limit_devices", (cell.limit_devices,), 0)
        if cell.per_node is not None:
            faults += _whole(at, "per_node", (cell.per_node,), 1)
        faults += _real(at, "cost_per_device_hour", cell.cost_per_device_hour)
    for node in snapshot.nodes:
        at = f"nodes[{node.name}]"
        if node.cell not in cells:
            faults.append(f"{at}.cell: {node.cell!r} is no cell of this snapshot")
        faults += _whole(at, "installed", (node.installed,), 0)
        faults += _whole(at, "allocatable", (node.allocatable,), 0)
        faults += _whole(at, "held_by_others", (node.held_by_others,), 0)
        if node.free_blocks is not None:
            faults += _whole(at, "free_blocks", (node.free_blocks,), 0)
    for model in snapshot.models:
        at = f"models[{model.name}]"
        faults += _whole(at, "min_replicas", (model.min_replicas,), 0)
        if model.max_replicas < model.min_replicas:
            faults.append(f"{at}.max_replicas: {model.max_replicas}, must be at least min_replicas {model.min_replicas}")
        share = model.max_vendor_share_percent
        if share is not None and not 1 <= share <= 100:
            faults.append(f"{at}.max_vendor_share_percent: {share}, allowed 1 to 100")
        if model.max_hourly_cost is not None:
            faults += _real(at, "max_hourly_cost", model.max_hourly_cost)
    for option in snapshot.options:
        at = f"options[{option.id}]"
        if option.model not in models:
            faults.append(f"{at}.model: {option.model!r} is no model of this snapshot")
        faults += _whole(at, "devices", (option.devices,), 1)
        if option.work_per_s is not None:
            faults += _real(at, "work_per_s", option.work_per_s)
    for replica in snapshot.replicas:
        at = f"replicas[{replica.id}]"
        if replica.model not in models:
            faults.append(f"{at}.model: {replica.model!r} is no model of this snapshot")
        faults += _whole(at, "devices", (replica.devices,), 0)
        if replica.option is not None and (replica.option not in options or options[replica.option].model != replica.model):
            faults.append(f"{at}.option: {replica.option!r} is no option of {replica.model}; use null for one that no longer exists")
    for asked in demand.models:
        if asked.model not in models:
            faults.append(f"demand.models[{asked.model}]: no such model in the snapshot")
        faults += _real(f"demand.models[{asked.model}]", "work_per_s", asked.work_per_s)
    policy = snapshot.policy
    faults += _real("policy", "min_saving_percent", policy.min_saving_percent)
    faults += _real("policy", "relative_gap", policy.relative_gap)
    if not policy.time_limit_s > 0:
        faults.append(f"policy.time_limit_s: {policy.time_limit_s}, must be above 0")
    if policy.max_hourly_cost is not None:
        faults += _real("policy", "max_hourly_cost", policy.max_hourly_cost)
    return faults


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
            "write the snapshot again with `polyfleet plan -o json` of this version"
        )
    snapshot = decode(Snapshot, body.get("snapshot"), "snapshot")
    demand = decode(Demand, body["demand"], "demand") if "demand" in body else Demand()
    return normalised(snapshot), demand


def _twice(field: str, names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    again: list[str] = []
    for name in names:
        if name in seen:
            again.append(f"{field}: {name!r} appears twice, names must be unique")
        seen.add(name)
    return again


def _whole(at: str, name: str, values: tuple[int, ...], least: int) -> list[str]:
    return [
        f"{at}.{name}: {v!r}, must be a whole number of at least {least}"
        for v in values
        if not isinstance(v, int) or isinstance(v, bool) or v < least
    ]


def _real(at: str, name: str, value: float) -> list[str]:
    if isinstance(value, int | float) and math.isfinite(value) and value >= 0:
        return []
    return [f"{at}.{name}: {value!r}, must be a finite number of at least 0"]
