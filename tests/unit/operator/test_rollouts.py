"""Rollouts from end to end on a small cluster that moves: full fleets, broken revisions, rollbacks, deadlines, and many at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet import overdue
from polyfleet.decide import prepare
from polyfleet.render import pod
from polyfleet.state import CustomState, NodeState

from tests.unit.operator import builders as b
from tests.unit.operator.rolling import REQUIRED, Cluster, argument

GATES = pytest.mark.parametrize("policy", [b.ungated(), REQUIRED], ids=["Disabled", "Required"])
V1, V2, V3 = "--v1", "--v2", "--v3"
ONE = b.profiles("sandbox-nvidia")


def runtime(arg: str, tensor: int = 2) -> dict[str, Any]:
    return {"args": [arg], "parallelism": {"tensor": tensor}}


def model(name: str, replicas: int, tensor: int = 2, **more: Any) -> CustomState:
    spec = {"replicas": replicas, "runtime": runtime(V1, tensor), "placement": {"profiles": ["sandbox-nvidia"]}, **more}
    return b.model(name, spec)


def node(name: str, devices: int) -> NodeState:
    return b.sandbox(b.h100(name, devices))


_SETTLED: dict[str, Cluster] = {}  # by what they were made of; every test goes on with a copy of its own


def settled(models: list[CustomState], nodes: list[NodeState], policy: CustomState, profiles: tuple[CustomState, ...] = ONE) -> Cluster:
    """Every model serves whole with its first revision. How it rolls from there makes no difference to how it came up."""
    early = [replace(m, spec={key: value for key, value in m.spec.items() if key != "rollout"}) for m in models]
    key = repr((early, nodes, policy, profiles))
    if key not in _SETTLED:
        cluster = _SETTLED[key] = Cluster({m.name: m for m in early}, tuple(nodes), policy, profiles)
        cluster.until(lambda: all(cluster.serving(m.name) == m.spec["replicas"] for m in models))
        cluster.turn()
        cluster.watch = True
    found = _SETTLED[key].again()
    found.models = {m.name: replace(m, status=found.models[m.name].status) for m in models}
    return found


# ---- full fleets (OC-055)


@GATES
def test_a_full_fleet_rolls_one_at_a_time_without_surge(policy: CustomState) -> None:
    """MD-b: three nodes of two devices, three replicas on two each, maxUnavailable 1: never fewer than two serve, nothing waits."""
    c = settled([model("b", 3, rollout={"maxUnavailable": 1})], [node(f"n{i}", 2) for i in range(3)], policy)
    c.spec("b", runtime=runtime(V2))
    c.until(lambda: c.revisions("b") == {V2: 3} and c.row("b", "Promoted")[0] == "True")
    assert c.least["b"] == 2
    assert len(c.of("b")) == 3


@GATES
def test_one_replica_on_all_devices_waits_for_leave(policy: CustomState) -> None:
    """MD-a stays on v1 and says what it needs; no pod waits anywhere. With allowDowntime it is replaced in place."""
    c = settled([model("a", 1)], [node("n1", 2)], policy)
    c.spec("a", runtime=runtime(V2))
    c.turns(4)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "needs 2 free devices" in message
    assert "spec.rollout.allowDowntime: true" in message
    assert (c.row("a", "Ready")[0], c.least["a"], len(c.of("a"))) == ("True", 1, 1)
    c.spec("a", rollout={"allowDowntime": True})
    c.until(lambda: c.revisions("a") == {V2: 1} and c.row("a", "Promoted")[0] == "True")
    assert len(c.of("a")) == 1


@GATES
def test_a_version_without_a_ready_replica_takes_no_traffic(policy: CustomState) -> None:
    """OC-056: one device, v2 wants two replicas: once one of v2 serves it is all that serves, and the status says 1 of 2."""
    c = settled([model("a", 1, 1, rollout={"allowDowntime": True})], [node("n1", 1)], policy)
    c.spec("a", runtime=runtime(V2, 1), replicas=2)
    c.until(lambda: c.revisions("a") == {V2: 1})
    c.turns(3)
    assert c.revisions("a") == {V2: 1}
    assert (c.models["a"].status["readyReplicas"], c.models["a"].status["desiredReplicas"]) == (1, 2)
    assert c.models["a"].status["shortfall"]["replicas"] == 1


@GATES
def test_broken_replicas_are_replaced_first(policy: CustomState) -> None:
    """OC-057: two of four crash-loop on a full fleet, maxUnavailable 1. The fix replaces these two before it touches a good one."""
    c = settled([model("a", 4, 1, rollout={"maxUnavailable": 1})], [node("n1", 4)], policy)
    bad = c.sick = set(sorted(c.pods)[:2])
    c.watch = False
    c.turns(2)
    assert c.serving("a") == 2
    c.watch = True
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: not bad & set(c.pods))
    assert c.least["a"] == 2  # no good one left before the broken ones were gone
    c.until(lambda: c.revisions("a") == {V2: 4} and c.row("a", "Promoted")[0] == "True")
    assert c.least["a"] == 2


# ---- nothing rolls that nobody changed


@GATES
def test_a_lost_pod_is_replaced_as_it_was(policy: CustomState) -> None:
    """OC-061: one replacement of the same revision and no new report; the other two are untouched."""
    c = settled([model("a", 3, 1)], [node("n1", 8)], policy)
    before, children, reports = set(c.pods), set(c.deployments), set(c.reports)
    lost = sorted(before)[0]
    del c.pods[lost]
    c.until(lambda: c.serving("a") == 3)
    assert len(set(c.pods) - before) == 1
    assert before - set(c.pods) == {lost}
    assert (set(c.deployments), set(c.reports)) == (children, reports)


@GATES
def test_an_operator_of_the_next_version_restarts_nothing(policy: CustomState, monkeypatch: pytest.MonkeyPatch) -> None:
    """OC-062: its template has one argument more, and no spec changed: what runs stays, and that is said."""
    c = settled([model(f"m{i}", 2, 1) for i in range(3)], [node("n1", 8)], policy)
    pods, children = set(c.pods), dict(c.deployments)
    before = pod.arguments
    monkeypatch.setattr(pod, "arguments", lambda *given: (*before(*given), "--next"))
    c.turns(4)
    assert set(c.pods) >= pods
    assert {name: c.deployments[name].spec for name in children} == {name: child.spec for name, child in children.items()}
    assert all(c.revisions(name) == {V1: 2} for name in c.models)
    assert {c.row(name, "Promoted")[1] for name in c.models} == {"ProfileOutdated"}


# ---- a Block after most replicas were replaced (OC-058)


def mostly_replaced(size: int, devices: tuple[int, ...], **rollout: Any) -> Cluster:
    """All but two of the replicas are on v2 and serve."""
    c = settled([model("a", size, 1, rollout=rollout)], [node(f"n{i}", count) for i, count in enumerate(devices)], REQUIRED)
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: c.revisions("a").get(V2, 0) >= size - 2)
    assert c.revisions("a").get(V1, 0) > 0
    c.least.clear()
    return c


@pytest.mark.parametrize(("size", "devices", "unavailable"), [(10, (8, 8), 0), (5, (5,), 1)])
def test_a_late_block_goes_back_without_losing_capacity(size: int, devices: tuple[int, ...], unavailable: int) -> None:
    """Ready >= size - maxUnavailable at each step; v2 leaves only as v1 serves; then v2 is not tried again."""
    c = mostly_replaced(size, devices, maxUnavailable=unavailable)
    c.rejudge(V2, "Block", "Tokens in Code: estimate 9.1, limit 2")
    c.until(lambda: c.revisions("a") == {V1: size})
    assert c.least["a"] >= size - unavailable
    c.turns(3)
    assert c.revisions("a") == {V1: size}
    assert len(c.of("a")) == size
    assert c.row("a", "Promoted")[:2] == ("False", "RolledBack")
    assert "estimate 9.1" in c.row("a", "Promoted")[2]
    assert "RolledBack" in c.notes


def test_a_third_revision_during_a_rollback_costs_no_capacity_either() -> None:
    """Five on five devices, maxUnavailable 1: what leaves for the third revision and what the Block takes out of traffic are one count."""
    c = mostly_replaced(5, (5,), maxUnavailable=1)
    c.rejudge(V2, "Block")
    c.turns(2)
    c.spec("a", runtime=runtime(V3, 1))
    c.until(lambda: c.revisions("a") == {V3: 5})
    assert c.least["a"] == 4


def test_a_block_leaves_the_last_capacity_though_all_may_be_unavailable() -> None:
    """One replica of each revision; that of v1 is down and v2 is blocked. Until a replica of v1 is up again, v2 is all that answers."""
    c = settled([model("a", 2, 1)], [node("n1", 8)], REQUIRED)
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: c.revisions("a") == {V1: 1, V2: 1} or c.revisions("a") == {V1: 1, V2: 2})
    c.spec("a", paused=True)
    c.turns(3)
    c.sick = {pod.name for pod in c.of("a", V1)}
    c.turn()
    assert set(c.revisions("a")) == {V2}
    c.least.clear()
    c.rejudge(V2, "Block")
    c.spec("a", paused=False, rollout={"maxUnavailable": "100%"})
    c.turns(4)
    assert c.least["a"] >= 1
    c.sick.clear()
    c.until(lambda: c.revisions("a") == {V1: 2})
    assert c.least["a"] >= 1


def test_without_auto_rollback_the_blocked_ones_stay_as_capacity() -> None:
    """Nothing leaves and nothing is added; the status says what would help."""
    c = mostly_replaced(6, (8, 8), autoRollback=False)
    c.rejudge(V2, "Block")
    c.turns(6)
    assert c.revisions("a").get(V2, 0) >= 4
    assert c.least["a"] == 6
    assert c.row("a", "Promoted")[1] == "RolloutBlocked"
    assert "autoRollback: true would bring back the earlier revision" in c.row("a", "AccuracyVerified")[2]


def test_without_an_earlier_child_the_last_capacity_stays() -> None:
    c = settled([model("a", 2, 1)], [node("n1", 8)], REQUIRED)
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: c.revisions("a") == {V2: 2} and {argument(d) for d in c.deployments.values()} == {V2})
    c.least.clear()
    c.rejudge(V2, "Block")
    c.turns(5)
    assert (c.revisions("a"), c.least["a"]) == ({V2: 2}, 2)
    assert "no verified revision is left: set the spec back to one" in c.row("a", "AccuracyVerified")[2]
    # Back to what was verified, by hand: it needs no new verdict, its report is still there.
    c.spec("a", runtime=runtime(V1, 1))
    c.until(lambda: c.revisions("a") == {V1: 2})
    assert c.least["a"] == 2


def test_what_dies_during_a_rollout_is_replaced_as_it_was() -> None:
    """The candidate of v2 is under test for long: a lost replica of v1 does not wait for its verdict."""
    c = settled([model("a", 3, 1)], [node("n1", 8)], REQUIRED)
    c.judged = lambda child: "" if argument(child) == V2 else "Promote"
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: len(c.of("a", V2)) == 1)
    del c.pods[c.of("a", V1)[0].name]
    c.until(lambda: c.revisions("a") == {V1: 3}, 5)
    assert len(c.of("a", V2)) == 1


# ---- the progress deadline


def test_a_candidate_that_never_comes_up_is_given_up() -> None:
    """30 minutes by default; the revision is not tried again until the spec asks for another one."""
    c = settled([model("a", 2, 1)], [node("n1", 8)], REQUIRED)
    c.broken = lambda child: argument(child) == V2
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: any(pod.node for pod in c.of("a", V2)))
    c.turns(25)
    assert len(c.of("a", V2)) == 1
    assert c.row("a", "Promoted")[1] == "AwaitingAccuracy"
    c.until(lambda: not c.of("a", V2), 12)
    (entry,) = c.models["a"].status["rolledBack"]
    assert (entry["profile"], entry["reason"]) == ("sandbox-nvidia", "no progress for 30m: CrashLoopBackOff on n1")
    c.turns(5)
    assert not c.of("a", V2)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolledBack")
    assert "no progress for 30m" in message
    assert "not tried again until the spec asks for another revision" in message
    assert "no progress" in c.notes["RolledBack"].message
    assert (c.row("a", "Ready")[0], c.least["a"]) == ("True", 2)
    c.spec("a", runtime=runtime(V3, 1))
    c.until(lambda: c.revisions("a") == {V3: 2} and c.row("a", "Promoted")[0] == "True")
    assert "rolledBack" not in c.models["a"].status


def test_a_revision_that_never_comes_up_is_given_up_without_a_gate_too() -> None:
    c = settled([model("a", 4, 1, rollout={"progressDeadline": "5m", "maxUnavailable": 1})], [node("n1", 4)], b.ungated())
    c.broken = lambda child: argument(child) == V2
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: bool(c.models["a"].status.get("rolledBack")))
    c.until(lambda: c.revisions("a") == {V1: 4})
    c.turns(4)
    assert (c.revisions("a"), len(c.of("a")), c.least["a"]) == ({V1: 4}, 4, 3)
    assert c.row("a", "Promoted")[1] == "RolledBack"


@GATES
def test_without_auto_rollback_it_stays_and_says_so(policy: CustomState) -> None:
    c = settled([model("a", 2, 1, rollout={"progressDeadline": "5m", "autoRollback": False})], [node("n1", 8)], policy)
    c.broken = lambda child: argument(child) == V2
    c.spec("a", runtime=runtime(V2, 1))
    c.turns(12)
    assert len(c.of("a", V2)) == 1
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "no progress for 5m" in message
    assert "spec.rollout.autoRollback is false" in message
    assert c.least["a"] == 2


def test_time_alone_ends_no_check() -> None:
    """OC-059: a candidate that is up and undecided for hours is neither promoted nor given up."""
    c = settled([model("a", 1, 1, rollout={"progressDeadline": "5m"})], [node("n1", 8)], REQUIRED)
    c.judged = lambda child: "" if argument(child) == V2 else "Promote"
    c.spec("a", runtime=runtime(V2, 1))
    c.turns(20)
    assert len(c.of("a", V2)) == 1
    assert c.revisions("a") == {V1: 1}
    assert c.row("a", "Promoted")[1] == "AwaitingAccuracy"


def test_a_first_revision_is_never_given_up() -> None:
    """Nothing else serves: an image registry that comes back after an hour finds the model still trying."""
    c = Cluster({"a": model("a", 1, 1, rollout={"progressDeadline": "5m"})}, (node("n1", 8),), REQUIRED, broken=lambda _: True)
    c.turns(12)
    assert len(c.of("a")) == 1
    c.broken = lambda _: False
    c.until(lambda: c.revisions("a") == {V1: 1})


# ---- many at a time (OC-030)


@GATES
def test_at_most_so_many_models_roll_at_once(policy: CustomState) -> None:
    """Four models change together, two at a time; all of them end on the new revision."""
    spec = {**policy.spec, "stability": {"maxConcurrentRollouts": 2}}
    names = [f"m{i}" for i in range(4)]
    c = settled([model(name, 2, 1) for name in names], [node(f"n{i}", 8) for i in range(2)], b.policy(spec))
    for name in names:
        c.spec(name, runtime=runtime(V2, 1))
    most = 0
    for _ in range(60):
        c.turn()
        rolling = [name for name in names if c.of(name, V1) and c.of(name, V2)]
        most = max(most, len(rolling))
        if all(c.revisions(name) == {V2: 2} for name in names):
            break
    assert most == 2
    assert all(c.revisions(name) == {V2: 2} for name in names)
    assert all(c.least[name] == 2 for name in names)


def test_a_model_that_waits_for_its_turn_says_so() -> None:
    c = settled([model(f"m{i}", 2, 1) for i in range(2)], [node("n1", 8)], b.policy({"stability": {"maxConcurrentRollouts": 1}}))
    for name in ("m0", "m1"):
        c.spec(name, runtime=runtime(V2, 1))
    c.turn()
    assert c.row("m1", "Promoted")[1] == "RolloutInProgress"
    assert "maxConcurrentRollouts" in c.row("m1", "Promoted")[2]
    assert "maxConcurrentRollouts" not in c.row("m0", "Promoted")[2]


def edited_profile(policy: CustomState, **rollout: Any) -> Cluster:
    """Three models of two replicas serve; then the profile's engine gets another image."""
    models = [model(f"m{i}", 2, 1, rollout=rollout) for i in range(3)]
    c = settled(models, [node("n0", 8), node("n1", 8)], policy)
    engine = c.profiles[0].spec["engines"]["sandbox"]
    c.profiles = (b.profile("sandbox-nvidia", engines={"sandbox": {**engine, "image": "registry.example/engine:v2"}}),)
    return c


