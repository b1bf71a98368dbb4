"""A plan's target in the words of a PlacementPlan: per (deployment, pool, variant, engine, size, revision) the replicas and their nodes.

Two plans are the same if these are the same. `digest` stands for them where node lists had to be dropped. The revision is the one
that is wanted: a replica of an earlier one is on its way to it, so a rollout is one target and not one per step.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from placement.snapshot import to_json
from placement.types import Demand, Plan, Snapshot
from polyfleet import binding, naming, revisions
from polyfleet.inputs import Inputs, ModelView
from polyfleet.inventory import node_of
from polyfleet.snapshot import Standing, current, standings

MAX_NODE_ENTRIES = 2_000
MAX_BYTES = 512 * 1024
MAX_ASSIGNMENTS = 2_000  # what the schema takes


@dataclass(frozen=True, slots=True)
class Entry:
    deployment: str  # namespace/name
    pool: str
    variant: str
    engine: str
    devices: int
    revision: str
    replicas: int = 0
    nodes: tuple[tuple[str, int], ...] = ()  # (node, replicas), by name

    @property
    def place(self) -> Entry:
        """The same without counts: what tells entries apart."""
        return replace(self, replicas=0, nodes=())

    @property
    def without_nodes(self) -> Entry:
        return replace(self, nodes=())


def pool_of(inputs: Inputs, item: Standing) -> str:
    return inputs.fleet.pool_of.get(node_of(item.pod)) or item.child.pool


def place_of(inputs: Inputs, view: ModelView, item: Standing) -> Entry:
    """Where a replica stands, in the words of an entry."""
    child, pool = item.child, pool_of(inputs, item)
    # An outdated replica is on its way to nothing else, nor is one of a revision that goes on in place of the wanted one; one that must not
    # serve is on its way to that.
    stays = child.name in view.outdated or child.name in view.goes_on
    earlier = view.earlier_child(child.option, pool) if not stays and revisions.must_go(view, item) else None
    wanted = earlier or (view.child_for(child.option, pool) if not stays else None)
    return Entry(view.key, pool, child.variant, child.engine, child.devices, wanted.revision if wanted is not None else child.revision)


def staying(view: ModelView, short: int) -> list[Standing]:
    """Replicas that count and are not shown to the placer. Superseded ones stay only as far as their replacement has no place."""
    items = [item for item in standings(view) if item.pod.uid in view.frozen and not item.leaving]
    fixed = [item for item in items if item.pod.uid not in view.superseded]
    return fixed + [item for item in items if item.pod.uid in view.superseded][: max(0, short)]


def of(inputs: Inputs, plan: Plan) -> tuple[Entry, ...]:
    """The whole target of a plan, replicas that stay included."""
    found: Counter[tuple[Entry, str]] = Counter()
    kept = set(plan.keep)
    short = {item.model: item.replicas for item in plan.shortfalls}
    for key, view in inputs.models.items():
        stay = staying(view, short.get(key, 0))
        for item in [*(item for item in standings(view) if item.pod.uid in kept), *stay]:
            found[(place_of(inputs, view, item), node_of(item.pod))] += 1
    pools = {cell.name: cell.pool for cell in inputs.snapshot.cells}
    options = {option.id: option for option in inputs.snapshot.options}
    for key in sorted({start.model for start in plan.starts}):
        for home in binding.homes(inputs.models[key], pools, plan.starts, inputs.trials.get(key)):
            option = options[home.start.option]
            found[(Entry(key, home.pool, option.variant, option.engine, option.devices, home.revision), home.start.node)] += 1
    return _grouped(found)


def _grouped(found: Mapping[tuple[Entry, str], int]) -> tuple[Entry, ...]:
    nodes: dict[Entry, list[tuple[str, int]]] = {}
    for (place, node), count in found.items():
        nodes.setdefault(place, []).append((node, count))
    filled = [replace(place, replicas=sum(n for _, n in rows), nodes=tuple(sorted(rows))) for place, rows in nodes.items()]
    return tuple(sorted(filled, key=_order))


def _order(entry: Entry) -> tuple[str, str, str, str, int, str]:
    return entry.deployment, entry.pool, entry.variant, entry.engine, entry.devices, entry.revision


def rolling(view: ModelView) -> bool:
    """Whether replicas of an earlier revision are being replaced, or wait for it."""
    return not view.hold and any(
        not item.leaving and item.child.name not in view.outdated and current(view, item.child) is None for item in standings(view)
    )


def digest(entries: Iterable[Entry]) -> str:
    return _sha(naming.canonical([_row(entry, nodes=True) for entry in entries]))


def inputs_digest(snapshot: Snapshot, demand: Demand) -> str:
    return _sha(to_json(snapshot, demand))


def _sha(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


# ---- as JSON


def rows(entries: tuple[Entry, ...]) -> tuple[list[dict[str, Any]], bool]:
    """`spec.assignments` and whether node lists (and in the end entries) were dropped for size."""
    full = [_row(entry, nodes=True) for entry in entries]
    count = sum(len(entry.nodes) for entry in entries)
    if count <= MAX_NODE_ENTRIES and len(full) <= MAX_ASSIGNMENTS and len(naming.canonical(full).encode()) <= MAX_BYTES:
        return full, False
    return [_row(entry, nodes=False) for entry in entries[:MAX_ASSIGNMENTS]], True


def _row(entry: Entry, *, nodes: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "deployment": entry.deployment,
        "pool": entry.pool,
        "variant": entry.variant,
        "engine": entry.engine,
        "devicesPerReplica": entry.devices,
        "replicas": entry.replicas,
        "revision": entry.revision,
    }
    if nodes:
        found["nodes"] = [{"name": name, "replicas": count} for name, count in entry.nodes]
    return {key: value for key, value in found.items() if value not in ("", [])}


def parse(assignments: Iterable[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """The reverse of `rows`; KeyError, TypeError or ValueError for what is none."""
    found = [
        Entry(
            deployment=str(row["deployment"]),
            pool=str(row["pool"]),
            variant=str(row["variant"]),
            engine=str(row["engine"]),
            devices=int(row["devicesPerReplica"]),
            revision=str(row.get("revision") or ""),
            replicas=int(row["replicas"]),
            nodes=tuple(sorted((str(node["name"]), int(node["replicas"])) for node in row.get("nodes") or ())),
        )
        for row in assignments
    ]
    return tuple(sorted(found, key=_order))
