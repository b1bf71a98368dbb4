"""Input that is legal and hopeless, by name: each gives a checked plan with its reasons, from both engines, and from greedy alone.

What is no input at all (NaN, negative, contradictory numbers) is a typed error: `test_faults`; anything in between: `test_fuzz`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import placement
from placement.types import Demand, Effort, Model, ModelDemand, Node, Option, PlacementError, Reason, Snapshot
from tests.unit.placement.fleet import cell, got, model, node, nodes_of, option, planned, reason, short, snap

H100 = cell("h100")
PPU = cell("ppu")
EVERY = pytest.mark.parametrize(
    "more",
    [{}, {"effort": Effort(exact_size=0)}, {"solvers": []}, {"effort": Effort(exact_size=0), "solvers": []}],
    ids=["general", "columns", "greedy", "greedy-large"],
)


@EVERY
def test_a_size_that_no_node_has(more: dict[str, Any]) -> None:
    """4 devices where every node has 2, and 3 where only 1, 2, 4 are legal: a permanent reason, and the others are served."""
    nodes = [Node(f"n{i}", "ppu", 2, 2, 0) for i in range(3)]
    asked = [option("a", "ppu", 4), option("b", "ppu", 3), option("c", "ppu", 2)]
    plan = planned(snap([PPU], nodes, [model(n, 1) for n in "abc"], asked), **more)
    assert (got(plan, "a"), got(plan, "b"), got(plan, "c")) == (0, 0, 1)
    assert (reason(plan, "a"), reason(plan, "b")) == ("NeverFits", "NeverFits")


@EVERY
def test_a_cell_that_nobody_may_use(more: dict[str, Any]) -> None:
    """Free and cheap, but one pool is on nobody's list, one is closed, and one is of a profile that no option names."""
    hidden, closed, foreign = cell("ppu", "hidden"), cell("ppu", "closed", schedulable=False), cell("910c")
    nodes = [node(f"n-{c.name}", c, 16) for c in (hidden, closed, foreign)]
    a = option("a", "ppu", 2, pools=("closed",))
    b = [option("b", "ppu", 2, pools=("closed",)), option("b", "h100", 2)]
    fleet = snap([hidden, closed, foreign, H100], [*nodes, node("n1", H100, 8)], [model("a", 1, restricted=True), model("b", 1)], [a, *b])
    plan = planned(fleet, **more)
    assert (got(plan, "a"), nodes_of(plan, "b")) == (0, {"n1": 1})
    assert {r.reason for r in short(plan, "a").reasons} >= {Reason.POOL_CORDONED}


@EVERY
def test_a_bucket_without_capacity(more: dict[str, Any]) -> None:
    """The long bucket is served by the dear option only; without that option it is reported, and the short one is still served."""
    loads = ModelDemand("ns/a", 3.0, (2.0, 1.0))
    cheap = option("a", "ppu", 1, bucket_work=(1.0, 0.0))
    dear = option("a", "h100", 1, bucket_work=(1.0, 1.0))
    wants = Model("ns/a", min_replicas=0, max_replicas=9)
    nodes = [node("n1", H100, 8), node("n2", PPU, 16)]
    both = planned(snap([H100, PPU], nodes, [wants], [cheap, dear]), Demand((loads,)), **more)
    assert nodes_of(both, "a") == {"n1": 1, "n2": 2}
    assert both.shortfalls == ()
    alone = planned(snap([H100, PPU], nodes, [wants], [cheap]), Demand((loads,)), **more)
    assert nodes_of(alone, "a") == {"n2": 2}
    assert reason(alone, "a") == "SloUnreachable"