def images(c: Cluster, name: str) -> set[str]:
    return {c.deployments[c.owners[pod.name]].spec["template"]["spec"]["containers"][0]["image"][-2:] for pod in c.of(name)}


def test_an_edited_profile_rolls_through_the_gate_some_models_at_a_time() -> None:
    """OC-030: never a replica fewer, at most two models at once; a Block keeps every model where it is."""
    c = edited_profile(b.policy({**REQUIRED.spec, "stability": {"maxConcurrentRollouts": 2}}))
    most = 0
    for _ in range(60):
        c.turn()
        most = max(most, sum(1 for name in c.models if len(images(c, name)) == 2))
        if all(images(c, name) == {"v2"} and c.serving(name) == 2 for name in c.models):
            break
    assert most == 2
    assert all(images(c, name) == {"v2"} for name in c.models)
    assert all(c.least[name] == 2 for name in c.models)


@pytest.mark.parametrize(("policy", "rollout"), [(REQUIRED, {"approval": "Manual"}), (b.ungated(), {})])
def test_an_edited_profile_waits_for_a_person_or_for_a_gate(policy: CustomState, rollout: dict[str, Any]) -> None:
    c = edited_profile(policy, **rollout)
    pods = set(c.pods)
    c.turns(4)
    assert all(c.serving(name) == 2 for name in c.models)
    assert pods <= set(c.pods)
    assert {c.row(name, "Promoted")[1] for name in c.models} == {"ProfileOutdated"}


