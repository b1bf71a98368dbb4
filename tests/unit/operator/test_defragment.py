"""`stability.defragment` in the operator: who makes room serves in its new place first, and plan and events say why (case OC-012)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from polyfleet import naming
from polyfleet.state import CustomState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import NVIDIA_ONLY, PROFILES, patches, pinned_node

OLD = "2026-11-24T08:00:00Z"  # hours before the look: nobody is too young to move
NODES = tuple(b.sandbox(b.h100(name)) for name in ("n1", "n2", "n3"))
LAYOUT = {"n1": (4, 2, 1), "n2": (4, 2), "n3": (4, 2, 1)}


def of_size(name: str, devices: int, replicas: int, **more: Any) -> CustomState:
    return b.model(name, {**NVIDIA_ONLY, "runtime": {"parallelism": {"tensor": devices}}, "replicas": replicas, **more})


MODELS = {"x1": of_size("x1", 1, 2), "x2": of_size("x2", 2, 3), "x4": of_size("x4", 4, 3)}
A = of_size("a", 4, 1)
ON = b.policy({"stability": {"defragment": True}, "accuracy": {"gate": "Disabled"}})
OFF = b.policy({"stability": {"defragment": False}, "accuracy": {"gate": "Disabled"}})


def _children() -> dict[str, Any]:
    found = {}
    for name, model in {**MODELS, "a": A}.items():
        done = cycle(b.observed(models=[model], profiles=PROFILES, nodes=NODES, policy=OFF))
        (manifest,) = b.applied(done.actions, "Deployment")
        found[name] = b.child(manifest)
    return found


CHILD = _children()


def running() -> dict[str, PodState]:
    pods = [
        b.replica(CHILD[f"x{k}"], f"x{k}-{node}", node=node, serving=True, created=OLD) for node, sizes in LAYOUT.items() for k in sizes
    ]
    return {pod.name: pod for pod in pods}


def see(pods: Any, *, policy: CustomState = ON, plans: tuple[CustomState, ...] = (), models: tuple[CustomState, ...] | None = None) -> Done:
    asked = models or (A, *MODELS.values())
    return cycle(
        b.observed(models=asked, profiles=PROFILES, nodes=NODES, deployments=CHILD.values(), pods=pods, plans=plans, policy=policy)
    )


def test_without_the_field_nobody_moves() -> None:
    done = see(running().values(), policy=OFF)
    assert (done.plan.stop, patches(done, "DeletionCost")) == ((), {})
    assert done.status("ModelDeployment", "a")["shortfall"]["replicas"] == 1


def test_two_move_and_nobody_leaves_before_its_new_place_serves() -> None:
    """First look: the plan is written with its reason, two models grow by one, a's pod is made, and no replica drains."""
    done = see(running().values())
    assert (len(done.plan.stop), len(done.plan.starts)) == (2, 3)
    assert patches(done, "DeletionCost") == {}
    grown = {name: b.sizes(done.actions)[child.name] for name, child in CHILD.items()}
    before = {"x1": 2, "x2": 3, "x4": 3, "a": 0}
    moved = Counter(name.split("-")[0] for name, pod in running().items() if pod.uid in done.plan.stop)
    assert {name: grown[name] - before[name] for name in grown} == {"x1": moved["x1"], "x2": moved["x2"], "x4": moved["x4"], "a": 1}


def test_the_plan_and_the_events_say_why() -> None:
    done = see(running().values())
    (new,) = done.written
    (row,) = new.status["conditions"]
    assert row["reason"] == "Proposed"
    assert "llm/a needs 4 devices on one node" in row["message"]
    assert "2 moves make room on n" in row["message"]
    assert new.status["changes"] == {"add": 1, "move": 2, "remove": 0}
    steps = [(step["deployment"], step["delta"], step["reason"]) for step in new.status["steps"]]
    assert steps[-1] == ("llm/a", 1, "RoomMade")
    assert len([s for s in steps if s[1:] == (0, "MovedForRoom")]) == 2
    told = [note.message for note in done.report.events if note.reason == "MovedForRoom"]
    assert len(told) == 2
    assert all("so that llm/a fits there" in text for text in told)


