"""Which plan is acted on: the fresh one, the written one that is being carried out, or neither while a person is asked.

    fresh = written plan's target                  -> go on with it, nothing is written
    the written plan is unfinished and still good  -> go on with it (`realise`)
    fresh = the plan in force                      -> nothing is written; what was proposed meanwhile is superseded
    else                                           -> a new object is written, and nothing is done before it is seen

Under `approval: Manual` a new object that changes anything is Pending, and no replica moves until a person has answered: Approved is
carried out if the inputs still give the same target, else a new plan asks again; Rejected stays, and the same target is not proposed
again. Exempt are replicas of suspended models, which leave by the user's own word, and the further steps of an approved rollout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from placement.types import Outcome, Plan
from polyfleet import naming
from polyfleet.actions import Delete, Refusal, StatusApply
from polyfleet.children import recorded_size
from polyfleet.hold import hold_plan
from polyfleet.inputs import Inputs
from polyfleet.plans import entries, figures, moves, realise, stored, triggers
from polyfleet.plans.entries import Entry
from polyfleet.plans.stored import ABANDONED, APPLIED, APPLYING, APPROVED, NOT_NEEDED, PENDING, PROPOSED, REJECTED, SUPERSEDED, Stored
from polyfleet.plans.told import NOTHING, Told, ask
from polyfleet.state import Observed


@dataclass(frozen=True, slots=True)
class New:
    """A PlacementPlan to be written: the object, then its first status."""

    manifest: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def approval(self) -> str:
        return str(self.manifest["spec"]["approval"])


@dataclass(frozen=True, slots=True)
class Decision:
    plan: Plan  # to act on and to report
    create: New | None = None  # written first; nothing is done before it is seen
    kept: frozenset[str] = frozenset()  # models of which nothing moves
    told: Told = NOTHING
    current: Stored | None = None  # the object of `plan`
    all: tuple[Stored, ...] = ()
    moves: int = 0  # of a plan that begins now
    abandoned: Stored | None = None  # could not be begun

    @property
    def done(self) -> bool:
        return not self.plan.starts and not self.plan.stop


def judge(
    observed: Observed, inputs: Inputs, fresh: Plan, *, trigger: str = triggers.RESYNC, millis: int | None = None, now: str
) -> Decision:
    """`millis`: length of the solve; None if none was needed."""
    known = stored.read(observed.plans)
    force = stored.in_force(known)
    if fault := _unrealisable(inputs, fresh):
        fresh = hold_plan(inputs.snapshot, inputs.demand, fault)
    if inputs.fleet.unknown or (fresh.outcome is Outcome.KEPT_OLD and not fresh.starts and not fresh.stop):
        return Decision(fresh, told=_told(force, fresh, kept_old=fresh.outcome is Outcome.KEPT_OLD), current=None, all=known)
    target = entries.of(inputs, fresh)
    sign = entries.digest(target)
    newest = known[-1] if known else None
    if newest is not None and newest.digest == sign:
        if not (newest.approval == PENDING and not _asks(inputs)):
            return _go_on(newest, inputs, fresh, known, force)
    elif newest is not None and _unfinished(newest, inputs) and (written := realise.realise(newest, inputs, fresh)) is not None:
        return _go_on(newest, inputs, written, known, force)
    elif force is not None and force.digest == sign:
        return _go_on(force, inputs, fresh, known, force)
    if newest is None and not target:
        return Decision(fresh, all=known)
    waits = _asks(inputs) and _needs_approval(inputs, fresh, target, force)
    name = stored.next_name(observed.plans)
    new = _new(name, inputs, fresh, target, sign, trigger, millis, now, waits=waits)
    # In case it cannot be written: nothing moves.
    return Decision(fresh, new, frozenset(inputs.models), _told(force, fresh), None, known)


def _asks(inputs: Inputs) -> bool:
    return inputs.policy.approval == "Manual"


def _unrealisable(inputs: Inputs, plan: Plan) -> str:
    """A part of the plan that nothing can be made for: then the old one stays, whole."""
    pools = {cell.name: cell.pool for cell in inputs.snapshot.cells}
    for start in plan.starts:
        view = inputs.models.get(start.model)
        if view is None or (not view.hold and view.child_for(start.option, pools[start.cell]) is None):
            return f"KeptOld: {start.model} cannot be made in pool {pools[start.cell]}"
    return ""


def _unfinished(newest: Stored, inputs: Inputs) -> bool:
    """Written and to be carried out, without anybody's leave or with it. An approval holds for the inputs that were approved."""
    if newest.phase == APPLYING:
        return True
    if newest.phase != PROPOSED:
        return False
    if newest.approval == NOT_NEEDED:
        return not _asks(inputs)
    return newest.approval == APPROVED and newest.inputs == entries.inputs_digest(inputs.snapshot, inputs.demand)


