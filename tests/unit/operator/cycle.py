"""One whole cycle without a cluster: prepare, the real placer, judge, act, report. What the placer returns is checked first.

A plan that is to be written is written (as a value) and looked at once more, as the real cycle does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polyfleet import demand
from polyfleet.actions import Actions, Report, StatusApply
from polyfleet.clearance import candidates
from polyfleet.decide import act, prepare, report
from polyfleet.inputs import Inputs
from polyfleet.plans import judge
from polyfleet.plans.judge import Decision, New
from polyfleet.scaling import sizes
from polyfleet.state import CustomState, Observed

import placement
from placement.types import Plan, Snapshot
from tests.unit.operator import builders as b


@dataclass(frozen=True, slots=True)
class Done:
    observed: Observed  # with the plans as they were when it was acted
    inputs: Inputs
    plan: Plan  # that was acted on
    actions: Actions
    report: Report
    decision: Decision
    written: tuple[New, ...]  # plans that this cycle wrote
    plan_statuses: tuple[StatusApply, ...]

    def status(self, kind: str, name: str, *, pools: bool = False) -> Mapping[str, Any]:
        """The status of one object. `pools`: a pool that this very cycle creates, seen as if it were there already."""
        if pools:
            there = [b.pool(m["metadata"]["name"], m["spec"]["profile"]) for m in b.applied(self.actions, "AcceleratorPool")]
            again = b.observed(profiles=self.observed.profiles, nodes=self.observed.nodes, pods=self.observed.pods, pools=there)
            return cycle(again).status(kind, name)
        return next(item.status for item in self.report.statuses if (item.kind, item.name) == (kind, name))

    @property
    def plans(self) -> tuple[CustomState, ...]:
        """The PlacementPlans as the API server holds them after this cycle: new statuses written, the outdated ones deleted."""
        new = {item.name: item.status for item in self.plan_statuses}
        gone = {item.name for item in judge.outdated(self.decision)}
        return tuple(replace(s, status=new.get(s.name, s.status)) for s in self.observed.plans if s.name not in gone)


def stored(new: New, *, status: bool = True, now: str = b.NOW) -> CustomState:
    """What the API server holds of a plan that was just written. `status` False: the writer died before the first status."""
    metadata = new.manifest["metadata"]
    return CustomState(
        "PlacementPlan", "", metadata["name"], f"uid-{metadata['name']}", 1, "1", {}, metadata["annotations"], new.manifest["spec"],
        new.status if status else {}, False, now,
    )  # fmt: skip


def solved(snapshot: Snapshot, inputs: Inputs) -> Plan:
    """The real placer's plan, checked, in the models' own names."""
    wanted = demand.demand(snapshot.models, inputs.demand.models)
    fresh, _ = placement.plan(snapshot, wanted)
    violations = placement.check(snapshot, wanted, fresh)
    assert not violations, violations
    return candidates.merged(fresh)


def tried(inputs: Inputs, fresh: Plan, trials: Mapping[str, candidates.Trial], now: str) -> tuple[Inputs, Plan]:
    """With the candidates that are to start; one that finds no room is told as what it lacks, as the real planner does."""
    more = candidates.with_trials(inputs, trials)
    found = solved(candidates.asked(more, trials, now), more)
    lacking = tuple(row for row in found.shortfalls if row.model.endswith(candidates.SUFFIX))
    return (inputs, replace(fresh, shortfalls=(*fresh.shortfalls, *lacking))) if lacking else (more, found)


def cycle(observed: Observed, *, now: str = b.NOW, trigger: str = "Resync") -> Done:
    inputs = prepare(observed, now=now)
    fresh = solved(candidates.asked(inputs, now=now), inputs)
    if (wish := candidates.wish(inputs)) is not None and (trials := candidates.choose(inputs, fresh, solved(wish, inputs))):
        inputs, fresh = tried(inputs, fresh, trials, now)
    decision = judge.judge(observed, inputs, fresh, trigger=trigger, millis=1, now=now)
    written: tuple[New, ...] = ()
    if decision.create is not None:
        written = (decision.create,)
        plans = sorted((*observed.plans, stored(decision.create, now=now)), key=lambda state: state.name)
        observed = replace(observed, plans=tuple(plans))
        decision = judge.judge(observed, inputs, fresh, trigger=trigger, millis=1, now=now)
        assert decision.create is None, "the plan that was just written is not taken up"
    inputs, plan = sizes.settle(inputs, decision.plan)
    return Done(
        observed,
        inputs,
        plan,
        act(observed, inputs, plan, now=now, kept=decision.kept),
        report(observed, inputs, plan, now=now, told=decision.told),
        decision,
        written,
        judge.statuses(decision, inputs, now),
    )
