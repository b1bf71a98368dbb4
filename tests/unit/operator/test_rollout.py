"""Changes of what runs, and moves: the old serves until the new does, and the order is a function of what is observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet import naming, rollout
from polyfleet.state import CustomState, DeploymentState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import H100, NVIDIA_ONLY, POOLS, PPU, PROFILES, children, deleted, look, patches, replace_size

OLD: dict[str, Any] = {**NVIDIA_ONLY, "replicas": 3, "runtime": {"args": ["--old"]}}
NEW: dict[str, Any] = {**NVIDIA_ONLY, "replicas": 3, "runtime": {"args": ["--new"]}}


def drained(done: Done) -> list[str]:
    return sorted(patches(done, "DeletionCost"))


def before(size: int = 3) -> DeploymentState:
    return replace_size(children(b.model("m", OLD))["sandbox-nvidia"], size)


def old_pods(child: DeploymentState, size: int = 3) -> tuple[Any, ...]:
    return tuple(b.replica(child, f"old-{i}", node="h100-0", serving=True) for i in range(size))


def new_child(size: int = 1) -> DeploymentState:
    return replace_size(children(b.model("m", NEW))["sandbox-nvidia"], size)


def test_a_new_revision_starts_beside_the_old_one() -> None:
    """25 % of three is one: one replica of the new revision is made, all three old ones stay and serve."""
    child = before()
    done = look(b.model("m", NEW), deployments=(child,), pods=old_pods(child))
    assert b.sizes(done.actions) == {child.name: 3, new_child().name: 1}
    assert drained(done) == []
    assert len(done.plan.starts) == 1


def test_the_old_one_waits_until_the_new_one_serves() -> None:
    """While the new replica loads nothing is drained; once it serves one old replica is."""
    old, new = before(), new_child()
    for serving, expected in (False, 0), (True, 1):
        pods = (*old_pods(old), b.replica(new, "new-0", node="h100-0", serving=serving))
        done = look(b.model("m", NEW), deployments=(old, new), pods=pods)
        assert len(drained(done)) == expected
        assert b.sizes(done.actions)[old.name] == 3  # still counted: the drain is not seen yet


def test_the_next_one_follows_when_the_first_is_leaving() -> None:
    """With the label seen the old size is 2, and the next replacement is started."""
    old, new = before(), new_child()
    first, *others = old_pods(old)
    leaving = b.replica(old, first.name, node="h100-0", serving=True, draining=True)
    done = look(b.model("m", NEW), deployments=(old, new), pods=(leaving, *others, b.replica(new, "new-0", node="h100-0", serving=True)))
    assert b.sizes(done.actions) == {old.name: 2, new.name: 2}
    assert drained(done) == []


def test_a_revision_that_never_comes_up_takes_nothing_away() -> None:
    """The new replica crashes: the three old ones go on serving, cycle after cycle."""
    old, new = before(), new_child()
    crash = b.replica(new, "new-0", node="h100-0")
    done = look(b.model("m", NEW), deployments=(old, new), pods=(*old_pods(old), crash))
    assert (drained(done), deleted(done)) == ([], {})
    assert b.sizes(done.actions) == {old.name: 3, new.name: 1}


FULL = {**NVIDIA_ONLY, "runtime": {"parallelism": {"tensor": 8}}}


def full_node(rollout_spec: dict[str, Any]) -> Done:
    """One replica on all eight devices, and a new revision that finds no room beside it."""
    child = children(b.model("m", FULL))["sandbox-nvidia"]
    changed = {**FULL, "runtime": {"parallelism": {"tensor": 8}, "args": ["--new"]}, "rollout": rollout_spec}
    pod = b.replica(child, "old-0", node="h100-0", serving=True)
    return look(b.model("m", changed), nodes=(H100,), deployments=(child,), pods=(pod,))


def test_without_room_an_update_waits_and_the_model_stays_ready() -> None:
    """Nothing is missing but room for the new revision: Ready stays True, and Placed says what to do."""
    done = full_node({})
    status = done.status("ModelDeployment", "m")
    assert (drained(done), b.condition(status, "Ready")[0]) == ([], "True")
    kind, reason, message = b.condition(status, "Placed")
    assert (kind, reason) == ("True", "UpdateWaits")
    assert "allowDowntime" in message
    assert "shortfall" not in status


@pytest.mark.parametrize("spec", [{"allowDowntime": True}, {"maxUnavailable": 1}, {"maxUnavailable": "100%"}])
def test_downtime_must_be_allowed(spec: dict[str, Any]) -> None:
    """With the user's consent the old replica goes first."""
    assert drained(full_node(spec)) == ["old-0"]


