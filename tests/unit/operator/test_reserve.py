"""Who takes the devices of those who leave: gated, its node reserved, released when they are free (case OC-099), and told to both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet import naming
from polyfleet.state import CustomState, DeploymentState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import NVIDIA_ONLY, PROFILES, patches, pinned_node, replace_size

NODE = b.sandbox(b.h100("n1"))
PIN_FOUR: dict[str, Any] = {**NVIDIA_ONLY, "runtime": {"parallelism": {"tensor": 4}}}
PIN_EIGHT: dict[str, Any] = {**NVIDIA_ONLY, "runtime": {"parallelism": {"tensor": 8}}}
A, B = b.model("a", {**PIN_FOUR, "priority": 1}), b.model("b", {**PIN_FOUR, "priority": 1})
C = b.model("c", {**PIN_EIGHT, "priority": 9})


def child_of(model: CustomState) -> DeploymentState:
    done = cycle(b.observed(models=[model], profiles=PROFILES, nodes=[NODE]))
    return b.child(b.applied(done.actions, "Deployment")[0])


CHILD = {model.name: child_of(model) for model in (A, B, C)}


def see(*pods: PodState, plans: tuple[CustomState, ...] = (), models: tuple[CustomState, ...] = (A, B, C)) -> Done:
    return cycle(b.observed(models=models, profiles=PROFILES, nodes=[NODE], deployments=CHILD.values(), pods=pods, plans=plans))


def victim(name: str, **more: Any) -> PodState:
    return b.replica(CHILD[name], f"pod-{name}", node="n1", serving=True, **more)


def promised(waits_for: str = "uid-pod-a,uid-pod-b") -> PodState:
    """C's pod after the patch."""
    return b.replica(CHILD["c"], "pod-c", annotations={naming.PLANNED_NODE: "n1", naming.WAITS_FOR: waits_for})


def test_both_victims_drain_and_the_winner_is_promised_their_node() -> None:
    """n1: A 4, B 4, both low; C wants 8. First look: both drain, once each; C's pod is made, then promised n1, gate kept."""
    first = see(victim("a"), victim("b"))
    assert sorted(patches(first, "DeletionCost")) == ["pod-a", "pod-b"]
    assert b.sizes(first.actions)[CHILD["c"].name] == 1
    second = see(victim("a", draining=True), victim("b", draining=True), b.replica(CHILD["c"], "pod-c"), plans=first.plans)
    patch = patches(second, "Reserve")["pod-c"]
    notes = {naming.PLANNED_NODE: "n1", naming.WAITS_FOR: "uid-pod-a,uid-pod-b", naming.RESERVED_SINCE: b.NOW}
    assert patch.body == {"metadata": {"annotations": notes}}
    assert patches(second, "Pin") == {}


def test_what_the_first_victim_frees_is_nobody_elses() -> None:
    """A is gone, B still drains: its four devices are C's, so A's next pod gets no node, and C stays gated."""
    waiting = b.replica(CHILD["a"], "pod-a2")
    done = see(waiting, victim("b", draining=True, deleting=True), promised())
    assert (patches(done, "Pin"), patches(done, "Reserve"), done.plan.starts) == ({}, {}, ())
    assert [replica.id for replica in done.inputs.snapshot.replicas if replica.model == "llm/c"] == ["uid-pod-c"]
    pool = next(
        status.status for status in see(waiting, victim("b", draining=True), promised()).report.statuses if status.kind == "HardwareProfile"
    )
    assert pool["devices"]["used"] <= pool["devices"]["allocatable"]


def test_the_gate_is_lifted_when_both_are_gone() -> None:
    """No other pod of C's, no other node."""
    done = see(b.replica(CHILD["a"], "pod-a2"), promised())
    assert {name: pinned_node(patch) for name, patch in patches(done, "Pin").items()} == {"pod-c": "n1"}
    assert b.sizes(done.actions)[CHILD["c"].name] == 1


def test_a_promise_waits_for_named_pods_even_if_enough_devices_are_free() -> None:
    """D wants two, four are free, but it was promised those of A (aligned blocks, a whole node): it waits for A by name."""
    d = b.model("d", {**NVIDIA_ONLY, "runtime": {"parallelism": {"tensor": 2}}})
    own = child_of(d)
    pod = b.replica(own, "pod-d", annotations={naming.PLANNED_NODE: "n1", naming.WAITS_FOR: "uid-pod-a"})
    for others, pinned in (((victim("a", draining=True),), []), ((), ["pod-d"])):
        given = {"profiles": PROFILES, "nodes": [NODE], "deployments": [own, CHILD["a"]], "pods": [pod, *others]}
        assert list(patches(cycle(b.observed(models=[A, d], **given)), "Pin")) == pinned


def test_a_promise_is_not_kept_at_the_cost_of_others() -> None:
    """Nobody is waited for any more, but a stranger's pod holds one device: not released, and not given up either."""
    done = see(b.holder("x", "n1", b.H100, 1), promised(""), models=(C,))
    assert (patches(done, "Pin"), [act.name for act in done.actions.deletes]) == ({}, [])


def test_a_promise_on_a_node_that_takes_nothing_any_more_is_taken_back() -> None:
    """Cordoned meanwhile: the pod is deleted and planned anew."""
    cordoned = replace(NODE, unschedulable=True)
    done = cycle(b.observed(models=[C], profiles=PROFILES, nodes=[cordoned], deployments=[CHILD["c"]], pods=[promised()]))
    assert [act.name for act in done.actions.deletes] == ["pod-c"]


def test_the_losers_are_told_by_whom() -> None:
    """One event per model that loses, with both priorities."""
    done = see(victim("a"), victim("b"))
    told = {note.name: note.message for note in done.report.events if note.reason == "Preempted"}
    text = "1 replicas leave for llm/c: its priority is 9, this model's is 1"
    assert told == {"a": text, "b": text}


def test_nobody_leaves_for_a_replica_that_may_be_refused() -> None:
    """Each patch that drains a victim names the Deployment that it is for."""
    done = see(victim("a"), victim("b"))
    for patch in done.actions.pod_patches:
        if patch.kind == "DeletionCost":
            assert patch.instead == (("llm", CHILD["c"].name),)


def test_the_queue_goes_by_priority_then_age() -> None:
    """Two models without any place: the higher priority is first."""
    low, high = b.model("low", {**PIN_EIGHT, "priority": 1}), b.model("high", {**PIN_EIGHT, "priority": 2})
    full = b.holder("x", "n1", b.H100, 8)
    done = cycle(b.observed(models=[low, high], profiles=PROFILES, nodes=[NODE], pods=[full]))
    place = {name: done.status("ModelDeployment", name)["shortfall"]["queuePosition"] for name in ("low", "high")}
    assert place == {"high": 1, "low": 2}


def test_a_grown_child_keeps_its_size_while_its_pod_waits() -> None:
    """A promised pod is a replica: the child is not shrunk under it."""
    done = see(victim("a", draining=True), promised("uid-pod-a"), models=(A, C))
    assert b.sizes(done.actions)[CHILD["c"].name] == 1
    assert replace_size(CHILD["c"], 1).replicas == 1
