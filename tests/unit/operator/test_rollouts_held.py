"""Rollouts that something holds up: no room, no verdict on their own hardware, a pause. Each says why and what would help, and holds up
nobody else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from polyfleet import naming
from polyfleet.solver_process import Solved
from polyfleet.state import CustomState, NodeState

from placement.types import Demand, Reason, Shortfall, ShortfallReason, Snapshot, Warm
from tests.unit.operator import builders as b
from tests.unit.operator.rolling import REQUIRED, Cluster, argument
from tests.unit.operator.test_gate import InProcess
from tests.unit.operator.test_rollouts import GATES, V1, V2, model, node, runtime, settled


def ppu(name: str, devices: int) -> NodeState:
    return b.sandbox(b.ppu(name, devices))


def on(profile: str) -> dict[str, list[str]]:
    return {"profiles": [profile]}


BOTH = b.profiles("sandbox-nvidia", "sandbox-ppu")
ANY = {"profiles": ["sandbox-nvidia", "sandbox-ppu"]}


# ---- no room


@GATES
def test_a_rollout_without_room_takes_nobodys_turn(policy: CustomState) -> None:
    """One at a time. The most urgent model has all devices of its kind and may not stop; the other one rolls meanwhile."""
    one = b.policy({**policy.spec, "stability": {"maxConcurrentRollouts": 1}})
    models = [model("a", 1, 2, priority=100), model("z", 1, 1, placement=on("sandbox-ppu"))]
    c = settled(models, [node("n1", 2), ppu("p1", 4)], one, BOTH)
    c.spec("a", runtime=runtime(V2, 2))
    c.spec("z", runtime=runtime(V2, 1))
    c.until(lambda: c.revisions("z") == {V2: 1}, 12)
    assert (c.revisions("a"), c.least) == ({V1: 1}, {"a": 1, "z": 1})
    c.turns(2)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "needs 2 free devices" in message
    assert "spec.rollout.allowDowntime: true" in message


@GATES
def test_two_rollouts_without_room_both_say_so_and_stay_as_they_are(policy: CustomState) -> None:
    """Each has had its turn: nothing changes from one cycle to the next, and nothing more is asked of the placer."""
    one = b.policy({**policy.spec, "stability": {"maxConcurrentRollouts": 1}})
    c = settled([model("a", 1, 2), model("z", 1, 4, placement=on("sandbox-ppu"))], [node("n1", 2), ppu("p1", 4)], one, BOTH)
    c.spec("a", runtime=runtime(V2, 2))
    c.spec("z", runtime=runtime(V2, 4))
    c.turns(3)
    assert {name: c.row(name, "Promoted")[1] for name in c.models} == {"a": "RolloutBlocked", "z": "RolloutBlocked"}
    before, asked = {name: m.status for name, m in c.models.items()}, len(c.solver.asked)
    c.turns(3)
    assert {name: m.status for name, m in c.models.items()} == before
    assert len(c.solver.asked) == asked
    c.spec("z", rollout={"allowDowntime": True})
    c.until(lambda: c.revisions("z") == {V2: 1}, 12)
    assert c.revisions("a") == {V1: 1}


class OneSolve(InProcess):
    """Finds no room for the model at first, and has it as soon as anything else is asked for."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model

    async def solve(self, snapshot: Snapshot, demand: Demand, warm: Warm | None) -> Solved:
        found = await super().solve(snapshot, demand, warm)
        if len(self.asked) > 1:
            return found
        starts = tuple(start for start in found.plan.starts if start.model != self.model)
        reasons = (ShortfallReason(Reason.DEVICES_UNAVAILABLE, missing=1),)
        return replace(found, plan=replace(found.plan, starts=starts, shortfalls=(Shortfall(self.model, 1, reasons),)))


def test_a_rollout_that_finds_room_after_it_passed_its_turn_on_waits_for_the_next() -> None:
    """One at a time. Model a finds no devices, so z has its turn; with z's turn there would be devices for both, and one may begin."""
    one = b.policy({**b.ungated().spec, "stability": {"maxConcurrentRollouts": 1}})
    c = settled([model("a", 1, 1), model("z", 1, 1)], [node("n1", 8)], one)
    for name in c.models:
        c.spec(name, runtime=runtime(V2, 1))
    c.planner.solver = OneSolve("llm/a")  # type: ignore[assignment]
    c.turn()
    assert {name: len(c.of(name, V2)) for name in c.models} == {"a": 0, "z": 1}
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutInProgress")
    assert "maxConcurrentRollouts" in message
    c.until(lambda: c.revisions("a") == c.revisions("z") == {V2: 1})
    assert c.least == {"a": 1, "z": 1}


