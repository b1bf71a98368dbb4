"""Quotas: hard, lent and taken back (OC-016, OC-100), and what runs above a lowered one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import placement
from placement.types import Plan, Quota, Snapshot
from tests.unit.placement.fleet import applied, cell, got, model, node, option, planned, replica, snap

WHERE = cell("h100")


def teams(wanted: dict[str, tuple[str, int]], quotas: tuple[Quota, ...], nodes: int = 1, **more: Any) -> Snapshot:
    """`wanted`: model -> (tenant, priority), one replica of 2 devices each, on nodes of 8."""
    models = [model(name, 1, tenant=tenant, priority=priority) for name, (tenant, priority) in sorted(wanted.items())]
    options = [option(name, "h100", 2) for name in sorted(wanted)]
    return snap([WHERE], [node(f"n{i}", WHERE, 8) for i in range(nodes)], models, options, quotas=quotas, **more)


def placed(plan: Plan, names: str) -> str:
    return "".join(n for n in names if got(plan, n))


@pytest.mark.parametrize("solvers", [["HiGHS"], ["CBC"], []])
def test_a_quota_that_does_not_lend_is_hard(solvers: list[str]) -> None:
    """OC-016: 8 devices are free, tenant a may hold 4: two of its three replicas, the two of higher priority."""
    snapshot = teams({"x": ("a", 0), "y": ("a", 5), "z": ("a", 9)}, (Quota("a", 4),))
    assert placed(planned(snapshot, solvers=solvers), "xyz") == "yz"


@pytest.mark.parametrize("solvers", [["HiGHS"], []])
def test_idle_devices_are_lent_and_only_where_lending_is_on(solvers: list[str]) -> None:
    wanted = {"x": ("a", 0), "y": ("a", 0), "z": ("a", 0)}
    lending = (Quota("a", 4, borrow=True), Quota("b", 4))
    assert placed(planned(teams(wanted, lending), solvers=solvers), "xyz") == "xyz"
    mean = (Quota("a", 4), Quota("b", 4, borrow=True))
    assert len(placed(planned(teams(wanted, mean), solvers=solvers), "xyz")) == 2


def test_what_is_lent_counts_per_profile() -> None:
    """b lends what it has of another profile: nothing for a."""
    wanted = {"x": ("a", 0), "y": ("a", 0), "z": ("a", 0)}
    quotas = (Quota("a", 4, ("h100",), borrow=True), Quota("b", 4, ("910c",), borrow=True))
    assert len(placed(planned(teams(wanted, quotas)), "xyz")) == 2


@pytest.mark.parametrize("solvers", [["HiGHS"], ["CBC"], []])
def test_the_lender_comes_first_whatever_the_priorities(solvers: list[str]) -> None:
    """16 devices, but the two quotas together are 8: b's own 4 come before the 2 that a would borrow at a higher priority."""
    wanted = {"p": ("a", 9), "q": ("a", 9), "r": ("a", 9), "x": ("b", 0), "y": ("b", 0)}
    plan = planned(teams(wanted, (Quota("a", 4, borrow=True), Quota("b", 4)), nodes=2), solvers=solvers)
    assert placed(plan, "xy") == "xy"
    assert len(placed(plan, "pqr")) == 2


def test_what_was_lent_is_taken_back_once() -> None:
    """a borrows while b is idle; b's own work comes at a lower priority: exactly one of a's replicas goes, the one of lowest priority."""
    quotas = (Quota("a", 4, borrow=True), Quota("b", 4, borrow=True))
    alone = teams({"p": ("a", 9), "q": ("a", 8), "r": ("a", 7), "x": ("b", 0)}, quotas)
    full = applied(alone, planned(alone))
    assert len(full.replicas) == 4
    both = replace(full, models=(*full.models, model("y", 1, tenant="b", priority=0)), options=(*full.options, option("y", "h100", 2)))
    plan = planned(both)
    gone = {r.id: r.model for r in full.replicas}
    assert [gone[i] for i in plan.stop] == ["ns/r"]
    assert placed(plan, "pqrxy") == "pqxy"


def test_oc_100_no_loop_of_admission_and_preemption() -> None:
    """Teams a and b, 4 of 8 each, both may borrow; five models of 2 devices and mixed priority, so demand is 10. Stable within 3 cycles;
    over 100 cycles nobody is evicted more than once."""
    quotas = (Quota("a", 4, borrow=True), Quota("b", 4, borrow=True))
    wanted = {"p": ("a", 1), "q": ("a", 5), "r": ("a", 9), "x": ("b", 3), "y": ("b", 7)}
    for waiting in ("pq", "xy", "rx", ""):
        names = [n for n in "pqrxy" if n not in waiting]
        snapshot = teams({n: wanted[n] for n in names}, quotas)
        snapshot = applied(snapshot, planned(snapshot))
        snapshot = replace(snapshot, models=teams(wanted, quotas).models, options=teams(wanted, quotas).options)
        evicted: dict[str, int] = {}
        last = None
        for cycle in range(100):
            plan = planned(snapshot, effort=replace(placement.DEFAULT, ladder=False))
            of = {r.id: r.model for r in snapshot.replicas}
            for i in plan.stop:
                evicted[of[i]] = evicted.get(of[i], 0) + 1
            served = placed(plan, "pqrxy")
            assert cycle < 3 or served == last, f"{waiting}: cycle {cycle}"
            if served == last and not plan.stop and not plan.starts:
                break  # the same snapshot again gives the same bytes
            last = served
            snapshot = applied(snapshot, plan)
        assert last == "qrxy"
        assert max(evicted.values(), default=0) <= 1


def test_what_runs_above_a_lowered_quota_may_only_shrink() -> None:
    """6 devices run under a quota that is 4 now: nothing is stopped, nothing starts, and once two have gone there is still no room for a
    third."""
    options = [option(n, "h100", 2) for n in "xyz"]
    running = [replica(f"r{n}", o, "n0") for n, o in zip("xyz", options, strict=True)]
    lowered = teams(dict.fromkeys("wxyz", ("a", 0)), (Quota("a", 4),))
    plan = planned(replace(lowered, replicas=tuple(running)))
    assert (plan.stop, plan.starts) == ((), ())
    assert placed(plan, "wxyz") == "xyz"
    fewer = planned(replace(lowered, replicas=tuple(running[:2])))
    assert (fewer.stop, fewer.starts) == ((), ())


def test_check_refuses_a_start_above_a_quota() -> None:
    free = teams({"x": ("a", 0), "y": ("a", 0)}, ())
    plan = planned(free)
    for quotas, said in (((Quota("a", 2),), "4 devices"), ((Quota("a", 2, borrow=True), Quota("b", 1)), "4 of 3")):
        bound = replace(free, policy=replace(free.policy, quotas=quotas))
        faults = placement.check(bound, placement.Demand(), plan)
        assert any(said in f and "quota of a" in f for f in faults), faults
    enough = replace(free, policy=replace(free.policy, quotas=(Quota("a", 2, borrow=True), Quota("b", 2))))
    assert placement.check(enough, placement.Demand(), plan) == ()
