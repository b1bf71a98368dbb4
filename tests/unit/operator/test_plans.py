"""PlacementPlan objects: when one is written, what it says, what is acted on, and what a person's answer does.

Expected values come from the documents (3.8 of the interface: names, states, history of 20, limits) and from counting by hand on a
fleet of three small nodes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.decide import prepare
from polyfleet.plans import judge, stored

from placement.types import Outcome
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.cycle import stored as as_stored
from tests.unit.operator.looks import NVIDIA_ONLY, PROFILES, children, patches, replace_size
from tests.unit.operator.planning import MANUAL, NODE, TWO, answered, fits, other_tie, running, small, states

# ---- when an object is written


def test_a_first_plan_is_written_with_its_target_and_figures() -> None:
    """Two single devices of 3.00 per hour on one node: +2, cost 6.00, proven."""
    done = small(TWO)
    (plan,) = done.plans
    fits(plan)
    assert plan.name == "pplan-000001"
    (row,) = plan.spec["assignments"]
    assert {key: row[key] for key in ("deployment", "pool", "variant", "engine", "devicesPerReplica", "replicas", "nodes")} == {
        "deployment": "llm/m", "pool": "sandbox-nvidia", "variant": "default", "engine": "sandbox", "devicesPerReplica": 1, "replicas": 2,
        "nodes": [{"name": "h100-0", "replicas": 2}],
    }  # fmt: skip
    assert row["revision"] == b.revision(done.actions)
    assert (plan.spec["approval"], plan.spec["trigger"]) == ("NotNeeded", "Resync")
    assert plan.spec["inputsDigest"].startswith("sha256:")
    assert len(plan.spec["inputsDigest"]) == 7 + 64
    got = {key: plan.status[key] for key in ("state", "outcome", "hourlyCost", "gapPercent", "changes", "changesText", "solveMillis")}
    assert got == {
        "state": "Applying", "outcome": "Optimal", "hourlyCost": "6.00", "gapPercent": "0.0",
        "changes": {"add": 2, "move": 0, "remove": 0}, "changesText": "+2 ~0 -0", "solveMillis": 1,
    }  # fmt: skip
    assert b.condition(plan.status, "Applied")[:2] == ("False", "InProgress")
    assert done.status("ModelDeployment", "m")["plan"] == {"name": "pplan-000001", "outcome": "Optimal", "gapPercent": "0.0"}


def test_what_is_as_planned_writes_nothing() -> None:
    """The second look, when everything serves: no object, the state Applied; the third: the very same statuses."""
    first = small(TWO)
    second = small(TWO, plans=first.plans, **running(2))
    assert second.written == ()
    assert states(second) == {"pplan-000001": "Applied"}
    third = small(TWO, plans=second.plans, **running(2))
    assert third.written == ()
    assert third.plans == second.plans


def test_another_size_is_another_plan_and_the_old_one_is_superseded_when_it_begins() -> None:
    """+1: the second object, the first keeps its figures."""
    before = small(TWO, plans=small(TWO).plans, **running(2))
    done = small({"replicas": 3}, plans=before.plans, **running(2))
    assert [new.name for new in done.written] == ["pplan-000002"]
    assert states(done) == {"pplan-000001": "Superseded", "pplan-000002": "Applying"}
    assert done.plans[0].status["hourlyCost"] == "6.00"
    assert done.plans[1].status["changesText"] == "+1 ~0 -0"


def test_no_model_no_plan() -> None:
    """Nothing is planned and nothing was: no object; nor for a model that has no place anywhere."""
    assert cycle(b.observed(profiles=PROFILES, nodes=[NODE])).written == ()
    assert small(nodes=(b.sandbox(b.h100(allocatable=0)),)).written == ()


def test_a_deleted_model_is_a_new_plan_without_acts() -> None:
    """Its assignments are gone; nothing is to be done, so it is Applied at once."""
    before = small(TWO, plans=small(TWO).plans, **running(2))
    done = cycle(b.observed(profiles=PROFILES, nodes=[NODE], plans=before.plans))
    assert states(done) == {"pplan-000001": "Superseded", "pplan-000002": "Applied"}
    assert done.plans[1].spec["assignments"] == []


def test_while_the_inventory_is_unknown_no_plan_is_written() -> None:
    """Nodes that cannot be listed are no reason to forget the plan in force."""
    before = small(TWO, plans=small(TWO).plans, **running(2))
    done = small(TWO, plans=before.plans, nodes=(), unknown={"nodes": "ListForbidden"}, **running(2))
    assert (done.written, done.plans) == ((), before.plans)
    assert done.status("ModelDeployment", "m")["plan"]["name"] == "pplan-000001"


def test_the_history_keeps_twenty() -> None:
    """Twenty stored and one to come: the oldest goes, and never the one in force."""
    old = [replace(small(TWO).plans[0], name=stored.name_of(number), uid=f"u{number}") for number in range(1, 21)]
    plans = [replace(p, status={**p.status, "state": "Superseded"}, annotations={stored.DIGEST: f"sha256:{p.name}"}) for p in old]
    plans[0] = replace(plans[0], status={**plans[0].status, "state": "Applied"})
    done = small(TWO, plans=plans)
    assert [new.name for new in done.written] == ["pplan-000021"]
    assert [act.name for act in judge.outdated(done.decision)] == ["pplan-000002"]
    assert [act.uid for act in judge.outdated(done.decision)] == ["u2"]
    assert len(done.plans) == 20


def test_a_strange_object_is_never_acted_on() -> None:
    """Without our annotation, or with a name of its own; the number is still taken."""
    mine = small(TWO).plans[0]
    strange = replace(mine, name="pplan-000007", annotations={})
    named = replace(mine, name="my-plan")
    done = small(TWO, plans=(strange, named))
    assert [new.name for new in done.written] == ["pplan-000008"]
    assert {status.name for status in done.plan_statuses} == {"pplan-000008"}


# ---- crash between the write and the act


@pytest.mark.parametrize("status", [True, False])
def test_a_restart_after_the_write_goes_on_with_the_plan(status: bool) -> None:
    """The process dies when the object (and its status, or not even that) was written: the next one writes none and acts."""
    plan = as_stored(small(TWO).written[0], status=status)
    done = small(TWO, plans=(plan,))
    assert done.written == ()
    assert list(b.sizes(done.actions).values()) == [2]
    assert states(done) == {"pplan-000001": "Applying"}
    assert done.plans[0].status["hourlyCost"] == "6.00"
    fits(done.plans[0])


def test_a_written_plan_is_carried_out_although_a_fresh_solve_breaks_ties_otherwise() -> None:
    """Two equal nodes: whichever the written plan names gets the replica, and no second object is written."""
    twins = (NODE, b.sandbox(b.h100("h100-1")))
    first = small(nodes=twins)
    (start,) = first.plan.starts
    other = "h100-1" if start.node == "h100-0" else "h100-0"
    done = small(nodes=twins, plans=(other_tie(first, other),))
    assert done.written == ()
    assert [start.node for start in done.plan.starts] == [other]


def test_a_written_plan_whose_node_went_away_is_solved_again() -> None:
    """Stale before its first act: another plan is written, and the first is superseded without having been begun."""
    twins = (NODE, b.sandbox(b.h100("h100-1")))
    plan = other_tie(small(nodes=twins), "h100-1")
    done = small(nodes=(NODE,), plans=(plan,))
    assert [new.name for new in done.written] == ["pplan-000002"]
    assert states(done) == {"pplan-000001": "Superseded", "pplan-000002": "Applying"}


def test_a_finished_plan_is_no_reason_to_keep_a_worse_place() -> None:
    """Only unfinished plans go on as written; the plan in force is not consulted for what is solved anew."""
    twins = (NODE, b.sandbox(b.h100("h100-1")))
    first = small(nodes=twins)
    (start,) = first.plan.starts
    plan = other_tie(first, "h100-1" if start.node == "h100-0" else "h100-0")
    applied = replace(plan, status={**plan.status, "state": "Applied"})
    assert [new.name for new in small(nodes=twins, plans=(applied,)).written] == ["pplan-000002"]


def test_a_much_cheaper_fresh_plan_wins_over_an_unfinished_one() -> None:
    """A written plan on a device of 3.00 per hour goes on against 2.90 (3 % saved) and not against 2.00 (33 %); the threshold is 5 %."""
    for price, goes_on in (("2.90", True), ("2.00", False)):
        pools = [b.pool("dear", "sandbox-nvidia", {"nodeSelector": {"p": "a"}, "cost": {"perDeviceHour": "3.00"}}),
                 b.pool("cheap", "sandbox-nvidia", {"nodeSelector": {"p": "b"}, "cost": {"perDeviceHour": price}})]  # fmt: skip
        nodes = [b.sandbox(b.h100("n-a", labels={"p": "a"})), b.sandbox(b.h100("n-b", labels={"p": "b"}))]
        given: dict[str, Any] = {"profiles": PROFILES, "pools": pools}
        written = cycle(b.observed(models=[b.model("m", NVIDIA_ONLY)], nodes=nodes[:1], **given)).plans
        done = cycle(b.observed(models=[b.model("m", NVIDIA_ONLY)], nodes=nodes, plans=written, **given))
        assert (done.written == ()) is goes_on
        assert [start.node for start in done.plan.starts] == ["n-a" if goes_on else "n-b"]


# ---- approval


def test_an_approved_plan_is_carried_out() -> None:
    """Pending: nothing moves. Approved: the same object is carried out."""
    asked = small(TWO, policy=MANUAL)
    assert asked.plans[0].spec["approval"] == "Pending"
    assert b.condition(asked.plans[0].status, "Applied")[:2] == ("False", "AwaitingApproval")
    fits(asked.plans[0])
    again = small(TWO, policy=MANUAL, plans=asked.plans)
    assert (again.written, again.plans, again.actions.pod_patches) == ((), asked.plans, ())
    done = small(TWO, policy=MANUAL, plans=(answered(asked.plans[0], "Approved"),))
    assert done.written == ()
    assert list(b.sizes(done.actions).values()) == [2]
    assert states(done) == {"pplan-000001": "Applying"}
    ended = small(TWO, policy=MANUAL, plans=done.plans, **running(2))
    assert (ended.written, states(ended)) == ((), {"pplan-000001": "Applied"})


def test_an_approved_plan_whose_inputs_changed_asks_again_only_if_the_target_differs() -> None:
    """Another node without any effect on the target: carried out. Another size: a second plan is Pending and nothing moves."""
    asked = small(TWO, policy=MANUAL)
    approved = answered(asked.plans[0], "Approved")
    same = small(TWO, policy=MANUAL, plans=(approved,), nodes=(NODE, b.sandbox(b.ppu())))
    assert same.written == ()
    assert list(b.sizes(same.actions).values()) == [2]
    other = small({"replicas": 3}, policy=MANUAL, plans=(approved,))
    assert [(new.name, new.approval) for new in other.written] == [("pplan-000002", "Pending")]
    assert b.sizes(other.actions) == {}
    assert states(other) == {"pplan-000001": "Superseded", "pplan-000002": "Proposed"}


def test_a_rejected_plan_stays_rejected() -> None:
    """The same target is not proposed again; another one is."""
    asked = small(TWO, policy=MANUAL)
    done = small(TWO, policy=MANUAL, plans=(answered(asked.plans[0], "Rejected"),))
    assert (done.written, b.sizes(done.actions)) == ((), {})
    assert states(done) == {"pplan-000001": "Rejected"}
    word, reason, message = b.condition(done.status("ModelDeployment", "m"), "Placed")
    assert (word, reason) == ("False", "AwaitingApproval")
    assert "was rejected" in message
    assert [note for note in done.report.events if note.reason == "AwaitingApproval"] == []
    again = small(TWO, policy=MANUAL, plans=done.plans)
    assert (again.written, again.plans) == ((), done.plans)
    other = small({"replicas": 1}, policy=MANUAL, plans=done.plans)
    assert [new.approval for new in other.written] == ["Pending"]
    assert states(other) == {"pplan-000001": "Rejected", "pplan-000002": "Proposed"}


def test_a_wish_that_is_taken_back_withdraws_the_question() -> None:
    """The fleet is as the plan in force says: what was asked meanwhile is superseded, nothing new is written."""
    before = small(TWO, plans=small(TWO).plans, **running(2))
    asked = small({"replicas": 3}, policy=MANUAL, plans=before.plans, **running(2))
    assert states(asked) == {"pplan-000001": "Applied", "pplan-000002": "Proposed"}
    back = small(TWO, policy=MANUAL, plans=asked.plans, **running(2))
    assert (back.written, states(back)) == ((), {"pplan-000001": "Applied", "pplan-000002": "Superseded"})
    assert b.condition(back.status("ModelDeployment", "m"), "Placed")[0] == "True"


def test_a_new_revision_needs_an_approval_once() -> None:
    """Under Manual a new image is another target although places and counts are the same; its further steps ask nobody."""
    new = {**TWO, "runtime": {"args": ["--new"]}, "rollout": {"maxSurge": 1}}
    before = small(TWO, policy=MANUAL, plans=(answered(small(TWO, policy=MANUAL).plans[0], "Approved"),))
    ended = small(TWO, policy=MANUAL, plans=before.plans, **running(2))
    asked = small(new, policy=MANUAL, plans=ended.plans, **running(2))
    assert [new.approval for new in asked.written] == ["Pending"]
    assert b.condition(asked.status("ModelDeployment", "m"), "Promoted")[:2] == ("False", "AwaitingApproval")
    assert set(b.sizes(asked.actions).values()) == {2}
    step = small(new, policy=MANUAL, plans=(*asked.plans[:1], answered(asked.plans[1], "Approved")), **running(2))
    assert step.written == ()
    assert sorted(b.sizes(step.actions).values()) == [1, 2]  # one of the new revision beside the two


def test_automatic_again_carries_out_what_was_asked() -> None:
    """The answer belongs to people, so the operator writes an object of its own that needs none."""
    asked = small(TWO, policy=MANUAL)
    done = small(TWO, plans=asked.plans)
    assert [(new.name, new.approval) for new in done.written] == [("pplan-000002", "NotNeeded")]
    assert states(done) == {"pplan-000001": "Superseded", "pplan-000002": "Applying"}


# ---- what cannot be realised


def test_a_plan_of_which_a_part_cannot_be_made_is_not_written() -> None:
    """The old one stays, whole: no object, no act, outcome KeptOld with the reason."""
    before = small(TWO, plans=small(TWO).plans, **running(2))
    observed = replace(before.observed, plans=before.plans, model_deployments=(b.model("m", {**NVIDIA_ONLY, "replicas": 3}),))
    inputs = prepare(observed, now=b.NOW)
    view = replace(inputs.models["llm/m"], rendered=())
    decision = judge.judge(observed, replace(inputs, models={"llm/m": view}), small({"replicas": 3}).plan, now=b.NOW)
    assert decision.create is None
    assert (decision.plan.outcome, decision.plan.starts, decision.plan.stop) == (Outcome.KEPT_OLD, (), ())
    assert "llm/m cannot be made in pool sandbox-nvidia" in decision.plan.message
    assert (decision.told.name, decision.told.outcome) == ("pplan-000001", "KeptOld")


def test_a_plan_that_never_lasts_is_given_up() -> None:
    """The newest is Abandoned with the outcome KeptOld, nothing moves, the one in force stays."""
    before = small(TWO, plans=small(TWO).plans, **running(2))
    proposed = as_stored(small({"replicas": 3}, plans=before.plans, **running(2)).written[0])
    observed = replace(before.observed, plans=(*before.plans, proposed))
    inputs = prepare(observed, now=b.NOW)
    decision = judge.judge(observed, inputs, before.plan, now=b.NOW)
    given_up = judge.kept_old(replace(decision, current=None), inputs)
    found = {item.name: item.status for item in judge.statuses(given_up, inputs, b.NOW)}
    assert (found["pplan-000002"]["state"], found["pplan-000002"]["outcome"]) == ("Abandoned", "KeptOld")
    assert given_up.kept == {"llm/m"}
    assert "pplan-000001" not in found


# ---- a replica that is promised a node


def test_the_pins_of_a_plan_name_its_nodes() -> None:
    """After the object is written the first waiting pod gets the first node."""
    child = replace_size(children(b.model("m", TWO), nodes=(NODE,))["sandbox-nvidia"], 2)
    done = small(TWO, deployments=(child,), pods=(b.replica(child, "one"), b.replica(child, "two")))
    assert list(patches(done, "Pin")) == ["one", "two"]