def test_candidates_without_room_take_nobodys_place() -> None:
    """Four new models find no devices at all; the fifth, less urgent one has all it needs and is tried in the same cycle."""
    urgent = [model(f"m{i}", 1, 4, priority=10) for i in range(4)]
    c = Cluster(
        {m.name: m for m in [*urgent, model("z", 1, 1, placement=on("sandbox-ppu"))]}, (node("n1", 2), ppu("p1", 4)), REQUIRED, BOTH
    )
    c.until(lambda: c.serving("z") == 1, 8)
    assert {c.row(m.name, "Placed")[1] for m in urgent} == {"NeverFits"}
    assert "allowDowntime" not in c.row("m0", "Promoted")[2]  # nothing is there that could stop
    assert c.row("m0", "Placed")[2] == "sandbox-nvidia: need 4, largest node has 2 installed"
    (why,) = c.models["m0"].status["shortfall"]["reasons"]
    assert why["hint"].endswith("kubectl edit mdep m0 -n llm")


def test_a_candidate_without_room_says_what_it_lacks_though_there_is_a_record() -> None:
    """The model is to run on other hardware, which is full: what was captured on the first does not help it, free devices would."""
    c = settled([model("a", 1, 1)], [node("n1", 2), ppu("p1", 2)], REQUIRED, BOTH)
    c.others = (b.holder("x", "p1", b.PPU, 2),)
    c.spec("a", placement=on("sandbox-ppu"))
    c.turns(3)
    assert c.serving("a") == 1
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "the candidate needs 1 free devices in sandbox-ppu (largest free 0)" in message
    assert "the old version keeps serving" in message
    c.others = ()
    c.until(lambda: {pod.node for pod in c.of("a")} == {"p1"}, 12)
    assert c.least["a"] == 1


def test_broken_replicas_on_a_full_fleet_that_may_lose_none_say_what_would_help() -> None:
    """Two of four are broken, maxUnavailable is 0: nothing stops, and the condition names both ways out."""
    c = settled([model("a", 4, 1)], [node("n1", 4)], REQUIRED)
    c.sick = set(sorted(c.pods)[:2])
    c.turns(2)
    assert c.serving("a") == 2
    c.spec("a", runtime=runtime(V2, 1))
    c.turns(3)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "spec.rollout.maxUnavailable: 1, so that it takes the place of a replica that does not serve" in message
    c.spec("a", rollout={"maxUnavailable": 1})
    c.until(lambda: c.revisions("a") == {V2: 4})


@GATES
def test_a_full_fleet_that_may_lose_none_says_why_it_does_not_roll(policy: CustomState) -> None:
    """Four healthy replicas on all four devices, maxUnavailable 0 by default: either setting would let it roll one at a time."""
    c = settled([model("a", 4, 1)], [node("n1", 4)], policy)
    c.spec("a", runtime=runtime(V2, 1))
    c.turns(3)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "needs 1 free devices" in message
    assert "spec.rollout.allowDowntime: true" in message
    assert "spec.rollout.maxUnavailable: 1, so that one replica stops for it (now none of 4 may)" in message
    assert (c.revisions("a"), c.least["a"]) == ({V1: 4}, 4)
    c.spec("a", rollout={"maxUnavailable": 1})
    c.until(lambda: c.revisions("a") == {V2: 4})
    assert c.least["a"] == 3


def test_a_shortage_that_is_over_leaves_no_trace() -> None:
    """OC-063: once it serves, no field says what was missing."""
    c = Cluster({"a": model("a", 1, 1)}, (node("n1", 1),), b.ungated(), others=(b.holder("x", "n1", b.H100, 1),))
    c.turns(2)
    assert c.row("a", "Ready")[:2] == ("False", "DevicesUnavailable")
    assert c.models["a"].status["shortfall"]["replicas"] == 1
    c.others = ()
    c.until(lambda: c.row("a", "Ready")[0] == "True")
    said = json.dumps(c.models["a"].status)
    assert not [word for word in ("Unavailable", "largest free", "shortfall", "no place", "creating") if word in said]


