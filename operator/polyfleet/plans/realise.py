"""A written plan as acts on what is observed now: what of it stands already, what is left to start, what has to go.

It is used for a plan that is not finished. The fresh plan of the same inputs may break ties otherwise, or a restarted operator solves
without what it knew; neither is a reason to change horses. The written plan goes on if it still fits (`placement.check` on the newest
snapshot), serves every model with as many replicas as the fresh one, and the fresh one does not save more than
`stability.minSavingPercent` of what differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from placement.check import check
from placement.types import Assignment, Plan, Replica, ReplicaState, Snapshot, Start
from polyfleet import demand, naming
from polyfleet.clearance import candidates
from polyfleet.inputs import Inputs
from polyfleet.inventory import node_of
from polyfleet.plans.entries import Entry, place_of, staying
from polyfleet.plans.stored import Stored
from polyfleet.snapshot import standings

_OLDEST_STATE_FIRST = {ReplicaState.SERVING: 0, ReplicaState.STARTING: 1, ReplicaState.PENDING: 2}

Place = tuple[Entry, str]  # an entry without counts, and the node


def realise(stored: Stored, inputs: Inputs, fresh: Plan) -> Plan | None:
    """The written plan on this snapshot; None if it cannot go on."""
    found = _as_plan(stored, inputs, fresh)
    if found is None or _served(found) != _served(fresh) or not _worth(inputs.snapshot, found, fresh):
        return None
    asked = candidates.asked(inputs, inputs.trials)
    return found if not check(asked, demand.demand(asked.models, inputs.demand.models), candidates.split(inputs, found)) else None


@dataclass(frozen=True, slots=True)
class Acts:
    """What a written plan means for what stands now."""

    keep: tuple[Replica, ...]
    stop: tuple[Replica, ...]
    starts: tuple[Start, ...]

    @property
    def moves(self) -> int:
        """Replicas that stop while their model starts others."""
        stops, starts = Counter(r.model for r in self.stop), Counter(s.model for s in self.starts)
        return sum((stops & starts).values())


def acts(stored: Stored, inputs: Inputs, short: Mapping[str, int]) -> Acts | None:
    """None if a part names what is no more, or if the node lists were dropped. `short`: missing replicas by model."""
    if stored.truncated:
        return None
    wanted: Counter[Place] = Counter({(e.place, node): count for e in stored.entries for node, count in e.nodes})
    keep: list[Replica] = []
    stop: list[Replica] = []
    for replica, place in _standing(inputs, short, wanted):
        if replica.state is ReplicaState.DRAINING:
            continue
        if wanted[place] > 0:
            wanted[place] -= 1
            keep.append(replica)
        else:
            stop.append(replica)
    missing = _starts(inputs, wanted)
    if missing is None:
        return None
    stop.sort(key=lambda r: (r.model, -r.age_order, r.id))
    return Acts(tuple(sorted(keep, key=lambda r: r.id)), tuple(stop), tuple(_ordered(inputs.snapshot, missing, stop)))


def _as_plan(stored: Stored, inputs: Inputs, fresh: Plan) -> Plan | None:
    """`fresh` with the written target in place of its own."""
    found = acts(stored, inputs, {item.model: item.replicas for item in fresh.shortfalls})
    if found is None:
        return None
    cells = {node.name: node.cell for node in inputs.snapshot.nodes}
    groups: Counter[tuple[str, str, str, str]] = Counter((r.model, r.option or "", cells.get(r.node, ""), r.node) for r in found.keep)
    groups.update((s.model, s.option, s.cell, s.node) for s in found.starts)
    cost = sum(_costs(inputs.snapshot, found.keep, found.starts).values())
    return replace(
        fresh,
        assignments=tuple(Assignment(*key, count) for key, count in sorted(groups.items())),
        keep=tuple(r.id for r in found.keep),
        stop=tuple(r.id for r in found.stop),
        starts=found.starts,
        hourly_cost=round(cost, 6),
        objective=round(fresh.objective + cost - fresh.hourly_cost, 6),
        gap=None,  # the bound is the fresh plan's; what is published of this plan is what was written with it
        moves=found.moves,
        ladder=(),
    )


def _standing(inputs: Inputs, short: Mapping[str, int], wanted: Counter[Place]) -> list[tuple[Replica, Place]]:
    """The snapshot's replicas with their places, the best first. Replicas that the placer does not see take theirs out of `wanted`."""
    shown = {replica.id: replica for replica in inputs.snapshot.replicas}
    found: list[tuple[Replica, Place]] = []
    for key, view in inputs.models.items():
        for item in staying(view, short.get(key, 0)):
            wanted[(place_of(inputs, view, item), node_of(item.pod))] -= 1
        seen = (item for item in standings(view) if item.pod.uid in shown)
        found.extend((shown[item.pod.uid], (place_of(inputs, view, item), node_of(item.pod))) for item in seen)
    return sorted(found, key=lambda pair: _best(pair[0]))