@pytest.mark.parametrize("why", ["small", "full", "closed"])
@pytest.mark.parametrize("solvers", [None, []], ids=["columns", "greedy"])
def test_ten_thousand_nodes_of_which_none_fits(why: str, solvers: list[str] | None) -> None:
    """Too small for ever, taken, or cordoned: nothing starts, and the reason tells the three apart. 20 models, so columns are used."""
    free, installed = {"small": (4, 4), "full": (7, 8), "closed": (8, 8)}[why]
    nodes = tuple(
        Node(
            f"n{i:05d}",
            "h100",
            installed,
            installed,
            installed - free,
            eligible=why != "closed",
            excluded_reason="Cordoned" if why == "closed" else "",
        )
        for i in range(10_000)
    )
    names = [f"m{i:02d}" for i in range(20)]
    fleet = Snapshot((H100,), nodes, tuple(model(n, 2) for n in names), tuple(option(n, "h100", 8) for n in names))
    plan = planned(fleet, solvers=solvers, effort=Effort(exact_size=0))
    assert (plan.starts, plan.stop, len(plan.shortfalls)) == ((), (), 20)
    first = short(plan, "m07").reasons[0]
    if why == "small":
        assert (first.reason, "largest node has 4 installed" in first.message) == (Reason.NEVER_FITS, True)
    else:
        assert (first.reason, first.largest_free, first.total_free) == (
            Reason.DEVICES_UNAVAILABLE,
            *((7, 70_000) if why == "full" else (0, 0)),
        )
    assert len(first.message) < 1000  # it names some nodes and counts the others


@pytest.mark.parametrize(
    ("fleet", "demand", "message"),
    [
        (snap([H100], [node("n1", H100, 8)], [model("a", 1)], [option("a", "h100", 1)]), ModelDemand("ns/a", float("nan")), "work_per_s"),
        (snap([H100], [Node("n1", "h100", 8, 8, -1)], [model("a", 1)], []), ModelDemand("ns/a"), "nodes[n1].held_by_others: -1"),
        (snap([H100], [Node("n1", "h100", 8, 9, 0)], [model("a", 1)], []), ModelDemand("ns/a"), "nodes[n1].allocatable: 9"),
        (snap([H100], [Node("n1", "gone", 8, 8, 0)], [model("a", 1)], []), ModelDemand("ns/a"), "gone"),
    ],
    ids=["nan", "negative", "contradictory", "dangling"],
)
@EVERY
def test_what_is_no_input_is_a_typed_error(fleet: Snapshot, demand: ModelDemand, message: str, more: dict[str, Any]) -> None:
    with pytest.raises(PlacementError) as error:
        placement.plan(fleet, Demand((demand,)), **more)
    assert message in str(error.value)


def test_near_zero_rates_ask_for_no_million_of_replicas() -> None:
    """A pair that would need more than there is: 377,215 replicas alone. The other option is taken, or what fits is placed and told."""
    wants = Model("ns/a", min_replicas=0, max_replicas=10**6)
    slow = Option("slow", "ns/a", "ppu", "alibaba", "v", "vllm", 1, work_per_s=30.0 / 377_215)
    nodes = [node("n1", PPU, 16), node("n2", H100, 8)]
    asked = Demand((ModelDemand("ns/a", 30.0),))
    for effort in (Effort(), Effort(exact_size=0)):
        plan = planned(snap([PPU, H100], nodes, [wants], [slow, option("a", "h100", 1, work_per_s=10.0)]), asked, effort=effort)
        assert (nodes_of(plan, "a"), plan.shortfalls) == ({"n2": 3}, ())
        alone = planned(snap([PPU, H100], nodes, [replace(wants, max_replicas=16)], [slow]), asked, effort=effort)
        assert got(alone, "a") <= 16
        assert short(alone, "a").unmet_share > 0.999


def test_whole_numbers_as_rates_are_rates() -> None:
    """Integers in a profile cut no share to nothing: 30 requests/s in two buckets of 3 and 6 per replica are 5 + 2.5 replicas, so 8."""
    nodes = [node("n1", H100, 8), node("n2", H100, 8)]
    wants = Model("ns/a", min_replicas=0, max_replicas=20)
    for whole in (True, False):
        rates, load = ((3, 6), (15, 15)) if whole else ((3.0, 6.0), (15.0, 15.0))
        asked = Demand((ModelDemand("ns/a", 30 if whole else 30.0, load),))
        for effort in (Effort(), Effort(exact_size=0)):
            plan = planned(snap([H100], nodes, [wants], [option("a", "h100", 1, bucket_work=rates)]), asked, effort=effort)
            assert (got(plan, "a"), plan.shortfalls) == (8, ())