def _go_on(item: Stored, inputs: Inputs, plan: Plan, known: tuple[Stored, ...], force: Stored | None) -> Decision:
    if item.approval in (PENDING, REJECTED) and not item.begun:
        changed = frozenset(_changed(inputs, plan))
        name, outcome, gap = figures.reference(force, plan)
        text = str(item.state.status.get("changesText") or "")
        said = Told(name, outcome, gap, item.name, item.approval == REJECTED, text, changed)
        return Decision(plan, kept=_without_suspended(inputs), told=said, current=item, all=known)
    begins = not item.begun and bool(plan.starts or plan.stop)
    moved = sum(moves.of_plan(plan, inputs.snapshot).values()) if begins else 0
    return Decision(plan, told=_told(item, plan), current=item, all=known, moves=moved)


def _told(force: Stored | None, plan: Plan, *, kept_old: bool = False) -> Told:
    name, outcome, gap = figures.reference(force, plan)
    return Told(name, str(Outcome.KEPT_OLD), "") if kept_old else Told(name, outcome, gap)


def _without_suspended(inputs: Inputs) -> frozenset[str]:
    return frozenset(key for key, view in inputs.models.items() if not (view.spec is not None and view.spec.suspend))


def _changed(inputs: Inputs, plan: Plan) -> set[str]:
    """Models of which the plan moves anything, or whose size or revision changes."""
    owner = {replica.id: replica.model for replica in inputs.snapshot.replicas}
    found = {start.model for start in plan.starts} | {owner[uid] for uid in plan.stop}
    planned = Counter(owner[uid] for uid in plan.keep) + Counter(start.model for start in plan.starts)
    short = {item.model: item.replicas for item in plan.shortfalls}
    for key, view in inputs.models.items():
        size = planned[key] + len(entries.staying(view, short.get(key, 0)))
        if view.superseded or (not view.hold and size != recorded_size(view.children)):
            found.add(key)
    return found & _without_suspended(inputs)


def _needs_approval(inputs: Inputs, plan: Plan, target: tuple[Entry, ...], force: Stored | None) -> bool:
    """A rollout that was approved goes on: replicas of an earlier revision may change their nodes, but neither counts nor hardware."""
    before = {entry.without_nodes for entry in force.entries} if force is not None else set()
    after = {entry.without_nodes for entry in target}
    for key in _changed(inputs, plan):
        ours, theirs = ({entry for entry in count if entry.deployment == key} for count in (before, after))
        if ours != theirs or not entries.rolling(inputs.models[key]):
            return True
    return False


def _new(
    name: str,
    inputs: Inputs,
    plan: Plan,
    target: tuple[Entry, ...],
    sign: str,
    trigger: str,
    millis: int | None,
    now: str,
    *,
    waits: bool,
) -> New:
    rows, truncated = entries.rows(target)
    spec: dict[str, Any] = {
        "trigger": trigger,
        "inputsDigest": entries.inputs_digest(inputs.snapshot, inputs.demand),
        "assignments": rows,
        "approval": PENDING if waits else NOT_NEEDED,
    }
    if truncated:
        spec["truncated"] = True
    manifest = {
        "apiVersion": naming.API_VERSION,
        "kind": "PlacementPlan",
        "metadata": {"name": name, "annotations": {stored.DIGEST: sign}},
        "spec": spec,
    }
    return New(manifest, figures.first(plan, inputs, millis, ask(name) if waits else "", now))