def test_the_whole_way() -> None:
    """The written plan is carried on look by look: new pods pinned, old ones drained only when those serve, then a's gate is lifted."""
    pods = running()
    first = see(pods.values())
    moved = sorted(name for name, pod in pods.items() if pod.uid in first.plan.stop)
    source = {pods[name].node for name in moved}
    (home,) = {s.node for s in first.plan.starts if s.model == "llm/a"}
    assert source == {home}
    owner = {name: name.split("-")[0] for name in moved}

    # The ReplicaSets have made gated pods: the two that move are pinned at once, a's is promised its node and waits for both by name.
    gated = {f"new-{owner[name]}": b.replica(CHILD[owner[name]], f"new-{owner[name]}") for name in moved}
    gated["new-a"] = b.replica(CHILD["a"], "new-a")
    second = see([*pods.values(), *gated.values()], plans=first.plans)
    assert second.written == ()
    pins = {name: pinned_node(patch) for name, patch in patches(second, "Pin").items()}
    assert sorted(pins) == sorted(f"new-{owner[name]}" for name in moved)
    assert home not in pins.values()
    note = patches(second, "Reserve")["new-a"].body["metadata"]["annotations"]
    assert (note[naming.PLANNED_NODE], note[naming.WAITS_FOR]) == (home, ",".join(sorted(pods[name].uid for name in moved)))
    assert patches(second, "DeletionCost") == {}

    # They start; nobody leaves yet.
    promised = b.replica(CHILD["a"], "new-a", annotations=note)
    starting = [b.replica(CHILD[owner[name]], f"new-{owner[name]}", node=pins[f"new-{owner[name]}"]) for name in moved]
    third = see([*pods.values(), *starting, promised], plans=second.plans)
    assert third.written == ()
    assert (patches(third, "DeletionCost"), set(third.plan.stop)) == ({}, {pods[name].uid for name in moved})

    # One serves: its old self drains, the other's stays.
    one, other = moved
    serving = [b.replica(CHILD[owner[n]], f"new-{owner[n]}", node=pins[f"new-{owner[n]}"], serving=n == one) for n in moved]
    fourth = see([*pods.values(), *serving, promised], plans=third.plans)
    assert fourth.written == ()
    assert sorted(patches(fourth, "DeletionCost")) == [one]
    assert other not in patches(fourth, "DeletionCost")

    # Both have gone: a's gate is lifted, and the fleet is at rest.
    serving = [b.replica(CHILD[owner[n]], f"new-{owner[n]}", node=pins[f"new-{owner[n]}"], serving=True) for n in moved]
    left = [pod for name, pod in pods.items() if name not in moved]
    fifth = see([*left, *serving, promised], plans=fourth.plans)
    assert fifth.written == ()
    assert {name: pinned_node(patch) for name, patch in patches(fifth, "Pin").items()} == {"new-a": home}
    done = b.replica(CHILD["a"], "new-a", node=home, serving=True)
    last = see([*left, *serving, done], plans=fifth.plans)
    assert (last.written, last.plan.stop, last.plan.starts, last.decision.done) == ((), (), (), True)


def test_a_higher_priority_is_not_kept_waiting() -> None:
    """The same fleet, and a comes before all: the planner moves for it as it always did, and who leaves for a does so at once. Who
    only makes room for one that gives way, of its own priority, serves elsewhere first."""
    high = replace(A, spec={**A.spec, "priority": 5})
    done = see(running().values(), models=(high, *MODELS.values()))
    waited_for = {uid for start in done.plan.starts if start.model == "llm/a" for uid in start.after}
    leaving = {pod.name for pod in running().values() if pod.uid in waited_for}
    assert leaving
    assert set(patches(done, "DeletionCost")) == leaving
    assert not any("llm/a fits" in note.message for note in done.report.events if note.reason == "MovedForRoom")


def test_no_moves_left_in_this_hour() -> None:
    none = b.policy({"stability": {"defragment": True, "maxMovesPerHour": 1}, "accuracy": {"gate": "Disabled"}})
    assert see(running().values(), policy=none).plan.stop == ()
