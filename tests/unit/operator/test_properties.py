"""Properties of the pure half: the order of observed lists never matters, and devices are never promised twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polyfleet import naming
from polyfleet.decide import act, prepare, report
from polyfleet.state import NodeState, Observed, PodState

import placement
from tests.unit.operator import builders as b
from tests.unit.operator.looks import PROFILES, children, replace_size

MODEL = b.model("m", {"replicas": 4, "placement": {"spread": {"minVendors": 2}}})
CHILDREN = {name: replace_size(child, 4) for name, child in children(MODEL).items()}
RESOURCE = {"sandbox-nvidia": b.H100, "sandbox-ppu": b.PPU, "sandbox-ascend": b.ASCEND}


@st.composite
def clusters(draw: st.DrawFn) -> Observed:
    """Up to six nodes in any state, foreign pods, and pods of ours in any stage of their life."""
    nodes: list[NodeState] = []
    for i in range(draw(st.integers(1, 6))):
        make = draw(st.sampled_from([b.h100, b.a3, b.ppu]))
        node = make(f"n{i}", ready=draw(st.sampled_from([True, True, False, None])), cordoned=draw(st.booleans()) and draw(st.booleans()))
        resource = next(iter(node.capacity))
        node = replace(node, allocatable={resource: draw(st.integers(0, node.capacity[resource]))})
        nodes.append(b.sandbox(node))
    pods: list[PodState] = []
    for i in range(draw(st.integers(0, 4))):
        node = draw(st.sampled_from(nodes))
        pods.append(b.holder(f"foreign-{i}", node.name, next(iter(node.capacity)), draw(st.integers(1, 4))))
    for i in range(draw(st.integers(0, 6))):
        child = CHILDREN[draw(st.sampled_from(sorted(CHILDREN)))]
        stages: list[dict[str, Any]] = [
            {}, {"pinned": "n0"}, {"node": "n0"}, {"node": nodes[-1].name, "serving": True}, {"phase": "Failed"},
        ]  # fmt: skip
        where = draw(st.sampled_from(stages))
        created = f"2026-11-25T08:00:{draw(st.integers(0, 59)):02d}Z"
        draining = bool(where.get("node")) and draw(st.booleans())
        pods.append(b.replica(child, f"ours-{i}", created=created, draining=draining, **where))
    return b.observed(models=[MODEL], profiles=PROFILES, nodes=nodes, pods=pods, deployments=CHILDREN.values())


def shuffled(observed: Observed, seed: int) -> Observed:
    """The same objects in another order."""
    chance = random.Random(seed)

    def mix(items: tuple[Any, ...]) -> tuple[Any, ...]:
        found = list(items)
        chance.shuffle(found)
        return tuple(found)

    fields = ("model_deployments", "profiles", "pools", "nodes", "pods", "replica_sets", "deployments", "services", "budgets")
    changed: dict[str, Any] = {field: mix(getattr(observed, field)) for field in fields}
    changed["nodes"] = tuple(
        replace(node, labels=dict(sorted(node.labels.items(), key=lambda pair: chance.random()))) for node in changed["nodes"]
    )
    return replace(observed, **changed)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters(), st.integers(0, 1000))
def test_the_order_of_observed_lists_never_matters(observed: Observed, seed: int) -> None:
    """Any permutation of the lists gives the same snapshot, acts and statuses, byte for byte."""
    other = shuffled(observed, seed)
    one, two = prepare(observed), prepare(other)
    assert one.snapshot == two.snapshot
    assert one.demand == two.demand
    plan, _ = placement.plan(one.snapshot, one.demand)
    assert naming.canonical(act(observed, one, plan)) == naming.canonical(act(other, two, plan))
    assert naming.canonical(report(observed, one, plan, now=b.NOW)) == naming.canonical(report(other, two, plan, now=b.NOW))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_no_device_is_promised_twice(observed: Observed) -> None:
    """After this cycle's pins every node holds at most what it may, wherever pins of this cycle go; deleted pods are out of the sum."""
    inputs = prepare(observed)
    plan, _ = placement.plan(inputs.snapshot, inputs.demand)
    assert not placement.check(inputs.snapshot, inputs.demand, plan)
    actions = act(observed, inputs, plan)
    nodes = {node.name: node for node in observed.nodes}
    pods = {pod.uid: pod for pod in observed.pods}
    gone = {item.uid for item in actions.deletes if item.kind == "Pod" and not pods[item.uid].node}
    held: Counter[str] = Counter()
    for pod in observed.pods:
        where = pod.node or pod.pinned_node
        if where and not pod.finished and pod.uid not in gone:
            held[where] += sum(pod.requests.values())
    before = dict(held)
    for patch in actions.pod_patches:
        if patch.kind == "Pin":
            where = patch.body["metadata"]["annotations"][naming.PLANNED_NODE]
            held[where] += sum(pods[patch.uid].requests.values())
            node = nodes[where]
            assert node.ready is True
            assert not node.unschedulable
    for name, count in held.items():
        if count != before.get(name, 0):
            assert count <= sum(nodes[name].allocatable.values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_every_act_carries_what_was_observed(observed: Observed) -> None:
    """Deletes and patches name the uid that was seen, only pods of ours are touched, and sizes are never negative."""
    inputs = prepare(observed)
    plan, _ = placement.plan(inputs.snapshot, inputs.demand)
    actions = act(observed, inputs, plan)
    ours = {pod.uid for pod in observed.pods if pod.name.startswith("ours-")}
    for item in actions.deletes:
        assert item.uid in ours or item.kind == "Deployment"
    assert {patch.uid for patch in actions.pod_patches} <= ours
    assert all(size >= 0 for size in b.sizes(actions).values())
    assert b.sizes(actions).keys() >= {child.name for child in CHILDREN.values()} - {item.name for item in actions.deletes}
