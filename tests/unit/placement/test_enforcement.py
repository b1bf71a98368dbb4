"""Pools whose own scheduler chooses nodes (`exact_nodes` off): nobody is moved out of them for money, all else is as everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from placement.types import Demand, Effort, Model, ModelDemand, Snapshot
from tests.unit.placement.exhaustive import World
from tests.unit.placement.fleet import cell, got, model, node, option, planned, replica, snap
from tests.unit.placement.instances import loose
from tests.unit.placement.plans import go, made, passes, refused
from tests.unit.placement.test_exact import exact, same

WAYS = pytest.mark.parametrize(
    ("solver", "effort"), [("HiGHS", Effort()), ("CBC", Effort()), ("HiGHS", Effort(exact_size=0))], ids=["HiGHS", "CBC", "columns"]
)
DEAR = cell("h100", "dear", cost_per_device_hour=10.0, exact_nodes=False)
CHEAP = cell("h100", "cheap", cost_per_device_hour=1.0)
A, B = option("a", "h100", 1, work_per_s=1.0), option("b", "h100", 1, work_per_s=1.0)


def fleet(*models: Model, of: int = 3, at: int = 8) -> Snapshot:
    """`of` replicas of model a run in the pool that chooses its nodes itself; the other pool costs a tenth."""
    running = [replica(f"r{i}", A, "n1") for i in range(of)]
    return snap([DEAR, CHEAP], [node("n1", DEAR, at), node("n2", CHEAP, 8)], models, [A, B][: len(models)], running)


def asked(work: float) -> Demand:
    return Demand((ModelDemand("ns/a", work, reason="Load"),))


@WAYS
def test_nobody_moves_out_of_it_for_money(solver: str, effort: Effort) -> None:
    standing = fleet(model("a", 3))
    plan = planned(standing, solvers=[solver], effort=effort)
    assert (plan.starts, plan.stop) == ((), ())
    ours = replace(standing, cells=(replace(DEAR, exact_nodes=True), CHEAP))
    assert len(planned(ours, solvers=[solver], effort=effort).stop) == 3


@WAYS
def test_surplus_goes(solver: str, effort: Effort) -> None:
    """Three run, one carries the work: two go. They carried a load that is no more, so nothing replaces them."""
    plan = planned(fleet(replace(model("a", 1), max_replicas=5)), asked(1.0), solvers=[solver], effort=effort)
    assert (len(plan.stop), plan.starts) == (2, ())


@WAYS
def test_what_is_above_the_maximum_goes(solver: str, effort: Effort) -> None:
    plan = planned(fleet(model("a", 1)), solvers=[solver], effort=effort)
    assert (len(plan.stop), plan.starts) == (2, ())


@WAYS
def test_a_higher_rank_takes_its_devices(solver: str, effort: Effort) -> None:
    """b may run in that pool only, which is full: one replica of a goes and comes back in the other pool."""
    high = replace(B, pools=("dear",))
    standing = replace(fleet(model("a", 3), model("b", 1, priority=5), at=3), options=(A, high))
    plan = planned(standing, solvers=[solver], effort=effort)
    assert (len(plan.stop), got(plan, "a"), got(plan, "b")) == (1, 3, 1)


@WAYS
def test_what_grows_grows_where_it_is_cheap(solver: str, effort: Effort) -> None:
    plan = planned(fleet(replace(model("a", 1), max_replicas=9)), asked(5.0), solvers=[solver], effort=effort)
    assert ([s.node for s in plan.starts], plan.stop) == (["n2", "n2"], ())


def test_the_recount_knows_a_move_out_of_it() -> None:
    """Two go and one starts elsewhere: one of them has moved. Without the start the model shrinks, and where it was short it is served."""
    standing = fleet(replace(model("a", 1), max_replicas=3))
    moves = made(standing, keep=["r0"], stop=["r1", "r2"], starts=[go(A, "n2", "cheap")])
    refused("ns/a: 1 replicas stop in a pool that chooses its own nodes", standing, moves, asked(2.0))
    passes(standing, made(standing, keep=["r0"], stop=["r1", "r2"]), asked(1.0))
    ours = replace(standing, cells=(replace(DEAR, exact_nodes=True), CHEAP))
    passes(ours, moves, asked(2.0))


def test_stops_elsewhere_account_for_a_start_first() -> None:
    """One replica runs in each pool, one starts and both stop: it replaces the one of the pool that we place, the other is surplus."""
    both = fleet(replace(model("a", 1), max_replicas=3), of=1)
    both = replace(both, replicas=(*both.replicas, replica("s", A, "n2")))
    passes(both, made(both, stop=["r0", "s"], starts=[go(A, "n2", "cheap", "s")]), asked(1.0))


@pytest.mark.parametrize(("first", "solver"), [(0, "HiGHS"), (20, "CBC")])
def test_equals_enumeration(first: int, solver: str) -> None:
    """On seeds in which no two places that stops leave are needed as one: in these pools a stop gives a place of its own size (`bins`),
    which the enumeration does not know."""
    for seed in range(first, first + 20):
        snapshot, demand = loose(seed)
        world = World(snapshot, demand)
        found = exact(world, snapshot, demand, solver, f"seed {seed}")
        assert any(same(found, best) for best in world.optima()), f"seed {seed}: {found}, best {world.optima()}"