def test_an_edited_profile_that_is_blocked_changes_nothing() -> None:
    c = edited_profile(REQUIRED)
    c.judged = lambda child: "Block" if "v2" in child.spec["template"]["spec"]["containers"][0]["image"] else "Promote"
    c.until(lambda: {c.row(name, "Promoted")[1] for name in c.models} == {"RolledBack"})
    assert all(c.revisions(name) == {V1: 2} and c.least[name] == 2 for name in c.models)


def test_the_cycle_is_woken_when_a_deadline_passes() -> None:
    """Five minutes after the candidate was bound, and never while nothing is on its way."""
    c = settled([model("a", 1, 1, rollout={"progressDeadline": "5m"})], [node("n1", 8)], REQUIRED)
    assert overdue.next_due(prepare(c.seen(), now=c.now).models.values(), c.now) is None
    c.broken = lambda child: argument(child) == V2
    c.spec("a", runtime=runtime(V2, 1))
    c.until(lambda: any(pod.node for pod in c.of("a", V2)))
    views = prepare(c.seen(), now=c.now).models.values()
    assert overdue.next_due(views, c.now) == 240.0  # it was bound in the turn before, a minute ago
    (late,) = next(iter(views)).late
    assert (late.profile, late.over) == ("sandbox-nvidia", False)
    after = prepare(c.seen(), now=late.due).models["llm/a"]
    assert [item.over for item in after.late] == [True]