# ---- how far the plans are


def statuses(decision: Decision, inputs: Inputs, now: str, refusals: tuple[Refusal, ...] = ()) -> tuple[StatusApply, ...]:
    """One per stored plan whose state moves or is repeated; what is as it should be is not written again."""
    current, found = decision.current, []
    newest = decision.all[-1] if decision.all else None
    for item in decision.all:
        if item is decision.abandoned:
            found.append(figures.moved_to(item, ABANDONED, now, decision.plan.message))
        elif item is current:
            found.append(_own(decision, item, inputs, now, refusals))
        elif item.phase in (PROPOSED, APPLYING, APPLIED) and _overtaken(item, current, newest):
            found.append(figures.moved_to(item, REJECTED if item.approval == REJECTED else SUPERSEDED, now))
    return tuple(found)


def _overtaken(item: Stored, current: Stored | None, newest: Stored | None) -> bool:
    """A begun plan stays in force until another one begins; one that was only proposed goes as soon as there is a newer one, or the
    plan in force is wanted again."""
    if current is None:
        return not item.begun and newest is not None and item is not newest
    waits = current.approval in (PENDING, REJECTED) and not current.begun
    return not (item.begun and waits)


def _own(decision: Decision, item: Stored, inputs: Inputs, now: str, refusals: tuple[Refusal, ...]) -> StatusApply:
    base = figures.figures(decision.plan, inputs, None)  # only for an object whose first status was never written
    if not item.begun and item.approval == REJECTED:
        return figures.moved_to(item, REJECTED, now, "a person said no; the same target is not proposed again", base)
    if not item.begun and item.approval == PENDING:
        status = {**base, **item.state.status, "observedGeneration": item.state.generation, "state": PROPOSED}
        if not item.condition[1]:
            status["conditions"] = figures.first(decision.plan, inputs, None, ask(item.name), now)["conditions"]
        return StatusApply(item.state.kind, "", item.name, item.state.uid, status)
    if decision.done and not any(view.superseded for view in inputs.models.values()):
        return figures.moved_to(item, APPLIED, now, base=base)
    return figures.moved_to(item, APPLYING, now, _refused_part(decision, refusals), base)


def _refused_part(decision: Decision, refusals: tuple[Refusal, ...]) -> str:
    return figures.refused([f"{item.kind} {item.namespace}/{item.name}: {item.message}" for item in refusals if item.kind == "Deployment"])


def kept_old(decision: Decision, inputs: Inputs) -> Decision:
    """For a cycle in which no written plan lasted until its first act: nothing moves, and the newest is given up."""
    plan = hold_plan(inputs.snapshot, inputs.demand, "KeptOld: the inputs change faster than a plan can be written and checked")
    newest = decision.all[-1] if decision.all else None
    given_up = newest is not None and not newest.begun and newest.phase == PROPOSED and newest.approval in (NOT_NEEDED, APPROVED)
    said = _told(stored.in_force(decision.all), plan, kept_old=True)
    return Decision(plan, kept=frozenset(inputs.models), told=said, all=decision.all, abandoned=newest if given_up else None)


def outdated(decision: Decision) -> tuple[Delete, ...]:
    """The history keeps 20."""
    room = 1 if decision.create is not None else 0
    return tuple(
        Delete("PlacementPlan", "", item.name, item.state.uid, None, "the history keeps 20 plans")
        for item in stored.outdated(decision.all, room)
    )


__all__ = ["Decision", "New", "judge", "kept_old", "outdated", "statuses"]
