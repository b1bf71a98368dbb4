"""Strict spread while a model shrinks: what goes must not leave the rest in one failure domain."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import placement
from placement.types import Demand, Effort, ModelDemand, Plan, Snapshot, Spread
from tests.unit.placement.fleet import applied, cell, model, node, option, replica, snap

COLUMNS = Effort(exact_size=0, neighbourhoods=0, large_neighbourhoods=0)


def domains(snapshot: Snapshot, plan: Plan) -> Counter[str]:
    zone = {c.name: c.failure_domain for c in snapshot.cells}
    found: Counter[str] = Counter()
    for a in plan.assignments:
        found[zone[a.cell]] += a.replicas
    return found


@pytest.mark.parametrize("effort", [Effort(), COLUMNS], ids=["general", "columns"])
@pytest.mark.parametrize("crowded", ["A", "B"])
def test_a_model_that_shrinks_keeps_its_spread(effort: Effort, crowded: str) -> None:
    """Three replicas, two in one domain, and work for two: one of the two goes. To stop the third would save more, as it costs more, and
    break the rule; the check refuses only what starts against it."""
    dear = {"A": "B", "B": "A"}[crowded]
    zones = [cell("h100", f"h100-{z}", failure_domain=z, cost_per_device_hour=2.6 if z == dear else 2.5) for z in "AB"]
    nodes = [node(f"n-{z}{i}", where, 8) for z, where in zip("AB", zones, strict=True) for i in (1, 2)]
    one = option("a", "h100", 1, work_per_s=1.0)
    runs = [replica("r1", one, f"n-{crowded}1"), replica("r2", one, f"n-{crowded}2"), replica("r3", one, f"n-{dear}1")]
    strict = replace(model("a", 1, max_replicas=9), spread=Spread.STRICT, max_domain_share_percent=50)
    fleet = snap(zones, nodes, [strict], [one], runs, start_price=1.0)
    asked = Demand((ModelDemand("ns/a", 2.0, (2.0,), reason="Load"),))
    plan, warm = placement.plan(fleet, asked, effort=effort)
    assert placement.check(fleet, asked, plan) == ()
    assert domains(fleet, plan) == {"A": 1, "B": 1}
    again, _ = placement.plan(applied(fleet, plan), asked, warm=warm, effort=effort)
    assert (again.starts, again.stop) == ((), ())
