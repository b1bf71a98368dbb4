"""A second plan of a fleet in which little has changed: the shortcuts say what the long way says, and stay near its bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.placement.instances import Recipe, make, snapshot_of
from placement import again, check, effective, fleetplan
from placement import plan as make_plan
from placement.engine import Cache
from placement.explain import explain_plan
from placement.finish import Sheet
from placement.ladder import ladder
from placement.live import Live
from placement.types import Demand, Effort, Outcome, Plan, Replica, Snapshot, Warm

LARGE = Effort(exact_size=0, neighbourhoods=0, large_neighbourhoods=0)


def stepped(snapshot: Snapshot, plan: Plan, step: int) -> Snapshot:
    devices = {o.id: o.devices for o in snapshot.options}
    kept = set(plan.keep)
    new = [Replica(f"n{step:03d}-{i:04d}", s.model, s.option, s.node, devices[s.option], age_order=step) for i, s in enumerate(plan.starts)]
    return replace(snapshot, replicas=tuple(sorted([r for r in snapshot.replicas if r.id in kept] + new, key=lambda r: r.id)))


def changed(demand: Demand, rng: np.random.Generator) -> Demand:
    i = int(rng.integers(len(demand.models)))
    d = demand.models[i]
    factor = float(np.exp(rng.normal(0.0, 0.35)))
    work = tuple(w * factor for w in d.bucket_work)
    return Demand((*demand.models[:i], replace(d, work_per_s=d.work_per_s * factor, bucket_work=work), *demand.models[i + 1 :]))


def fleet(t: float = 0.5, seed: int = 0, *, nodes: int = 40) -> tuple[Snapshot, Demand]:
    """16 models on 40 nodes of 4 device types; above t = 0.6 there is not enough for all."""
    return snapshot_of(make(Recipe(nodes, nodes * 2 // 5, 4, 1, t), seed), start_price=1.0)


@pytest.mark.parametrize("t", [0.5, 0.8, 2.0])
def test_what_is_said_again_is_what_would_be_said_anew(monkeypatch: pytest.MonkeyPatch, t: float) -> None:
    """Every ladder and explanation of a run of changes, with the past at hand and without."""
    seen: list[bool] = []
    build = Sheet.plan

    def compared(self: Sheet, how: object, effort: object) -> Plan:
        plan = build(self, how, effort)  # type: ignore[arg-type]
        if plan.why:
            live = Live.of_problem(self.problem, self.binding)
            assert plan.ladder == ladder(self.problem, self.binding, live=live)
            exact = plan.outcome.value == "Optimal"
            assert (plan.shortfalls, plan.why) == explain_plan(self.problem, self.binding, exact=exact)
            seen.append(self.past is not None)
        return plan

    monkeypatch.setattr(Sheet, "plan", compared)
    snapshot, demand = fleet(t)
    rng, warm = np.random.default_rng(1), Warm()
    for step in range(8):
        plan, warm = make_plan(snapshot, demand, warm=warm, effort=LARGE)
        snapshot = stepped(snapshot, plan, step)
        demand = changed(demand, rng)
    assert seen.count(True) >= 6


def test_a_plan_around_what_runs_is_near_a_bound_that_the_full_solve_agrees_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted choices are as near their bound as they must be, and no full solve of the same question is below that bound."""
    accepted: list[tuple[float, float, float]] = []
    attempt = again.attempt

    def noted(*arguments: object) -> again.Again | None:
        got = attempt(*arguments)  # type: ignore[arg-type]
        if got is not None:
            accepted.append((got.money[0], got.bound, got.memory.near))
        return got

    monkeypatch.setattr(again, "attempt", noted)
    snapshot, demand = fleet(0.55, nodes=80)
    rng, warm = np.random.default_rng(3), Warm()
    near = 0
    for step in range(14):
        before = len(accepted)
        plan, warm_next = make_plan(snapshot, demand, warm=warm, effort=LARGE)
        assert check(snapshot, effective(demand, warm), plan) == ()
        if len(accepted) > before and plan.engine == "Columns":
            near += 1
            money, bound, near_enough = accepted[-1]
            assert money - bound <= near_enough * abs(money)
            full, _ = make_plan(snapshot, demand, warm=replace(warm, cache=None), effort=LARGE)
            # The same goals in money per hour: what the shortcut took is at most its own tolerance dearer than the long way.
            assert plan.objective <= full.objective + (near_enough + 1e-6) * abs(full.objective)
        snapshot, demand, warm = stepped(snapshot, plan, step), changed(demand, rng), warm_next
    assert near >= 5, "the shortcut was hardly ever taken"


