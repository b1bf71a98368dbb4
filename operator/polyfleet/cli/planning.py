"""The placer, called as the operator calls it, and the comparison of its plan with what runs: the content of every output of `plan`.

Nothing is formatted here. A row is one (model, pool, profile, variant, size): replicas before and after, money, evidence.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import placement
from hwprofiles.performance import Performance
from placement.types import Model, PlacementError, Plan, ReplicaState, Shortfall, Warm
from polyfleet import demand
from polyfleet.clearance import candidates
from polyfleet.cli.failure import CHANGES, FINE, SHORT, Failure
from polyfleet.cli.source import Situation
from polyfleet.inputs import Inputs, ModelView
from polyfleet.resolve import ResolvedOption
from polyfleet.status import accuracy
from polyfleet.status.conditions import TRUE, Judged


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    pool: str
    profile: str
    variant: str
    engine: str
    devices: int
    before: int
    after: int
    cost: float  # per hour, of `after`
    rate: float | None  # work/s of one replica; None = unknown
    evidence: str
    date: str  # of the throughput entry, "" = none
    nodes: tuple[tuple[str, int], ...]  # node, replicas after
    resolved: ResolvedOption | None = None  # with the numbers behind it; None: a bare snapshot, or an earlier revision

    @property
    def performance(self) -> Performance | None:
        return self.resolved.performance if self.resolved is not None else None

    @property
    def tokens(self) -> float | None:
        """Output tokens/s that all replicas after the plan are counted with; None = unknown."""
        return self.performance.output_tokens_per_s * self.after if self.performance is not None else None


@dataclass(frozen=True, slots=True)
class Refused:
    """A model that gets no plan at all: the operator would hold it, or no profile can serve it."""

    model: str
    reason: str
    message: str
    held: bool  # what runs stays, nothing grows


@dataclass(frozen=True, slots=True)
class Planned:
    situation: Situation
    plan: Plan
    warm: Warm
    millis: int
    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]
    wanted: dict[str, int]  # replicas asked for, by model
    before: dict[str, int]
    after: dict[str, int]

    @property
    def shortfalls(self) -> dict[str, Shortfall]:
        return {item.model: item for item in self.plan.shortfalls}

    @property
    def changed(self) -> bool:
        return bool(self.plan.starts or self.plan.stop)

    @property
    def code(self) -> int:
        if self.plan.shortfalls or self.refused:
            return SHORT
        return CHANGES if self.changed else FINE

    def cost(self, model: str) -> float:
        return sum(row.cost for row in self.rows if row.model == model)


def solve(situation: Situation, clock: Callable[[], float] = time.monotonic) -> Planned:
    """A checked plan. Failure only for a snapshot that makes no sense.

    What the accuracy gate has not judged yet is planned as if it had passed: the plan says what will be once it has."""
    situation = judged(situation)
    started = clock()
    try:
        plan, warm = placement.plan(situation.snapshot, situation.demand, warm=situation.warm)
    except PlacementError as error:
        raise Failure(
            "this fleet cannot be planned",
            str(error),
            "correct the field in the snapshot file" if situation.option else "kubectl get hwp,apool,mdep -A; and please report this",
        ) from error
    millis = round((clock() - started) * 1000)
    if faults := placement.check(situation.snapshot, placement.effective(situation.demand, situation.warm), plan):
        raise Failure(
            "the placer made a plan that breaks its own rules",
            "; ".join(map(str, faults[:3])),
            "please report this with the output of polyfleet snapshot",
        )
    running = [replica for replica in situation.snapshot.replicas if replica.state is not ReplicaState.DRAINING]
    before = Counter(replica.model for replica in running)
    stopped, started_by = set(plan.stop), Counter(start.model for start in plan.starts)
    after = {
        m.name: sum(1 for r in running if r.model == m.name and r.id not in stopped) + started_by[m.name] for m in situation.snapshot.models
    }
    return Planned(
        situation=situation,
        plan=plan,
        warm=warm,
        millis=millis,
        rows=rows(situation, plan),
        refused=refused(situation.inputs) if situation.inputs is not None else (),
        wanted={m.name: _wanted(situation, m) for m in situation.snapshot.models},
        before={m.name: before[m.name] for m in situation.snapshot.models},
        after=after,
    )


def judged(situation: Situation) -> Situation:
    """With every pair eligible that may be tried, and a note that says which ones wait for a verdict."""
    wished = candidates.wish(situation.inputs) if situation.inputs is not None else None
    if situation.inputs is None or wished is None:
        return situation
    waiting = [
        f"{key} on {', '.join(names)}"
        for key, view in sorted(situation.inputs.models.items())
        if (names := sorted({name.split("|")[1] for name in view.clearance.open})) and view.clearance.required and not view.hold
    ]
    note = f"no accuracy verdict yet, one candidate each is tried before anything serves there: {'; '.join(waiting)}"
    return replace(situation, snapshot=wished, demand=demand.demand(wished.models, situation.demand.models), notes=(*situation.notes, note))


def _wanted(situation: Situation, model: Model) -> int:
    view = situation.inputs.models.get(model.name) if situation.inputs is not None else None
    return max(view.wanted, view.target) if view is not None else model.min_replicas


def rows(situation: Situation, plan: Plan) -> tuple[Row, ...]:
    snapshot = situation.snapshot
    options = {option.id: option for option in snapshot.options}
    cells = {cell.name: cell for cell in snapshot.cells}
    cell_of = {node.name: node.cell for node in snapshot.nodes}
    nodes: dict[tuple[str, str, str], Counter[str]] = {}
    money: dict[tuple[str, str, str], float] = {}

    def add(key: tuple[str, str, str], node: str, count: int, cost: float) -> None:
        nodes.setdefault(key, Counter())[node] += count
        money[key] = money.get(key, 0.0) + cost

    stopped = set(plan.stop)
    before: Counter[tuple[str, str, str]] = Counter()
    for replica in snapshot.replicas:
        if replica.state is ReplicaState.DRAINING:
            continue
        cell = cells.get(cell_of.get(replica.node, ""))
        key = (replica.model, cell.pool if cell is not None else "?", replica.option or f"|||{replica.devices}")
        before[key] += 1
        if replica.id not in stopped:
            add(key, replica.node, 1, (cell.cost_per_device_hour if cell is not None else 0.0) * replica.devices)
    for start in plan.starts:
        cell = cells[start.cell]
        add((start.model, cell.pool, start.option), start.node, 1, cell.cost_per_device_hour * options[start.option].devices)
    found: list[Row] = []
    for key in sorted({*before, *nodes}):
        model, pool, identity = key
        option = options.get(identity)
        profile = option.profile if option is not None else next((c.profile for c in cells.values() if c.pool == pool), "?")
        resolved = _resolved(situation.inputs, model, identity)
        placed = nodes.get(key, Counter())
        found.append(
            Row(
                model=model,
                pool=pool,
                profile=profile,
                variant=option.variant if option is not None else "(earlier)",
                engine=option.engine if option is not None else "?",
                devices=option.devices if option is not None else int(identity.rsplit("|", 1)[-1]),
                before=before[key],
                after=sum(placed.values()),
                cost=money.get(key, 0.0),
                rate=option.work_per_s if option is not None else None,
                evidence=option.evidence if option is not None else "",
                date=_date(resolved),
                nodes=tuple(sorted(placed.items())),
                resolved=resolved,
            )
        )
    return tuple(found)


def _resolved(inputs: Inputs | None, model: str, option: str) -> ResolvedOption | None:
    view = inputs.models.get(model) if inputs is not None else None
    return view.resolution.option(option) if view is not None else None


def _date(option: ResolvedOption | None) -> str:
    """Of the throughput entry: an estimate has none."""
    found = option.performance if option is not None else None
    return (found.date or "") if found is not None and found.entry is not None else ""


def refused(inputs: Inputs) -> tuple[Refused, ...]:
    found: list[Refused] = []
    for key, view in sorted(inputs.models.items()):
        if view.accepted is not None:
            found.append(Refused(key, view.accepted.reason, view.accepted.message, held=True))
        elif (row := _gate(view)) is not None:
            found.append(Refused(key, row.reason, row.message, held=True))
        elif view.resolution.unresolved is not None and not view.resolution.options and view.target:
            found.append(Refused(key, view.resolution.unresolved.reason, view.resolution.unresolved.message, held=False))
    return tuple(found)


def _gate(view: ModelView) -> Judged | None:
    """Why no replica of a model may be tried at all: nothing to compare it with, or all that it could run on was blocked."""
    clearance = view.clearance
    if not clearance.required or view.hold or clearance.open or clearance.eligible or not view.rendered or not view.target:
        return None
    row = accuracy.verified(view)
    return row if row is not None and row.status != TRUE else None


def unused(planned: Planned, model: str) -> list[tuple[str, str, str, str]]:
    """(profile, reason, message, hint) of every profile without a replica of this model, as `status.rejected` lists them."""
    used = {row.profile for row in planned.rows if row.model == model and row.after}
    found: dict[str, tuple[str, str, str, str]] = {}
    inputs = planned.situation.inputs
    view = inputs.models.get(model) if inputs is not None else None
    for item in view.resolution.rejected if view is not None else ():
        found[item.profile] = (item.profile, item.reason, item.message, item.hint)
    for row in planned.plan.why:
        if row.model == model and not row.pool and row.profile not in used:
            found.setdefault(row.profile, (row.profile, row.reason, row.message, ""))
    return [found[name] for name in sorted(found)]
