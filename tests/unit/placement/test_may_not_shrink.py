"""`may_shrink` False keeps what runs: its work, so that a stronger type may replace several weak ones; its number on any doubt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import placement
from placement.types import Demand, Effort, Model, ModelDemand, Option, Plan, Snapshot
from tests.unit.placement.fleet import cell, got, node, option, replica, snap
from tests.unit.placement.plans import go, made, passes, refused, short

H100, PPU = cell("h100"), cell("ppu")
FAST = option("a", "h100", 1, work_per_s=4.0, start_seconds=60.0)  # 2.50 an hour
WEAK = option("a", "ppu", 4, work_per_s=1.0, start_seconds=60.0)  # 2.80 an hour
ASKED = Demand((ModelDemand("ns/a", 3.0, may_shrink=False),))
ENGINES = [Effort(), Effort(exact_size=0)]


def spilled(free: int = 8, weak: Option = WEAK, most: int = 9, count: int = 4) -> Snapshot:
    """Four weak replicas run where the preferred type was full; now it has room."""
    running = [replica(f"p{i}", weak, "n2") for i in range(count)]
    nodes = [node("n1", H100, free, total=8), node("n2", PPU, 32)]
    return snap([H100, PPU], nodes, [Model("ns/a", min_replicas=1, max_replicas=most)], [FAST, weak], running, start_price=0.0)


def plan(snapshot: Snapshot, demand: Demand, effort: Effort = ENGINES[0]) -> Plan:
    found, _ = placement.plan(snapshot, demand, effort=effort)
    assert placement.check(snapshot, demand, found) == ()
    return found


@pytest.mark.parametrize("effort", ENGINES)
def test_one_strong_replica_takes_the_place_of_four_weak_ones(effort: Effort) -> None:
    """4 x 1 work/s = 1 x 4 work/s, and not four fast ones for four times the money."""
    found = plan(spilled(), ASKED, effort)
    assert (found.hourly_cost, len(found.stop), [s.option for s in found.starts], found.shortfalls) == (2.5, 4, [FAST.id], ())


@pytest.mark.parametrize("effort", ENGINES)
def test_what_is_kept_is_the_work_that_runs_and_not_the_work_that_is_asked(effort: Effort) -> None:
    """Five weak ones give 5 work/s; 3 are asked. One fast one gives 4 and would be less than runs: one fast and one weak."""
    found = plan(spilled(count=5), ASKED, effort)
    assert (found.hourly_cost, len(found.stop), len(found.starts)) == (5.0, 5, 2)  # two fast ones are cheaper than a fast and a weak one
    assert plan(spilled(free=1, count=5), ASKED, effort).hourly_cost == pytest.approx(2.5 + 2.8)


@pytest.mark.parametrize("effort", ENGINES)
def test_the_number_is_kept_where_the_work_is_not_known(effort: Effort) -> None:
    unnumbered = replace(WEAK, work_per_s=None)
    assert got(plan(spilled(weak=unnumbered), ASKED, effort), "a") == 4
    gone = spilled()
    gone = replace(gone, replicas=(replace(gone.replicas[0], option=None), *gone.replicas[1:]))
    assert got(plan(gone, ASKED, effort), "a") >= 4
    assert got(plan(spilled(), Demand((ModelDemand("ns/a", may_shrink=False),)), effort), "a") == 4  # no work is asked
    two = replace(spilled(), options=(replace(FAST, bucket_work=(4.0, 4.0)), replace(WEAK, bucket_work=(1.0, 1.0))))
    assert got(plan(two, Demand((ModelDemand("ns/a", 3.0, (1.0, 2.0), may_shrink=False),)), effort), "a") == 4
    assert got(plan(spilled(most=3), ASKED, effort), "a") == 3  # more run than may


def test_the_recount_misses_work_that_may_not_go() -> None:
    fleet = spilled()
    less = made(fleet, keep=["p0", "p1", "p2"], stop=["p3"])
    passes(fleet, less, Demand((ModelDemand("ns/a", 3.0),)))
    refused("4 work/s run and may not shrink, 3 are planned", fleet, less, ASKED)
    passes(fleet, replace(less, shortfalls=(short("a", 1),)), ASKED)
    passes(fleet, made(fleet, stop=["p0", "p1", "p2", "p3"], starts=[go(FAST, "n1", "h100")]), ASKED)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 1.0, 1.7, 3.0]), min_size=2, max_size=2),
    st.integers(1, 5), st.integers(0, 3), st.integers(0, 8), st.floats(0.1, 8.0), st.integers(1, 3),
)  # fmt: skip
def test_never_less_than_runs(rates: list[float], weak: int, strong: int, free: int, work: float, least: int) -> None:
    """Whatever types run, are free and are asked: while devices stay, neither the work nor the least number is lost."""
    fast, slow = replace(FAST, work_per_s=rates[0]), replace(WEAK, work_per_s=rates[1])
    running = [replica(f"p{i}", slow, "n2") for i in range(weak)] + [replica(f"h{i}", fast, "n1") for i in range(strong)]
    nodes = [node("n1", H100, free + strong, total=free + strong), node("n2", PPU, 32)]
    models = [Model("ns/a", min_replicas=least, max_replicas=9)]
    fleet = snap([H100, PPU], nodes, models, [fast, slow], running, start_price=0.0)
    found = plan(fleet, Demand((ModelDemand("ns/a", work, may_shrink=False),)))
    rate = {fast.id: rates[0], slow.id: rates[1]}
    after = sum(rate[a.option] * a.replicas for a in found.assignments)
    assert after >= weak * rates[1] + strong * rates[0] - 1e-6
    assert got(found, "a") >= min(least, weak + strong)