def test_nothing_is_taken_over_from_another_fleet() -> None:
    """A memory of other nodes, rows or options is no memory."""
    snapshot, demand = fleet()
    _, warm = make_plan(snapshot, demand, effort=LARGE)
    assert isinstance(warm.cache, Cache)
    other, asked = fleet(seed=1)
    cold, _ = make_plan(other, asked, effort=LARGE)
    warmed, _ = make_plan(other, asked, warm=Warm(cache=warm.cache), effort=LARGE)
    assert warmed == cold


def test_a_model_that_is_short_is_left_to_the_full_solve() -> None:
    snapshot, demand = fleet(2.0)
    plan, warm = make_plan(snapshot, demand, effort=LARGE)
    assert plan.shortfalls
    assert isinstance(warm.cache, Cache)
    seen: list[object] = []
    original = fleetplan._near
    try:
        fleetplan._near = lambda *a, **k: seen.append(original(*a, **k)) or seen[-1]  # type: ignore[assignment, func-returns-value]
        make_plan(stepped(snapshot, plan, 0), demand, warm=warm, effort=LARGE)
    finally:
        fleetplan._near = original  # type: ignore[assignment]
    assert seen == [None]


def test_the_same_question_again_changes_nothing() -> None:
    snapshot, demand = fleet()
    plan, warm = make_plan(snapshot, demand, effort=LARGE)
    snapshot = stepped(snapshot, plan, 0)
    for _ in range(3):
        plan, warm = make_plan(snapshot, demand, warm=warm, effort=LARGE)
        assert (plan.starts, plan.stop) == ((), ())


def test_a_plan_around_what_runs_obeys_the_rules_that_all_share() -> None:
    """A tenant grows in a fleet whose quotas and budget leave little: with the memory of the last solve as many are served as without."""
    snapshot, demand = fleet(0.55, nodes=80)
    plan, warm = make_plan(snapshot, demand, effort=LARGE)
    standing = stepped(snapshot, plan, 0)
    plan, warm = make_plan(standing, demand, warm=warm, effort=LARGE)
    standing = stepped(standing, plan, 1)
    held: dict[str, int] = {}
    tenants = {m.name: m.tenant for m in standing.models}
    for r in standing.replicas:
        held[tenants[r.model]] = held.get(tenants[r.model], 0) + r.devices
    tight = tuple(replace(q, devices=held.get(q.tenant, 0) + 2) for q in standing.policy.quotas)
    standing = replace(standing, policy=replace(standing.policy, quotas=tight))
    _, warm = make_plan(standing, demand, warm=warm, effort=LARGE)  # the prices of these quotas
    differing = 0
    for i in range(0, len(demand.models), 2):
        d = demand.models[i]
        more = replace(d, work_per_s=d.work_per_s * 1.3, bucket_work=tuple(w * 1.3 for w in d.bucket_work))
        asked = Demand((*demand.models[:i], more, *demand.models[i + 1 :]))
        with_memory, _ = make_plan(standing, asked, warm=warm, effort=LARGE)
        without, _ = make_plan(standing, asked, warm=replace(warm, cache=None), effort=LARGE)
        assert check(standing, effective(asked, warm), with_memory) == ()
        assert with_memory.outcome is not Outcome.KEPT_OLD or without.outcome is Outcome.KEPT_OLD
        lacks = [sum(s.replicas for s in p.shortfalls) for p in (with_memory, without)]
        assert lacks[0] <= lacks[1]
        differing += bool(with_memory.starts)
    assert differing, "no demand grew enough to start anything"
