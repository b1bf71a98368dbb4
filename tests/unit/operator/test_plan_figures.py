"""What a PlacementPlan says: its size, its figures, and how many moves the hour has left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from polyfleet.decide import prepare
from polyfleet.plans import entries, figures, moves, realise, stored
from polyfleet.plans.entries import Entry

from placement.types import Plan, RowPrice
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import stored as as_stored
from tests.unit.operator.planning import NODE, TWO, other_tie, running, small

# ---- the object's size and figures


def fleet_of(count: int) -> tuple[Entry, ...]:
    nodes = tuple((f"node-{number:05d}", 1) for number in range(count))
    return (Entry("llm/m", "p", "default", "vllm", 8, "00000000", count, nodes),)


@pytest.mark.parametrize(("count", "dropped"), [(2000, False), (2001, True)])
def test_node_lists_are_dropped_above_2000_entries(count: int, dropped: bool) -> None:
    rows, truncated = entries.rows(fleet_of(count))
    assert truncated is dropped
    assert ("nodes" in rows[0]) is not dropped
    assert rows[0]["replicas"] == count


def test_node_lists_are_dropped_above_512_kib() -> None:
    """1,900 nodes whose names have 253 characters, the longest that Kubernetes takes: about 530 kB."""
    nodes = tuple((f"{number:0253d}", 1) for number in range(1900))
    assert entries.rows((replace(fleet_of(1)[0], nodes=nodes),))[1]
    assert not entries.rows((replace(fleet_of(1)[0], nodes=nodes[:1500]),))[1]


def test_the_digest_tells_plans_apart_that_are_truncated_alike() -> None:
    """One replica on another node, in the part that was dropped; the order of the entries is no difference."""
    ours, theirs = fleet_of(2001), fleet_of(2002)
    moved = (replace(ours[0], nodes=(*ours[0].nodes[:-1], ("node-99999", 1))),)
    assert entries.rows(ours) == entries.rows(moved)
    assert len({entries.digest(ours), entries.digest(moved), entries.digest(theirs)}) == 3
    assert entries.parse(entries.rows(fleet_of(3))[0]) == fleet_of(3)


def test_figures_say_no_gap_where_no_bound_is_known() -> None:
    """gapPercent and bound are absent, never nought; a small gap is never rounded to nought."""
    done = small(TWO)
    unknown = figures.figures(replace(done.plan, bound=None, gap=None), done.inputs, 5)
    assert "gapPercent" not in unknown
    assert "bound" not in unknown
    assert figures.figures(replace(done.plan, gap=0.00001), done.inputs, 5)["gapPercent"] == "0.01"
    assert figures.figures(replace(done.plan, gap=0.0123), done.inputs, 5)["gapPercent"] == "1.23"


def test_binding_rows_and_shortfalls_are_repeated() -> None:
    """Names and prices of the plan's rows; the first reason of each shortfall."""
    done = small({"replicas": 9})
    plan: Plan = replace(done.plan, rows=(RowPrice("bins/sandbox-nvidia/1", 0.0, 4.1),))
    found = figures.figures(plan, done.inputs, None)
    assert found["bindingConstraints"] == [{"name": "bins/sandbox-nvidia/1", "slack": 0, "shadowPrice": "4.10"}]
    assert found["shortfalls"] == [{"deployment": "llm/m", "replicas": 1, "reason": "DevicesUnavailable"}]


# ---- moves of an hour

HOUR: list[tuple[str, int, str, int]] = [
    ("Applied", 3, "2026-11-25T07:30:00Z", 1),  # half an hour ago: 4 - 3
    ("Applied", 3, "2026-11-25T06:59:00Z", 4),  # more than an hour ago
    ("Superseded", 3, "2026-11-25T07:30:00Z", 1),  # begun, whatever became of it
    ("Applying", 3, "2026-11-25T06:00:00Z", 1),  # still under way
    ("Applied", 9, "2026-11-25T07:59:59Z", 0),  # never below nought
]


@pytest.mark.parametrize(("state", "count", "at", "left"), HOUR)
def test_moves_are_counted_over_the_last_hour(state: str, count: int, at: str, left: int) -> None:
    """Four moves per hour (the default), less those of plans that were begun."""
    plan = small(TWO).plans[0]
    word = {"Applying": "False"}.get(state, "True")
    row = {"type": "Applied", "status": word, "reason": "InProgress", "message": "", "lastTransitionTime": at}
    past = replace(plan, status={**plan.status, "state": state, "changes": {"move": count}, "conditions": [row]})
    assert moves.left(4, stored.read([past]), b.NOW, 0) == left


def test_a_proposed_plan_has_moved_nothing() -> None:
    plan = as_stored(small(TWO).written[0])
    proposed = replace(plan, status={**plan.status, "changes": {"move": 3}})
    assert moves.left(4, stored.read([proposed]), b.NOW, 0) == 4


def test_moves_of_the_plan_under_way_are_not_paid_twice() -> None:
    """Three were paid, two of them are still to be made: the snapshot has 4 - 3 + 2."""
    assert moves.left(4, (), b.NOW, 0) == 4
    before = small(TWO, plans=small(TWO).plans, **running(2))
    assert before.inputs.snapshot.policy.max_moves == 4
    twins = (NODE, b.sandbox(b.h100("h100-1")))
    plan = other_tie(small(TWO, nodes=twins, plans=()), "h100-1")
    moving = replace(plan, status={**plan.status, "state": "Applying", "changes": {"add": 0, "move": 3, "remove": 0}})
    observed = replace(small(TWO, nodes=twins, **running(2, nodes=twins)).observed, plans=(moving,))
    assert prepare(observed, now=b.NOW).snapshot.policy.max_moves == 3
    acts = realise.acts(stored.read([moving])[0], prepare(observed), {})
    assert acts is not None
    assert (len(acts.stop), len(acts.starts), acts.moves) == (2, 2, 2)
