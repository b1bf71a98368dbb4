"""Pods that end slowly: they hold their devices to the last moment, count as nothing, and what waits for them is told (OC-051, OC-052)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from polyfleet.inventory import node_of
from polyfleet.state import NodeState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done
from tests.unit.operator.forces import aimed, child_of, condition, force, look, scaled
from tests.unit.operator.rolling import Cluster, b_ready
from tests.unit.operator.test_rollouts import V1, V2, model, runtime

GRACE = {
    "deleted": {"deleting": True},
    "draining": {"draining": True, "annotations": {"polyfleet.io/draining-since": "2026-11-25T07:59:00Z"}},
}


def burst(devices: int, leaving: dict[str, Any], *, fixed: bool = False, left: int = 3) -> Done:
    """OC-051: one replica serves, three end, and the load wants four. `left`: how many of the three still hold their device."""
    spec = {"placement": {"profiles": ["sandbox-ppu"]}}
    asked = aimed(b.model("m", {**spec, "replicas": 4}) if fixed else scaled(spec), 4)
    child = child_of(asked, "sandbox-ppu", 4)
    pods = [b.replica(child, "p0", node="ppu-0", serving=True)]
    pods += [b.replica(child, f"t{i}", node="ppu-0", serving=True, **leaving) for i in range(left)]
    node = b.sandbox(b.ppu("ppu-0", devices))
    return look(asked, None if fixed else force(4.0), deployments=(child,), pods=tuple(pods), nodes=(node,))


@pytest.mark.parametrize("leaving", GRACE.values(), ids=GRACE)
@pytest.mark.parametrize("fixed", [False, True], ids=["scaled", "fixed"])
def test_oc_051_with_three_other_devices_three_start_at_once(leaving: dict[str, Any], fixed: bool) -> None:
    done = burst(7, leaving, fixed=fixed)
    assert [start.after for start in done.plan.starts] == [(), (), ()]
    assert condition(done, "WorkloadsReady") == ("False", "Loading", "3 being created")
    status = done.status("ModelDeployment", "m")
    assert (status["desiredReplicas"], status["readyReplicas"]) == (4, 1)  # what ends serves nobody


@pytest.mark.parametrize("leaving", GRACE.values(), ids=GRACE)
@pytest.mark.parametrize("fixed", [False, True], ids=["scaled", "fixed"])
def test_oc_051_without_other_devices_each_waits_for_one_and_says_so(leaving: dict[str, Any], fixed: bool) -> None:
    done = burst(4, leaving, fixed=fixed)
    assert sorted(start.after for start in done.plan.starts) == [("uid-t0",), ("uid-t0", "uid-t1"), ("uid-t0", "uid-t1", "uid-t2")]
    assert condition(done, "WorkloadsReady") == ("False", "PendingScheduling", "3 waiting for 3 terminating")
    assert "3 waiting for 3 terminating" in condition(done, "Ready")[2]
    status = done.status("ModelDeployment", "m")
    assert (status["desiredReplicas"], status["readyReplicas"]) == (4, 1)


def test_oc_051_as_soon_as_a_device_is_free_one_starts() -> None:
    done = burst(4, GRACE["deleted"], left=2)
    assert [len(start.after) for start in done.plan.starts] == [0, 1, 2]
    status, reason, message = condition(done, "WorkloadsReady")
    assert (status, reason) == ("False", "PendingScheduling")
    assert message.startswith("2 waiting for 2 terminating")


@dataclass
class Slow(Cluster):
    """A pod that is deleted holds its devices for a turn more, 60 s."""

    ending: set[str] = field(default_factory=set)

    def remove(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is not None and node_of(pod):
            self.pods[name] = replace(pod, deleting=True)
        else:
            self.pods.pop(name, None)

    def turn(self) -> Any:
        for name in sorted(self.ending):
            self.pods.pop(name, None)
        self.ending = {pod.name for pod in self.pods.values() if pod.deleting}
        return super().turn()


def holding(pods: list[PodState], node: str) -> int:
    """Devices that pods hold on a node or that the scheduler may give them there: bound, ending or released from their gate; one each."""
    return sum(1 for pod in pods if node_of(pod) == node and not pod.gates)


@pytest.mark.parametrize("nodes", [(8, 8, 3), (7, 6, 6)], ids=["8+8+3", "7+6+6"])
def test_oc_052_pods_that_end_count_in_the_surge(nodes: tuple[int, ...]) -> None:
    """15 replicas on 19 devices, surge 4, unavailable 3, and every pod takes 60 s to end. Never more pods than devices, so none is Pending
    for one; at least 12 serve; the first turn starts 4 and not 7."""
    machines: tuple[NodeState, ...] = tuple(b.sandbox(b.h100(f"n{i}", devices)) for i, devices in enumerate(nodes))
    c = Slow({"m": model("m", 15, tensor=1)}, machines)
    c.until(lambda: c.serving("m") == 15)
    c.turns(2)
    c.spec("m", runtime=runtime(V2, 1), rollout={"maxSurge": 4, "maxUnavailable": 3})
    ended = 0
    for turn in range(60):
        starts = [start for start in c.turn().plan.starts if not start.after]
        assert turn > 0 or len(starts) == 4
        pods = c.of("m")
        ended += sum(pod.deleting for pod in pods)
        for machine, devices in zip(machines, nodes, strict=True):
            assert holding(pods, machine.name) <= devices
        assert sum(b_ready(pod) and not pod.deleting for pod in pods) >= 12
        if c.revisions("m") == {V2: 15} and len(pods) == 15:
            break
    assert c.revisions("m") == {V2: 15}
    assert c.of("m", V1) == []
    assert ended == 2 * 15  # each old pod held its device when it was deleted and a turn later
