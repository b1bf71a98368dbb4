"""One whole cycle without a cluster: prepare, the real placer, act, report. What the placer returns is checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polyfleet.actions import Actions, Report
from polyfleet.decide import act, prepare, report
from polyfleet.inputs import Inputs
from polyfleet.state import Observed

import placement
from placement.types import Plan
from tests.unit.operator import builders as b


@dataclass(frozen=True, slots=True)
class Done:
    observed: Observed
    inputs: Inputs
    plan: Plan
    actions: Actions
    report: Report

    def status(self, kind: str, name: str, *, pools: bool = False) -> Mapping[str, Any]:
        """The status of one object. `pools`: a pool that this very cycle creates, seen as if it were there already."""
        if pools:
            there = [b.pool(m["metadata"]["name"], m["spec"]["profile"]) for m in b.applied(self.actions, "AcceleratorPool")]
            again = b.observed(profiles=self.observed.profiles, nodes=self.observed.nodes, pods=self.observed.pods, pools=there)
            return cycle(again).status(kind, name)
        return next(item.status for item in self.report.statuses if (item.kind, item.name) == (kind, name))


def cycle(observed: Observed, *, now: str = b.NOW) -> Done:
    inputs = prepare(observed)
    plan, _ = placement.plan(inputs.snapshot, inputs.demand)
    violations = placement.check(inputs.snapshot, inputs.demand, plan)
    assert not violations, violations
    return Done(observed, inputs, plan, act(observed, inputs, plan, now=now), report(observed, inputs, plan, now=now))
