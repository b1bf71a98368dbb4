"""The plan without a solver: its order by hand, and that it breaks no rule on fleets that have all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import placement
from placement.greedy import place
from placement.problem import Problem, build
from placement.snapshot import demand_by_model, normalised
from placement.types import Demand, ModelDemand, Option, Quota, Snapshot
from tests.unit.placement.fleet import cell, model, node, option, replica, snap
from tests.unit.placement.instances import wide


def problem_of(snapshot: Snapshot, demand: Demand, *, with_ways: bool = False) -> Problem:
    snapshot = normalised(snapshot)
    return build(snapshot, demand_by_model(snapshot, demand), with_ways=with_ways)


def starts_of(problem: Problem, starts: Sequence[int]) -> Counter[tuple[str, str]]:
    return Counter({(problem.options[w.option].id, problem.cells[w.cell].name): n for w, n in zip(problem.ways, starts, strict=True) if n})


def greedy(snapshot: Snapshot, *entries: ModelDemand) -> dict[str, int]:
    """Starts per option."""
    problem = problem_of(snapshot, Demand(entries))
    found: Counter[str] = Counter()
    for (name, _), n in starts_of(problem, place(problem)[0]).items():
        found[name] += n
    return dict(found)


H, P = cell("h100"), cell("ppu")


def test_the_higher_rank_comes_first() -> None:
    a8, b8 = option("a", "h100", 8), option("b", "h100", 8)
    fleet = snap([H], [node("n1", H, 8)], [model("a", 1), model("b", 1, priority=1)], [a8, b8])
    assert greedy(fleet) == {b8.id: 1}


def test_of_one_rank_the_one_whose_second_choice_is_dearest() -> None:
    """a pays 2.4 more elsewhere, b 14.4 more: b gets the cheap devices, though a comes first by name."""
    own = cell("910c", cost_per_device_hour=1.0, per_node=8, align_to=1, sizes=(8,))
    costly = cell("a3", cost_per_device_hour=2.5, whole_node_only=False, align_to=1, per_node=8, sizes=(8,))
    middle = cell("ppu", cost_per_device_hour=1.0, sizes=(8,))
    fleet = snap(
        [replace(own, cost_per_device_hour=0.7), costly, middle],
        [node("n1", own, 8), node("n2", costly, 8), node("n3", middle, 8)],
        [model("a", 1), model("b", 1)],
        [option("a", "910c", 8), option("a", "ppu", 8), option("b", "910c", 8), option("b", "a3", 8)],
    )
    assert greedy(fleet) == {option("a", "ppu", 8).id: 1, option("b", "910c", 8).id: 1}


def test_best_fit() -> None:
    fleet = snap([H], [node("n1", H, 8), node("n2", H, 2), node("n3", H, 4)], [model("a", 2)], [option("a", "h100", 2)])
    problem = problem_of(fleet, Demand())
    _, _, cut = place(problem)
    assert cut == {0: {"n2": {2: 1}, "n3": {2: 1}}}


def test_the_cheapest_option_until_its_devices_run_out_then_the_next() -> None:
    """8/s are asked, a replica of either carries 2/s: two fit on the cheap devices, two more start on the others."""
    cheap, dear = option("a", "ppu", 1, work_per_s=2.0), option("a", "h100", 1, work_per_s=2.0)
    fleet = snap([H, P], [node("n1", H, 8), node("n2", P, 2)], [model("a", 1, max_replicas=9)], [cheap, dear])
    assert greedy(fleet, ModelDemand("ns/a", 8.0)) == {cheap.id: 2, dear.id: 2}


def test_buckets() -> None:
    """(4, 2) are asked: one option of (4, 2) does it alone for 4 * 2.5 = 10 per hour; two of (2, 1) do it for 2 * 2 * 0.7 = 2.8."""
    strong, weak = option("a", "h100", 4, bucket_work=(8.0, 4.0)), option("a", "ppu", 2, bucket_work=(4.0, 2.0))
    fleet = snap([H, P], [node("n1", H, 8), node("n2", P, 16)], [model("a", 1, max_replicas=9)], [strong, weak])
    asked = ModelDemand("ns/a", 6.0, (4.0, 2.0))
    # Alone each bucket fills 4/8 + 2/4 = 1 strong replica or 4/4 + 2/2 = 2 weak ones.
    assert greedy(fleet, asked) == {weak.id: 2}
    assert greedy(replace(fleet, nodes=(fleet.nodes[0], node("n2", P, 2))), asked) == {weak.id: 1, strong.id: 1}


def test_kv_floor() -> None:
    holds = option("a", "h100", 2, kv_tokens=1000.0)
    fleet = snap([H], [node("n1", H, 8)], [model("a", 1, max_replicas=9)], [holds])
    assert greedy(fleet, ModelDemand("ns/a", kv_floor=2500.0)) == {holds.id: 3}


def test_a_replica_over_nodes_takes_whole_ones() -> None:
    pair = option("a", "h100", 16, span=2)
    fleet = snap([H], [node("n1", H, 8), node("n2", H, 8), node("n3", H, 8), node("n4", H, 7)], [model("a", 2)], [pair])
    assert greedy(fleet) == {pair.id: 1}
    assert greedy(replace(fleet, nodes=(*fleet.nodes[:3], node("n4", H, 8)))) == {pair.id: 2}


def test_what_runs_stays_and_what_is_above_the_maximum_goes() -> None:
    a2 = option("a", "h100", 2)
    running = [replica("r1", a2, "n1"), replica("r2", a2, "n1", resident=True)]
    fleet = snap([H], [node("n1", H, 8)], [model("a", 1)], [a2], running)
    problem = problem_of(fleet, Demand())
    _, stops, _ = place(problem)
    gone = [name for g in problem.groups for name in g.ids[: stops[g.index]]]
    assert gone == ["r1"]  # the young one stays
    starts, stops, cut = place(problem, keep_only=True)
    assert (set(starts), set(stops), cut) in ((set(), {0}, {}), ({0}, {0}, {}))


def test_everybody_gets_its_own_quota_before_anybody_borrows() -> None:
    a4, b4 = option("a", "h100", 4), option("b", "h100", 4)
    models = [model("a", 2, tenant="x", priority=9), model("b", 1, tenant="y")]
    fleet = snap([H], [node("n1", H, 8), node("n2", H, 8)], models, [a4, b4], quotas=(Quota("x", 4, borrow=True), Quota("y", 4)))
    assert greedy(fleet) == {a4.id: 1, b4.id: 1}
    idle = replace(fleet, models=(models[0], model("b", 0, tenant="y")))
    assert greedy(idle) == {a4.id: 2}


@pytest.mark.parametrize("block", range(10))
def test_it_breaks_no_rule(block: int) -> None:
    for seed in range(2000 + 20 * block, 2020 + 20 * block):
        snapshot, demand = wide(seed)
        plan, _ = placement.plan(snapshot, demand, solvers=[])
        assert plan.outcome.value == "Greedy", f"seed {seed}: {plan.message}"
        assert placement.check(snapshot, demand, plan) == (), f"seed {seed}"


def test_with_and_without_ways_it_does_the_same() -> None:
    """A large fleet's problem has no ways: it works from options and cells."""
    started = 0
    for seed in range(100):
        found: list[Any] = []
        for with_ways in (True, False):
            problem = problem_of(*wide(seed), with_ways=with_ways)
            starts, stops, cut = place(problem)
            assert len(starts) == len(problem.ways)
            assert [w.index for w in problem.ways] == list(range(len(problem.ways)))
            found.append((starts_of(problem, starts), stops, cut))
        assert found[0] == found[1], f"seed {seed}"
        started += sum(found[0][0].values())
    assert started > 50


def test_options_that_nothing_may_use_are_left_alone() -> None:
    a8: Option = option("a", "h100", 8)
    fleet = snap([H], [node("n1", H, 8)], [model("a", 1)], [replace(a8, eligible=False)])
    assert greedy(fleet) == {}
    assert greedy(replace(fleet, options=(a8,), models=(replace(fleet.models[0], hold=True),))) == {}
    assert greedy(replace(fleet, options=(a8,), cells=(replace(H, schedulable=False),))) == {}