@pytest.mark.parametrize("held", [{"rollout": {"approval": "Manual"}}, {"paused": True}])
def test_a_held_model_keeps_its_revision(held: dict[str, Any]) -> None:
    """Manual approval or a pause: nothing of the new revision is started."""
    child = before()
    done = look(b.model("m", {**NEW, **held}), deployments=(child,), pods=old_pods(child))
    assert b.sizes(done.actions) == {child.name: 3}
    assert done.plan.starts == ()


def moving(pods: tuple[Any, ...], deployments: tuple[DeploymentState, ...], model: CustomState) -> Done:
    """An hour after the pods were made: younger ones than `minResidence` are not moved for money."""
    return look(model, nodes=(H100, PPU), deployments=deployments, pods=pods, now=b.LATER)


def test_a_move_makes_before_it_breaks() -> None:
    """A cheaper device came: its replica is started, and the dear one serves until the new one does."""
    model = b.model("m")
    dear = children(b.model("m", NVIDIA_ONLY))["sandbox-nvidia"]
    cheap = children(model)["sandbox-ppu"]
    serving = b.replica(dear, "dear", node="h100-0", serving=True)
    first = moving((serving,), (dear,), model)
    assert (len(first.plan.stop), drained(first)) == (1, [])
    assert b.sizes(first.actions) == {dear.name: 1, cheap.name: 1}
    loading = moving((serving, b.replica(cheap, "cheap", node="ppu-0")), (dear, cheap), model)
    assert drained(loading) == []
    done = moving((serving, b.replica(cheap, "cheap", node="ppu-0", serving=True)), (dear, cheap), model)
    assert drained(done) == ["dear"]


def test_a_victim_whose_devices_are_needed_does_not_wait() -> None:
    """A model of higher priority waits for exactly these devices: the lower one is drained now, the start waits for it."""
    low = b.model("low", FULL)
    high = b.model("high", {**FULL, "priority": 100})
    child = children(low)["sandbox-nvidia"]
    pod = b.replica(child, "low-0", node="h100-0", serving=True)
    observed = b.observed(models=[low, high], profiles=PROFILES, pools=POOLS, nodes=[H100], deployments=[child], pods=[pod])
    done = cycle(observed)
    assert drained(done) == ["low-0"]
    (start,) = done.plan.starts
    assert start.after == ("uid-low-0",)
    waiting = next(m for m in b.applied(done.actions, "Deployment") if m["metadata"]["labels"][naming.DEPLOYMENT] == "high")
    assert waiting["spec"]["replicas"] == 1  # its pod is made, at its gate
    high_child = b.child(waiting)
    gated = b.replica(high_child, "high-0")
    again = cycle(replace(observed, deployments=(high_child, child), replica_sets=(b.replica_set(high_child), b.replica_set(child)),
                          pods=(gated, pod)))  # fmt: skip
    assert patches(again, "Pin") == {}


@pytest.mark.parametrize(("value", "total", "up", "down"), [("25%", 3, 1, 0), ("25%", 8, 2, 2), (1, 3, 1, 1), ("0%", 9, 0, 0)])
def test_shares_round_towards_safety(value: int | str, total: int, up: int, down: int) -> None:
    """Surge rounds up, unavailability rounds down, as Deployments do it."""
    assert rollout.share(value, total, round_up=True) == up
    assert rollout.share(value, total, round_up=False) == down