def _best(replica: Replica) -> tuple[int, str, float, int, str]:
    """Of equals the one with most requests in flight stays, then the oldest: as the placer chooses."""
    return _OLDEST_STATE_FIRST.get(replica.state, 3), replica.model, -replica.busy, replica.age_order, replica.id


def _starts(inputs: Inputs, wanted: Mapping[Place, int]) -> list[Start] | None:
    nodes = {node.name: node.cell for node in inputs.snapshot.nodes}
    cells = {cell.name: cell for cell in inputs.snapshot.cells}
    options = {option.id for option in inputs.snapshot.options}
    found: list[Start] = []
    for (entry, node), count in sorted(wanted.items(), key=lambda pair: (pair[0][0].deployment, pair[0][1], str(pair[0][0]))):
        if count <= 0:
            continue
        cell = cells.get(nodes.get(node, ""))
        view = inputs.models.get(entry.deployment)
        if cell is None or view is None or cell.pool != entry.pool:
            return None
        option = naming.option_id(entry.deployment, cell.profile, entry.variant, entry.engine, entry.devices)
        child = view.child_for(option, entry.pool)
        kept = {c.revision for c in view.children if c.name in view.outdated | view.goes_on and (c.option, c.pool) == (option, entry.pool)}
        trial = inputs.trials.get(entry.deployment)
        if child is not None and (
            view.earlier_child(option, entry.pool) is None or (trial is not None and trial.takes(option, entry.pool))
        ):
            kept.add(child.revision)
        # Another revision than was written is another plan.
        if option not in options or child is None or entry.revision not in kept:
            return None
        found += [Start(entry.deployment, option, cell.name, node)] * count
    return found


def _ordered(snapshot: Snapshot, starts: list[Start], stop: list[Replica]) -> list[Start]:
    """Starts that fit what is free now first; the others wait for everything that leaves their node."""
    going = {replica.id for replica in stop}
    nodes = {node.name: node for node in snapshot.nodes}
    cells = {cell.name: cell for cell in snapshot.cells}
    devices = {option.id: option.devices for option in snapshot.options}
    free = {name: node.allocatable - node.held_by_others for name, node in nodes.items()}
    leaving: dict[str, list[str]] = {}
    for replica in snapshot.replicas:
        free[replica.node] = free.get(replica.node, 0) - replica.devices
        if replica.id in going or replica.state is ReplicaState.DRAINING:
            leaving.setdefault(replica.node, []).append(replica.id)
    now: list[Start] = []
    later: list[Start] = []
    for start in starts:
        need, cell = devices[start.option], cells[start.cell]
        whole = need > 1 and (cell.whole_node_only or cell.align_to > 1)
        if need <= free[start.node] and not (whole and leaving.get(start.node)):
            free[start.node] -= need
            now.append(start)
        else:
            later.append(replace(start, after=tuple(sorted(leaving.get(start.node, ())))))
    return [*now, *later]


# ---- is it still the better plan?


def _served(plan: Plan) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for share in plan.assignments:
        counts[share.model] += share.replicas
    return dict(+counts)


def _worth(snapshot: Snapshot, written: Plan, fresh: Plan) -> bool:
    """Whether the fresh plan saves too little on what differs."""
    ours, theirs = _by_model(snapshot, written), _by_model(snapshot, fresh)
    differ = sorted(model for model in ours.keys() | theirs.keys() if ours.get(model) != theirs.get(model))
    now, then = sum(ours.get(model, 0.0) for model in differ), sum(theirs.get(model, 0.0) for model in differ)
    return now - then <= snapshot.policy.min_saving_percent / 100 * now + 1e-9


def _by_model(snapshot: Snapshot, plan: Plan) -> dict[str, float]:
    shown = {replica.id: replica for replica in snapshot.replicas}
    return _costs(snapshot, [shown[uid] for uid in plan.keep if uid in shown], plan.starts)


def _costs(snapshot: Snapshot, keep: Iterable[Replica], starts: Iterable[Start]) -> dict[str, float]:
    """Cost per hour, by model."""
    price = {cell.name: cell.cost_per_device_hour for cell in snapshot.cells}
    at = {node.name: price.get(node.cell, 0.0) for node in snapshot.nodes}
    devices = {option.id: option.devices for option in snapshot.options}
    found: dict[str, float] = {}
    for replica in keep:
        found[replica.model] = found.get(replica.model, 0.0) + at.get(replica.node, 0.0) * replica.devices
    for start in starts:
        found[start.model] = found.get(start.model, 0.0) + price.get(start.cell, 0.0) * devices[start.option]
    return found
