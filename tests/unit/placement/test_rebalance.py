"""Prefill and decode change places on a full fleet: the one grows only into what the other has given back (OC-049). Pure engine only."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from placement.types import Demand, Model, ModelDemand, Plan, Replica, ReplicaState, Snapshot
from tests.unit.placement.fleet import cell, node, option, planned, replica, snap

H100 = cell("h100")
PREFILL = option("a", "h100", 1, id="a-p", role="prefill", work_per_s=1.0)
DECODE = option("a", "h100", 1, id="a-d", role="decode", work_per_s=1.0)
BUDGET = 8


def asked(prefill: float, decode: float) -> Demand:
    return Demand((ModelDemand("ns/a", prefill, role="prefill"), ModelDemand("ns/a", decode, role="decode")))


def carried_out(snapshot: Snapshot, plan: Plan, works: bool) -> Snapshot:
    """What can be done at this instant: what stops is gone if the update `works`; a start is made if all it waits for is gone."""
    stop = set(plan.stop) if works else set()
    left = [r for r in snapshot.replicas if r.id not in stop]
    there = {r.id for r in left}
    begun = [s for s in plan.starts if not there & set(s.after)]
    new = [Replica(f"n{len(snapshot.replicas)}-{i}", s.model, s.option, s.node, 1) for i, s in enumerate(begun)]
    return replace(snapshot, replicas=tuple(sorted([*left, *new], key=lambda r: r.id)))


@pytest.mark.parametrize("solver", ["HiGHS", "CBC"])
@pytest.mark.parametrize("fails", [{0}, {0, 1}, set()], ids=["once", "twice", "never"])
def test_oc_049_decode_grows_only_as_prefill_is_released(solver: str, fails: set[int]) -> None:
    """Eight devices, 4 and 4 with one device each; wanted are 2 and 6. The first update of prefill fails."""
    running = [replica(f"p{i}", PREFILL, "n1") for i in range(4)] + [replica(f"d{i}", DECODE, "n1") for i in range(4)]
    now = snap([H100], [node("n1", H100, BUDGET)], [Model("ns/a", min_replicas=0, max_replicas=BUDGET)], [PREFILL, DECODE], running)
    for instant in range(4):
        plan = planned(now, asked(2.0, 6.0), solvers=[solver])
        roles = Counter(r.option for r in now.replicas)
        if instant in fails:
            # What has failed is tried again with the same plan, and nothing grows meanwhile.
            assert (len(plan.stop), len(plan.starts)) == (2, 2)
            assert all(set(start.after) & set(plan.stop) for start in plan.starts)
            assert roles == {"a-p": 4, "a-d": 4}
        now = carried_out(now, plan, instant not in fails)
        assert sum(r.devices for r in now.replicas) <= BUDGET
    assert Counter(r.option for r in now.replicas) == {"a-p": 2, "a-d": 6}
    last = planned(now, asked(2.0, 6.0), solvers=[solver])
    assert (last.stop, last.starts, last.shortfalls) == ((), (), ())


def test_oc_049_what_drains_still_holds_its_devices() -> None:
    """Two of four prefill replicas leave and are not gone: decode's two wait for them, and eight devices stay eight."""
    leaving = [replica(f"p{i}", PREFILL, "n1", state=ReplicaState.DRAINING) for i in range(2)]
    running = [*leaving, *(replica(f"p{i}", PREFILL, "n1") for i in (2, 3)), *(replica(f"d{i}", DECODE, "n1") for i in range(4))]
    now = snap([H100], [node("n1", H100, BUDGET)], [Model("ns/a", min_replicas=0, max_replicas=BUDGET)], [PREFILL, DECODE], running)
    plan = planned(now, asked(2.0, 6.0))
    assert plan.stop == ()
    assert sorted(start.option for start in plan.starts) == ["a-d", "a-d"]
    assert all(start.after and set(start.after) <= {"p0", "p1"} for start in plan.starts)
    assert set(carried_out(now, plan, False).replicas) == set(now.replicas)