# ---- no verdict on its own hardware


def two_kinds(**more: Any) -> Cluster:
    """It serves on the cheaper of two kinds of devices, both are allowed; version 2 is wrong on that one."""
    c = settled([model("a", 1, 1, placement=ANY, **more)], [node("n1", 2), ppu("p1", 2)], REQUIRED, BOTH)
    assert {pod.node for pod in c.of("a")} == {"p1"}
    c.judged = lambda child: "Block" if argument(child) == V2 and "ppu" in child.labels[naming.PROFILE] else "Promote"
    return c


def test_other_hardware_is_tried_where_the_own_one_is_blocked() -> None:
    """The earlier version serves all the time. The dearer device is no reason not to try: nothing else can serve what is wanted."""
    c = two_kinds()
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: c.serving("a", V2) == 1, 15)
    c.turns(3)
    assert (c.revisions("a"), c.least["a"]) == ({V2: 1}, 1)
    status, _, message = c.row("a", "Promoted")
    assert status == "True"
    assert "not used: sandbox-ppu: NotEquivalent" in message


def test_where_all_hardware_is_blocked_the_old_version_goes_on() -> None:
    c = two_kinds()
    c.judged = lambda child: "Block" if argument(child) == V2 else "Promote"
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: len(c.models["a"].status["accuracy"]) == 3, 20)
    c.turns(15)
    assert (c.revisions("a"), len(c.of("a")), c.least["a"]) == ({V1: 1}, 1, 1)
    assert c.row("a", "Promoted")[1] == "RolledBack"
    summary = c.models["a"].status["summary"]
    assert (summary["accuracy"], summary["reason"]) == ("1/1,Blocked:sandbox-nvidia,Blocked:sandbox-ppu", "RolledBack")
    ready = c.row("a", "Ready")
    assert ready[:2] == ("True", "Ready")
    assert ready[2].startswith("1 of 1 replicas serve; RolledBack: sandbox-")


# ---- a pause


@GATES
@pytest.mark.parametrize("lost", [V1, V2])
def test_what_dies_in_a_pause_is_replaced_as_it_was(policy: CustomState, lost: str) -> None:
    """Replicas of both revisions serve when the rollout is paused; one of them dies. It comes back with its own revision, and there are
    never more than before."""
    c = settled([model("a", 4, 1, rollout={"maxUnavailable": 1})], [node("n1", 4)], policy)
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: c.revisions("a").get(V2, 0) == 2)
    c.spec("a", paused=True)
    c.turns(4)
    before = c.revisions("a")
    assert (set(before), sum(before.values()), len(c.of("a"))) == ({V1, V2}, 4, 4)
    del c.pods[c.of("a", lost)[0].name]
    most = 0
    for _ in range(6):
        c.turn()
        most = max(most, len(c.of("a")))
    assert (c.revisions("a"), most) == (before, 4)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "Paused")
    assert (
        message
        == f"{before[V2]} of 4 replicas serve with the wanted revision, {before[V1]} run what was wanted before; spec.paused is true"
    )


# ---- one thing is said once


def test_two_revisions_on_the_same_hardware_are_named_once() -> None:
    c = settled([model("a", 3, 1)], [node("n1", 8)], REQUIRED)
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: set(c.revisions("a")) == {V1, V2})
    c.turn()
    assert c.row("a", "AccuracyVerified") == ("True", "Equivalent", "sandbox-nvidia")
    assert c.notes["PlanChanged"].message == "3 replicas and 1 under test: 4 on sandbox-nvidia (sandbox-nvidia, 1 devices each)"


def test_a_revision_that_was_given_up_is_named_once() -> None:
    c = settled([model("a", 4, 1, rollout={"progressDeadline": "5m", "maxUnavailable": 1})], [node("n1", 4)], b.ungated())
    c.broken = lambda child: argument(child) == V2
    c.spec("a", runtime=runtime(V2, 1))
    told: set[str] = set()
    for _ in range(20):
        c.turn()
        told |= {c.notes["RolledBack"].message} if "RolledBack" in c.notes else set()
    assert c.revisions("a") == {V1: 4}
    assert told == {"sandbox-nvidia (default): no progress for 5m: CrashLoopBackOff on n1; the earlier revision goes on"}
