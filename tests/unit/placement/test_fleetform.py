"""The column engine on whole snapshots, beside the general form: what the columns do not hold must not trip them."""

from __future__ import annotations

import pytest

import placement
from placement.types import Demand, Effort, ModelDemand
from tests.unit.placement.fleet import cell, got, model, node, option, replica, snap


@pytest.mark.parametrize("effort", [Effort(), Effort(exact_size=0)], ids=["general", "columns"])
def test_a_model_without_demand_may_have_rates_per_bucket(effort: Effort) -> None:
    """No entry = a fixed size and one bucket without work; that its options know three buckets matters to nobody. One replica runs on a
    node that takes no new work, so it is counted apart from the columns."""
    where = cell("h100")
    o = option("a", "h100", 1, work_per_s=6.0, bucket_work=(1.0, 2.0, 3.0))
    other = option("b", "h100", 1, work_per_s=2.0, bucket_work=(1.0, 1.0))
    nodes = [node("n1", where, 8), node("n2", where, 8, eligible=False)]
    fleet = snap([where], nodes, [model("a", 2), model("b", 1, max_replicas=5)], [o, other], [replica("r", o, "n2")])
    asked = Demand((ModelDemand("ns/b", 4.0, (2.0, 2.0), reason="Load"),))
    plan, _ = placement.plan(fleet, asked, effort=effort)
    assert placement.check(fleet, asked, plan) == ()
    assert (got(plan, "a"), got(plan, "b"), plan.keep, plan.shortfalls) == (2, 4, ("r",), ())


def test_no_bound_is_published_where_something_runs_outside_the_columns() -> None:
    """What runs on a closed node is taken to carry its even share of each bucket, perhaps less than it could: a bound made with that might
    be above the optimum. With the same replica on an open node the bound is there, and not above the plan."""
    where = cell("h100")
    o = option("a", "h100", 1, work_per_s=1.0)
    for eligible in (True, False):
        nodes = [node("n1", where, 8), node("n2", where, 8, eligible=eligible)]
        fleet = snap([where], nodes, [model("a", 1, max_replicas=6)], [o], [replica("r", o, "n2")])
        asked = Demand((ModelDemand("ns/a", 3.5, reason="Load"),))
        plan, _ = placement.plan(fleet, asked, effort=Effort(exact_size=0, deep_rounds=2))
        assert got(plan, "a") == 4
        assert (plan.bound is not None) == eligible
        assert plan.bound is None or plan.bound <= plan.objective + 1e-6
