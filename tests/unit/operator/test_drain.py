"""A replica that leaves goes when its requests have ended or its time is over, and not before; unknown is not zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.drain import QUIET_S, SETTLE_S, drains, next_end
from polyfleet.state import Condition, DeploymentState, InFlight, Observed, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES, children, deleted, replace_size

SINCE = "2026-11-25T08:00:00Z"
MODEL = b.model("smol", {"replicas": 1, "drainTimeout": "60s"})


def at(seconds: int) -> str:
    return f"2026-11-25T08:{seconds // 60:02d}:{seconds % 60:02d}Z"


@pytest.fixture(name="child", scope="module")
def _child() -> DeploymentState:
    return replace_size(children(b.model("smol", {"replicas": 1}))["sandbox-ppu"], 2)


def seen(child: DeploymentState, in_flight: dict[str, InFlight], *, nodes: Any = (H100, A3, PPU), **leaving: Any) -> Observed:
    stays = b.replica(child, "pod-1", node="ppu-0", serving=True)
    given: dict[str, Any] = {"node": "ppu-0", "serving": True, "draining": True, "annotations": {"polyfleet.io/draining-since": SINCE}}
    leaves = b.replica(child, "pod-2", **{**given, **leaving})
    found = b.observed(models=[MODEL], profiles=PROFILES, pools=POOLS, nodes=nodes, deployments=(child,), pods=(stays, leaves))
    return replace(found, in_flight=in_flight)


def look(
    child: DeploymentState, now: str, requests: float | None, taken: str, closed: str = SINCE, quiet: str = SINCE, **leaving: Any
) -> Done:
    """`closed`, `quiet`: out of its Service, and idle, since then."""
    return cycle(seen(child, {"uid-pod-2": InFlight(requests, taken, closed, quiet)}, **leaving), now=now)


def stays(done: Done, child: DeploymentState) -> bool:
    """Whether the leaving replica is still counted."""
    assert deleted(done) == {}
    return b.sizes(done.actions)[child.name] == 2


def test_requests_in_flight_keep_a_leaving_replica(child: DeploymentState) -> None:
    """Three requests 50 s after the drain began, of 60 s: the size still counts it."""
    assert stays(look(child, at(50), 3, at(50)), child)


def test_nothing_in_flight_lets_it_go(child: DeploymentState) -> None:
    assert not stays(look(child, at(10), 0, at(9)), child)


def test_a_count_from_before_the_proxies_knew_is_not_believed(child: DeploymentState) -> None:
    """Out of its Service at 2 s: 3 s for the Service's proxies and one more reading make 6 s."""
    assert (SETTLE_S, QUIET_S) == (3, 1)
    assert stays(look(child, at(10), 0, at(5), closed=at(2)), child)
    assert not stays(look(child, at(10), 0, at(6), closed=at(2)), child)


def test_the_first_reading_of_zero_ends_nothing(child: DeploymentState) -> None:
    """A kept-alive connection has no request in flight between two of them."""
    assert stays(look(child, at(30), 0, at(30), quiet=at(30)), child)
    assert not stays(look(child, at(31), 0, at(31), quiet=at(30)), child)


@pytest.mark.parametrize("reading", [{"closed": ""}, {"quiet": ""}])
def test_a_replica_that_its_service_still_has_is_not_idle(child: DeploymentState, reading: dict[str, str]) -> None:
    assert stays(look(child, at(59), 0, at(59), **reading), child)
    assert not stays(look(child, at(60), 0, at(60), **reading), child)  # but drainTimeout ends it


def test_it_is_out_of_its_service_when_the_kubelet_says_so(child: DeploymentState) -> None:
    """The readiness gate is ours and is False at once; the pod is Ready until the kubelet has seen that."""
    found = seen(child, {})
    late = replace(found, pods=tuple(replace(p, conditions={**p.conditions, "Ready": Condition("Ready", "True")}) for p in found.pods))
    for observed, closed in ((found, True), (late, False)):
        (item,) = drains(cycle(observed, now=at(20)).inputs.models["llm/smol"], observed, at(20))
        assert item.closed is closed


@pytest.mark.parametrize("requests", [None, 1.0])
def test_after_drain_timeout_it_goes_whatever_it_does(child: DeploymentState, requests: float | None) -> None:
    assert stays(look(child, at(59), requests, at(59)), child)
    assert not stays(look(child, at(60), requests, at(59)), child)


def test_an_engine_that_cannot_be_read_is_given_the_whole_time(child: DeploymentState) -> None:
    """No reading at all: unknown is not zero."""
    found = seen(child, {})
    (item,) = drains(cycle(found, now=at(20)).inputs.models["llm/smol"], found, at(20))
    assert (item.left_s, item.requests) == (40.0, None)
    assert next_end((item,)) == 40.0
    assert stays(cycle(found, now=at(20)), child)


def test_a_clock_that_jumps_back_ends_nothing(child: DeploymentState) -> None:
    found = seen(child, {})
    assert stays(cycle(found, now="2026-11-25T07:00:00Z"), child)


@pytest.mark.parametrize(
    "leaving",
    [
        {"serving": False, "up": False},  # its engine is down
        {"annotations": {}},  # it did not serve when its drain began
        {"annotations": {"polyfleet.io/draining-since": "yesterday"}},
    ],
)
def test_where_nothing_can_be_lost_nothing_is_waited_for(child: DeploymentState, leaving: dict[str, Any]) -> None:
    assert not stays(look(child, at(1), None, at(1), **leaving), child)


def test_a_dead_node_has_no_requests_to_end(child: DeploymentState) -> None:
    gone = replace(PPU, ready=None)
    found = seen(child, {}, nodes=(H100, A3, gone))
    assert drains(cycle(found, now=at(1)).inputs.models["llm/smol"], found, at(1)) == ()


def test_of_two_leaving_replicas_the_one_that_is_done_goes(child: DeploymentState) -> None:
    """The ReplicaSet cannot tell the two apart, so the one without requests is deleted by its uid."""
    three = replace_size(child, 3)
    found = seen(three, {"uid-pod-2": InFlight(0, at(9), SINCE, SINCE), "uid-pod-3": InFlight(2, at(9), SINCE)})
    busy: PodState = b.replica(
        three, "pod-3", node="ppu-0", serving=True, draining=True, annotations={"polyfleet.io/draining-since": SINCE}
    )
    done = cycle(replace(found, pods=(*found.pods, busy)), now=at(10))
    assert b.sizes(done.actions) == {three.name: 2}
    assert deleted(done) == {"pod-2": ("uid-pod-2", None)}
