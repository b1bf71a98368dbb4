"""The inventory that remembers is the inventory that does not: over any sequence of changes both say the same."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from polyfleet import fleet, parse_dra
from polyfleet.differences import changes
from polyfleet.objects import parse_all
from polyfleet.state import NodeState, Observed, PodState, Taint

from tests.unit.operator import builders as b
from tests.unit.operator.test_dra import a_class, claim, gpus, slice_

PROFILES = ("alibaba-ppu-810e", "huawei-910b3", "huawei-910c-752", "nvidia-h100-sxm")
NAMES = [f"n{index}" for index in range(6)]


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True), st.sets(st.integers(0, 9)))
def test_changes_are_what_sets_say(old: list[int], new: list[int], fresh: set[int]) -> None:
    """Gone and come, by identity, are the two set differences; a replaced object is in both."""
    things = {value: object() for value in range(10)}
    again = {value: object() if value in fresh else things[value] for value in range(10)}
    left, right = [things[v] for v in sorted(old)], [again[v] for v in sorted(new)]
    gone, come = changes(tuple(left), tuple(right))
    assert gone == [item for item in left if item not in right]
    assert come == [item for item in right if item not in left]


class World:
    """A fleet that changes at random, one step at a time, with the objects of what did not change kept as they are."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.nodes: dict[str, NodeState] = {}
        self.pods: dict[str, PodState] = {}
        self.pools: dict[str, Any] = {}
        self.profiles = b.profiles(*PROFILES)
        self.policy = b.policy()
        self.dra: dict[str, Any] = {"slices": (), "claims": (), "device_classes": ()}
        self.unknown: dict[str, str] = {}
        self.models = [b.big_model("m"), b.big_model("w", spec={"placement": {"sharing": "Shared"}})]
        self.count = 0

    def step(self) -> None:
        kinds = (self.node, self.node, self.pod, self.pod, self.pod, self.drop_node, self.drop_pod, self.pool, self.rule, self.devices)
        self.draw.choice(kinds)()

    def node(self) -> None:
        name, draw = self.draw.choice(NAMES), self.draw
        make = draw.choice((b.h100, b.h100, b.a3, b.ppu))
        labels = {"rack": draw.choice("ab"), "team": draw.choice("xy")}
        extra = draw.choice(({}, {"nvidia.com/gpu.shared": 8}, {"nvidia.com/mig-1g.10gb": 7}, {"aliyun.com/ppu": 16}))
        taints = draw.choice(((), (), [Taint("gpu", "dedicated", "NoSchedule")]))
        devices = draw.choice((8, 16, 0, None, 32))
        more = {"ready": draw.choice((True, True, False, None)), "cordoned": draw.random() < 0.1}
        self.nodes[name] = make(name, devices=devices, labels=labels, extra=extra, taints=taints, **more)

    def drop_node(self) -> None:
        self.nodes.pop(self.draw.choice(NAMES), None)

    def pod(self) -> None:
        draw = self.draw
        self.count += draw.random() < 0.7
        name, node = f"p{self.count}", draw.choice(NAMES)
        resource = draw.choice((b.H100, b.ASCEND, b.PPU, "aliyun.com/ppu"))
        where = draw.choice(({"node": node}, {"pinned": node, "phase": "Pending"}, {"phase": "Pending"}))
        ours = {"polyfleet.io/deployment": draw.choice("mw")} if draw.random() < 0.3 else {}
        requests = {resource: draw.randrange(1, 9)} if draw.random() < 0.9 else {}
        given: dict[str, Any] = {"phase": draw.choice(("Running", "Running", "Failed")), **where}
        self.pods[name] = b.pod(name, requests=requests, labels=ours, namespace="llm", deleting=draw.random() < 0.2, **given)

    def drop_pod(self) -> None:
        if self.pods:
            del self.pods[self.draw.choice(sorted(self.pods))]

    def pool(self) -> None:
        draw = self.draw
        name = draw.choice(("a", "b", "nvidia-h100-sxm"))
        if name in self.pools and draw.random() < 0.4:
            del self.pools[name]
            return
        spec: dict[str, Any] = {"sharing": draw.choice(("Exclusive", "Shared"))}
        if draw.random() < 0.6:
            spec["nodeSelector"] = {draw.choice(("rack", "team")): draw.choice("abxy")}
        if draw.random() < 0.3:
            spec["scheduler"] = "volcano"
        self.pools[name] = b.pool(name, draw.choice((*PROFILES, "none")), spec, status={"nodes": {"matched": draw.randrange(9)}})

    def rule(self) -> None:
        """An edit of a profile, of discovery, of a pool's status only, or of what can be read."""
        draw = self.draw
        what = draw.randrange(5)
        if what == 0:
            self.profiles = b.profiles(*draw.sample(PROFILES, draw.randrange(1, 5)))
        elif what == 1:
            self.policy = b.policy({"discovery": {"poolLabels": draw.choice(([], ["rack"])), "autoCreatePools": draw.random() < 0.7}})
        elif what == 2:
            self.unknown = draw.choice(({}, {"pods": "ListFailed"}, {"resourceslices": "NotServed"}))
        elif what == 3:
            self.models = [b.big_model("m", spec={"placement": {"sharing": draw.choice(("Shared", "Exclusive"))}}), self.models[1]]
        else:
            self.pools = {name: replace(state, status={"nodes": {"matched": draw.randrange(9)}}) for name, state in self.pools.items()}

    def devices(self) -> None:
        draw = self.draw
        what = draw.randrange(3)
        if what == 0:
            chosen = draw.sample(NAMES, 2)
            self.dra["slices"] = tuple(parse_dra.resource_slice(slice_(name, gpus(draw.randrange(1, 9)))) for name in chosen)
        elif what == 1:
            pods = [state.uid for state in self.pods.values()][:1]
            raw = claim("c", draw.choice(NAMES), ["gpu-0", "gpu-1"], pods=pods, extended=draw.random() < 0.5)
            state = parse_dra.resource_claim(raw)
            self.dra["claims"] = () if draw.random() < 0.3 or state is None else (state,)
        else:
            self.dra["device_classes"] = (parse_dra.device_class(a_class(extended=draw.choice((b.H100, "")))),)

    def seen(self) -> Observed:
        found = b.observed(
            models=self.models, profiles=self.profiles, pools=self.pools.values(), policy=self.policy, nodes=self.nodes.values(),
            pods=self.pods.values(), unknown=self.unknown,
        )  # fmt: skip
        return replace(found, **self.dra)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_a_builder_says_what_a_fresh_build_says(seed: int, stride: int) -> None:
    """Nodes, pods, pools, profiles, policy, slices and claims come, go and change, one or several between two looks."""
    world, builder = World(seed), fleet.Builder()
    for _ in range(12):
        for _ in range(stride):
            world.step()
        observed = world.seen()
        objects = parse_all(observed)
        assert builder.build(observed, objects) == fleet.build(observed, objects)


def test_an_answer_is_never_changed_by_the_next() -> None:
    """What a cycle holds stays as it was while the builder goes on."""
    world, builder = World(3), fleet.Builder()
    kept: list[tuple[fleet.Fleet, fleet.Fleet]] = []
    for _ in range(40):
        world.step()
        observed = world.seen()
        objects = parse_all(observed)
        kept.append((builder.build(observed, objects), fleet.build(observed, objects)))
    assert all(mine == other for mine, other in kept)


def test_a_failure_in_the_middle_spoils_nothing() -> None:
    """A change that this program fails on is not half remembered: the next look is right again."""
    world, builder = World(5), fleet.Builder()
    for _ in range(10):
        world.step()
    builder.build(world.seen(), parse_all(world.seen()))
    world.node()
    broken = replace(world.seen(), nodes=(*world.seen().nodes, None))  # type: ignore[arg-type]
    try:
        builder.build(broken, parse_all(broken))
    except AttributeError:
        pass
    else:
        raise AssertionError("a node that is none was taken")
    observed = world.seen()
    assert builder.build(observed, parse_all(observed)) == fleet.build(observed, parse_all(observed))
