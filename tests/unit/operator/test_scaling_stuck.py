"""Replicas that will not come up: what they count for, which pool rests, and when the need goes on to the next type (§4.2, step 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet.decide import prepare
from polyfleet.inputs import ModelView
from polyfleet.scaling import look, stuck
from polyfleet.scaling.force import Exhausted
from polyfleet.state import Condition, ContainerState, Observed, PodState

from autoscaling.types import ReplicaState
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.forces import KEY, aimed, child_of, force, scaled
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES

NOW = 1_795_593_600.0  # b.NOW
MODEL = aimed(scaled(), 3)
CHILD = child_of(MODEL, "sandbox-ppu", 3)
WORDS = "0/3 nodes are available: 3 Insufficient alibabacloud.com/ppu"


def at(seconds_ago: float) -> str:
    return stuck.stamp(NOW - seconds_ago)


def unbound(name: str, seconds: float) -> PodState:
    """Pinned, its gate lifted, and refused by the scheduler for so long."""
    row = Condition("PodScheduled", "False", "Unschedulable", WORDS, at(seconds))
    return b.replica(CHILD, name, pinned="ppu-0", gates=(), conditions=[row], created=at(seconds))


def no_image(name: str, seconds: float) -> PodState:
    waiting = ContainerState("engine", "", False, 0, "waiting", "ImagePullBackOff", "Back-off pulling image x")
    return b.replica(CHILD, name, node="ppu-0", containers=[waiting], created=at(seconds))


def seen(*pods: PodState, spec: dict[str, Any] | None = None) -> Observed:
    model = replace(MODEL, spec={**MODEL.spec, **(spec or {})})
    ready = b.replica(CHILD, "p0", node="ppu-0", serving=True, created=at(7200))
    found = b.observed(models=[model], profiles=PROFILES, pools=POOLS, nodes=(H100, A3, PPU), deployments=(CHILD,), pods=(ready, *pods))
    return replace(found, scaling={KEY: force(3.0)})


def view(*pods: PodState, spec: dict[str, Any] | None = None) -> ModelView:
    return prepare(seen(*pods, spec=spec), now=b.NOW).models[KEY]


def states(of: ModelView) -> dict[str, ReplicaState]:
    return {item.pod.name: look.state_of(of, item, NOW) for item in look.standings(of)}


def test_a_pod_that_the_scheduler_cannot_place_counts_nothing_after_a_minute() -> None:
    assert states(view(unbound("p1", 30)))["p1"] is ReplicaState.LOADING
    assert states(view(unbound("p1", 61)))["p1"] is ReplicaState.STUCK
    assert stuck.found(view(unbound("p1", 30)), NOW) == []


def test_its_pool_rests_for_its_option_and_the_need_goes_to_the_next_type() -> None:
    observed = seen(unbound("p1", 61), unbound("p2", 61))
    (row,) = stuck.found(prepare(observed, now=b.NOW).models[KEY], NOW)
    assert (row.option, row.pool, row.why) == (CHILD_OPTION, "sandbox-ppu", WORDS)
    assert row.until == stuck.stamp(NOW + stuck.BACKOFF_S)
    done = cycle(replace(observed, scaling={KEY: replace(force(3.0), exhausted=(row,))}))
    assert {delete.name for delete in done.actions.deletes} == {"p1", "p2"}
    assert [start.option.split("|")[1] for start in done.plan.starts] == ["sandbox-ascend"] * 2
    assert f"pool sandbox-ppu is left out until {row.until}" in done.status("ModelDeployment", "m")["autoscaler"]["reason"]


def test_the_pool_is_tried_again_when_its_time_is_over() -> None:
    row = Exhausted(CHILD_OPTION, "sandbox-ppu", at(-10), WORDS)
    assert stuck.merged((row,), (), NOW) == (row,)
    assert stuck.merged((row,), (), NOW + 11) == ()
    later = replace(row, until=at(-600))
    assert stuck.merged((row,), (later,), NOW) == (row,)  # found again while it rests: its time is not drawn out
    assert stuck.merged((row,), (later,), NOW + 11) == (later,)


def test_an_image_that_cannot_be_pulled_counts_nothing_and_holds_nobody_up() -> None:
    assert states(view(no_image("p1", 299)))["p1"] is ReplicaState.LOADING
    assert states(view(no_image("p1", 301)))["p1"] is ReplicaState.STUCK


def test_without_an_image_the_need_goes_elsewhere_if_there_is_an_elsewhere() -> None:
    (row,) = stuck.found(view(no_image("p1", 301)), NOW)
    assert (row.pool, row.why) == ("sandbox-ppu", "ImagePullBackOff: Back-off pulling image x")
    others = tuple(Exhausted(CHILD_OPTION.replace("ppu", name), f"sandbox-{name}", at(-60), "no image") for name in ("ascend", "nvidia"))
    last = replace(seen(no_image("p1", 301)), scaling={KEY: replace(force(3.0), exhausted=others)})
    assert stuck.found(prepare(last, now=b.NOW).models[KEY], NOW) == []  # the others rest already
    only = {"placement": {"profiles": ["sandbox-ppu"]}}
    assert stuck.found(view(no_image("p1", 301), spec=only), NOW) == []  # it stays, and its pod tells why


def test_a_candidate_and_a_draining_replica_are_no_capacity_that_comes() -> None:
    leaving = b.replica(CHILD, "p1", node="ppu-0", serving=True, draining=True, created=at(7200))
    assert states(view(leaving)) == {"p0": ReplicaState.READY, "p1": ReplicaState.DRAINING}


CHILD_OPTION = "llm/m|sandbox-ppu|default|sandbox|1"
