"""To zero and back through the activator: what is written in which order, what keeps the last replica, what is refused in which words.

One replica carries 1 work/s. The activator's pods are 10.9.0.1 and 10.9.0.2, as its Service's slices name them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.scaling.force import Force, Told
from polyfleet.state import EndpointsState
from polyfleet.wake import path, slices
from polyfleet.wake.ledger import Counted, Ledger, read

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.forces import SINCE, aimed, child_of, condition, force, scaled
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES, patches
from tests.unit.operator.test_status import fits_the_schema
from tests.unit.operator.test_wake_slices import controllers, raw

SPEC: dict[str, Any] = {"scaling": {"minReplicas": 0, "maxReplicas": 4, "scaleToZero": {}}}
PODS = ("10.9.0.1", "10.9.0.2")


def activator(*addresses: str, **more: Any) -> EndpointsState:
    rows = [{"addresses": [each], "conditions": {"ready": True}, "targetRef": {"uid": f"a-{each}"}} for each in addresses]
    return replace(controllers("pods", rows, 8080, **{"kubernetes.io/service-name": "polyfleet-activator"}), namespace="polyfleet", **more)


def replicas(*addresses: str) -> EndpointsState:
    rows = [{"addresses": [each], "conditions": {"ready": True}} for each in addresses]
    return replace(controllers("serving", rows, **{"kubernetes.io/service-name": "m"}), namespace="llm")


def look(
    size: int,
    said: Force | None,
    *found: EndpointsState,
    spec: dict[str, Any] | None = None,
    gone: bool = False,
    before: dict[str, Any] | None = None,
) -> Any:
    """One look at the model with so many replicas that serve. `gone`: nobody looked for slices. `before`: `status.autoscaler` as stored."""
    model = aimed(scaled(SPEC | (spec or {})), size)
    model = replace(model, status={**model.status, "autoscaler": before}) if before else model
    child = child_of(model, "sandbox-ppu", size)
    pods = tuple(b.replica(child, f"p{i}", node="ppu-0", serving=True, created="2026-11-25T06:00:00Z") for i in range(size))
    seen = b.observed(models=[model], profiles=PROFILES, pools=POOLS, nodes=(H100, A3, PPU), deployments=(child,), pods=pods)
    scaling = {model.key: said} if said is not None else {}
    done = cycle(replace(seen, scaling=scaling, endpoints=None if gone else found), now=b.NOW)
    fits_the_schema(done)
    return done


def wanted(done: Any) -> int:
    return int(done.status("ModelDeployment", "m")["desiredReplicas"])


def door(done: Any) -> dict[str, Any] | None:
    """The slice as it is applied; None = it is not."""
    found = b.applied(done.actions, "EndpointSlice")
    return dict(found[0]) if found else None


def stored(done: Any) -> EndpointsState:
    """The same, as the cache has it afterwards."""
    found = slices.parse(raw(door(done) or {}))
    assert found is not None
    return found


def addresses(done: Any) -> list[str]:
    return [each["addresses"][0] for each in (door(done) or {"endpoints": []})["endpoints"]]


def asleep(**more: Any) -> Force:
    return replace(force(0.0, low=0, high=4, shrink=True), wake_s=90.0, slowest_s=100.0, **more)


def awake() -> Force:
    return force(1.0, low=1, high=4)


# ---- there is an activator


def test_a_model_that_may_sleep_has_a_port_and_a_label_before_anything_sleeps() -> None:
    done = look(1, awake(), activator(*PODS), replicas("10.1.0.1"))
    found = door(done)
    assert found is not None
    assert (found["metadata"]["name"], found["endpoints"], found["addressType"]) == ("m-activator", [], "IPv4")
    (service,) = b.applied(done.actions, "Service")
    assert service["metadata"]["labels"]["polyfleet.io/activator"] == "serving"
    assert condition(done, "Accepted")[0] == "True"


@pytest.mark.parametrize(("created", "keeps"), [("2020-01-01T00:00:00Z", False), ("2030-01-01T00:00:00Z", True)])
def test_of_two_releases_with_one_port_the_older_slice_keeps_it(created: str, keeps: bool) -> None:
    """The other's model is none of this operator's. The activators see both slices, and give the port to the older."""
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    other = replace(old, namespace="theirs", name="x-activator", uid="u-x", owner_uid="o-x", created=created)
    old = replace(old, created="2026-01-01T00:00:00Z")
    done = look(0, asleep(), activator(*PODS), replicas(), old, other)
    assert (door(done)["ports"] == old.spec["ports"]) is keeps  # type: ignore[index]


def test_the_last_replica_drains_only_when_the_activator_is_seen_in_the_way() -> None:
    """Decided to sleep: first the slice with both pods, and nobody leaves. Seen: the replica leaves, and the slice stays as it is."""
    first = look(1, asleep(), activator(*PODS), replicas("10.1.0.1"))
    assert (addresses(first), wanted(first), first.plan.stop) == (list(PODS), 1, ())
    assert not patches(first, "Serving")
    second = look(1, asleep(), activator(*PODS), replicas("10.1.0.1"), stored(first))
    assert (addresses(second), wanted(second), len(second.plan.stop)) == (list(PODS), 0, 1)
    assert door(second)["ports"] == door(first)["ports"]  # type: ignore[index]


def test_a_slice_with_pods_that_are_gone_is_no_way() -> None:
    """Both of the activator's pods were replaced since: nobody would take the requests."""
    old = stored(look(1, asleep(), activator(*PODS), replicas("10.1.0.1")))
    done = look(1, asleep(), activator("10.9.0.7"), replicas("10.1.0.1"), old)
    assert (addresses(done), wanted(done), done.plan.stop) == (["10.9.0.7"], 1, ())


def test_at_zero_the_activator_stays_in_the_way_and_follows_its_pods() -> None:
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    done = look(0, asleep(), activator("10.9.0.2", "10.9.0.7"), replicas(), old)
    assert (addresses(done), wanted(done)) == (["10.9.0.2", "10.9.0.7"], 0)


def test_without_a_pod_of_the_activator_that_is_ready_nothing_sleeps_and_what_sleeps_stays() -> None:
    """Unknown neither wakes nor puts to sleep."""
    assert wanted(look(1, asleep(), activator(), replicas("10.1.0.1"))) == 1
    done = look(0, asleep(), activator(), replicas())
    assert (wanted(done), condition(done, "Accepted")[0]) == (0, "True")


def test_on_the_way_back_the_activator_leaves_only_when_a_replica_is_in_the_service() -> None:
    """The pod is Ready for us already; the controller's slice, by which traffic goes, has it a moment later."""
    waking = force(1.0, low=1, high=4)
    before = look(1, waking, activator(*PODS), replicas())
    assert addresses(before) == list(PODS)
    after = look(1, waking, activator(*PODS), replicas("10.1.0.1"), stored(before))
    assert (addresses(after), door(after)["ports"]) == ([], door(before)["ports"])  # type: ignore[index]


def test_while_the_services_slices_do_not_bear_the_label_yet_the_pods_say_who_serves() -> None:
    """The block was added to a model that serves: the activator does not step in its way meanwhile."""
    assert addresses(look(1, awake(), activator(*PODS))) == []
    assert addresses(look(0, awake(), activator(*PODS))) == list(PODS)


def test_the_slice_says_for_how_long_to_hold_and_when_to_come_again() -> None:
    """1.5 x 100 s and 30 s, in steps of 120, 180, ... ; nothing measured: 1.5 x 240 s and 30 s."""
    notes = door(look(0, asleep(), activator(*PODS), replicas()))["metadata"]["annotations"]  # type: ignore[index]
    assert (notes["polyfleet.io/hold-seconds"], notes["polyfleet.io/wake-seconds"]) == ("180", "90")
    notes = door(look(0, None, activator(*PODS), replicas()))["metadata"]["annotations"]  # type: ignore[index]
    assert notes["polyfleet.io/hold-seconds"] == "405"
    assert "polyfleet.io/wake-seconds" not in notes


@pytest.mark.parametrize(
    ("slowest", "hold"), [(1.0, 120.0), (60.0, 120.0), (60.1, 180.0), (100.0, 180.0), (100.1, 270.0), (9999.0, 3600.0)]
)
def test_a_hold_is_longer_than_nearly_every_start(slowest: float, hold: float) -> None:
    assert path.hold_s(slowest) == hold


# ---- what a person sees


def test_a_sleeping_model_is_ready_and_says_what_wakes_it() -> None:
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    done = look(0, asleep(), activator(*PODS), replicas(), old)
    words = "asleep; a POST to /v1/... wakes it and waits about 90 s"
    assert condition(done, "Ready") == condition(done, "RouteReady") == ("True", "Asleep", words)
    assert condition(done, "Available")[:2] == ("False", "NothingServes")
    status = done.status("ModelDeployment", "m")
    assert (status["summary"]["reason"], status["summary"]["replicas"]) == ("Asleep", "0/0")
    assert status["autoscaler"]["reason"].endswith(words)


@pytest.mark.parametrize(
    "told", [Told("Up", "Wake", "somebody waits", SINCE), Told("Hold", "UnknownLoad", "everything stays", SINCE, first=True)]
)
def test_a_model_that_was_suspended_and_resumed_does_not_repeat_what_was_decided_of_its_replicas(told: Told) -> None:
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    before = {"at": SINCE, "desired": "1", "direction": "Up", "reason": "Wake: somebody waits"}
    done = look(0, asleep(told=told), activator(*PODS), replicas(), old, before=before)
    said = done.status("ModelDeployment", "m")["autoscaler"]
    assert (said["direction"], said["desired"]) == ("Hold", "0")
    assert said["reason"] == "asleep; a POST to /v1/... wakes it and waits about 90 s"


def test_asleep_with_nobody_to_hold_requests_is_not_ready_and_says_where_to_look() -> None:
    done = look(0, asleep(), activator(), replicas())
    status, reason, text = condition(done, "Ready")
    assert (status, reason) == ("False", "NoWakePath")
    assert "kubectl get pods -A -l app.kubernetes.io/component=activator" in text
    assert condition(look(0, asleep(), gone=True), "RouteReady")[:2] == ("False", "NoWakePath")


def test_on_the_way_back_it_says_that_requests_wait() -> None:
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    done = look(0, awake(), activator(*PODS), replicas(), old)
    assert condition(done, "RouteReady") == ("False", "WeightsPending", "no replica serves yet; requests wait at the activator")


def test_one_that_would_not_sleep_says_why() -> None:
    done = look(1, replace(awake(), awake="because"), activator(*PODS), replicas("10.1.0.1"))
    assert done.status("ModelDeployment", "m")["autoscaler"]["reason"].endswith("; it would not sleep: because")


# ---- no more


def test_a_model_that_may_not_sleep_any_more_keeps_its_slice_until_a_replica_serves() -> None:
    """Its requests wait there."""
    fixed = {"scaling": {"minReplicas": 1, "maxReplicas": 4}}
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    done = look(0, awake(), activator(*PODS), replicas(), old, spec=fixed)
    assert (addresses(done), wanted(done)) == (list(PODS), 1)
    done = look(1, awake(), activator(*PODS), replicas("10.1.0.1"), old, spec=fixed)
    assert door(done) is None
    (gone,) = [act for act in done.actions.deletes if act.kind == "EndpointSlice"]
    assert (gone.name, gone.uid) == ("m-activator", old.uid)
    (service,) = b.applied(done.actions, "Service")
    assert "polyfleet.io/activator" not in service["metadata"]["labels"]


def test_a_suspended_model_wakes_for_nobody() -> None:
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    done = look(0, asleep(), activator(*PODS), replicas(), old, spec={"suspend": True})
    assert door(done) is None
    assert "EndpointSlice" in [act.kind for act in done.actions.deletes]


def test_other_modes_and_other_minimums_have_nothing_to_do_with_it() -> None:
    for scaling in ({"minReplicas": 1, "maxReplicas": 4}, {"minReplicas": 0, "maxReplicas": 4, "scaleToZero": {}, "mode": "Advise"}):
        assert door(look(1, awake(), activator(*PODS), spec={"scaling": scaling})) is None


# ---- refused


def test_without_an_activator_scale_to_zero_is_refused_with_the_next_command() -> None:
    """The model goes on with one replica; asleep, it wakes."""
    for size in (1, 0):
        done = look(size, asleep())
        assert (wanted(done), done.plan.stop) == (1, ())
        status, reason, text = condition(done, "Accepted")
        assert (status, reason) == ("False", "NoWakePath")
        assert "helm upgrade RELEASE CHART -n NAMESPACE --reuse-values --set activator.enabled=true" in text
        assert text.endswith("kubectl delete endpointslices -A -l polyfleet.io/activator=held")  # nobody here may see those left behind
        assert door(done) is None
        (service,) = b.applied(done.actions, "Service")
        assert "polyfleet.io/activator" not in service["metadata"]["labels"]


def test_a_wake_that_takes_too_long_keeps_one_replica_and_is_refused() -> None:
    """Scale to zero is refused, not the model: it goes on with one."""
    old = stored(look(1, asleep(), activator(*PODS), replicas("10.1.0.1")))
    said = asleep(wake_fault="a start takes 90 s (P90)")
    done = look(1, said, activator(*PODS), replicas("10.1.0.1"), old)
    assert (wanted(done), done.plan.stop) == (1, ())
    assert condition(done, "Accepted")[:2] == ("False", "WakeTooSlow")


def test_where_nobody_can_look_nothing_is_refused_and_the_last_replica_stays() -> None:
    """It was decided to sleep, and then the slices could not be read: nobody sees whether the activator stands in the way."""
    done = look(1, asleep(), gone=True)
    assert (wanted(done), done.plan.stop, door(done), condition(done, "Accepted")[0]) == (1, (), None, "True")
    assert wanted(look(0, asleep(), gone=True)) == 0


def test_the_slice_of_a_model_that_is_refused_follows_the_pods_and_goes_out_of_the_way() -> None:
    """An edit names a profile that does not exist, while the activator's pods are replaced and while a replica serves."""
    bad = {"placement": {"profiles": ["nobodys"]}}
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    done = look(0, asleep(), activator("10.9.0.7"), replicas(), old, spec=bad)
    assert (condition(done, "Accepted")[:2], addresses(done)) == (("False", "UnknownProfile"), ["10.9.0.7"])
    assert addresses(look(1, awake(), activator("10.9.0.7"), replicas("10.1.0.1"), old, spec=bad)) == []
    assert door(look(0, asleep(), activator(*PODS), replicas(), spec=bad)) is None


# ---- whose slices count


def test_a_slice_of_another_owner_or_name_is_not_ours() -> None:
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    port = slices.port(old)
    for other in (replace(old, owner_uid="somebody"), replace(old, namespace="other")):
        found = path.survey((activator(*PODS), other), [(scaled(SPEC), None)])
        assert (found.held, found.stray) == ({}, {})
    assert slices.port(path.survey((activator(*PODS), old), [(scaled(SPEC), None)]).held["llm/m"]) == port


def test_the_activators_pods_are_read_in_its_own_namespace_only() -> None:
    there = {"labels": activator().labels, "namespace": "evil", "name": "x", "uid": "u", "resourceVersion": "1"}
    assert slices.parse({"metadata": there, "endpoints": []}, home="polyfleet") is None
    assert slices.parse({"metadata": there | {"namespace": "polyfleet"}, "endpoints": []}, home="polyfleet") is not None


def test_an_activator_of_two_families_is_reached_by_the_first() -> None:
    six = activator("fd00::1", spec={"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}], "ports": []})
    four = activator("10.9.0.1", spec={"addressType": "IPv4", "endpoints": [{"addresses": ["10.9.0.1"]}], "ports": []})
    assert [each.address for each in path.survey((six, four), ()).pods] == ["10.9.0.1"]
    only = path.survey((six,), ())
    assert (only.family, [each.address for each in only.pods]) == ("IPv6", ["fd00::1"])


def test_a_slice_of_the_other_family_goes_when_the_activator_changes_it() -> None:
    six = activator("fd00::1", spec={"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}], "ports": []})
    old = stored(look(0, asleep(), six, replicas()))
    assert old.name == "m-activator-ipv6"
    done = look(0, asleep(), activator(*PODS), replicas(), old)
    assert addresses(done) == list(PODS)
    assert [act.name for act in done.actions.deletes if act.kind == "EndpointSlice"] == ["m-activator-ipv6"]


def test_a_new_operator_lets_stand_what_the_last_one_knew() -> None:
    old = stored(look(0, asleep(), activator(*PODS), replicas()))
    notes = door(look(0, None, activator(*PODS), replicas(), old))["metadata"]["annotations"]  # type: ignore[index]
    assert (notes["polyfleet.io/hold-seconds"], notes["polyfleet.io/wake-seconds"]) == ("180", "90")


# ---- counters


def counted(requests: float | None = 0.0, waiting: float | None = 0.0, holds: float | None = 300.0) -> dict[str, Counted]:
    return {"a/m": Counted(requests, waiting, holds)}


def test_what_several_pods_count_is_one_reading() -> None:
    ledger = Ledger()
    first = ledger.fold(["a/m"], {"x": counted(7.0), "y": counted(1.0, holds=200.0)}, {"x", "y"}, 10.0)["a/m"]
    assert (first.at, first.arrived, first.waiting, first.holds_s, first.only_at_zero) == (10.0, 0.0, 0.0, 200.0, True)
    second = ledger.fold(["a/m"], {"x": counted(9.0, 2.0), "y": counted(4.0, 1.0)}, {"x", "y"}, 15.0)["a/m"]
    assert (second.arrived, second.waiting) == (5.0, 3.0)


def test_a_pod_that_begins_anew_comes_or_goes_sets_nothing_back() -> None:
    ledger = Ledger()
    ledger.fold(["a/m"], {"x": counted(7.0), "y": counted(1.0)}, {"x", "y"}, 10.0)
    restarted = ledger.fold(["a/m"], {"x": counted(2.0), "y": counted(1.0)}, {"x", "y"}, 15.0)["a/m"]
    assert restarted.arrived == 2.0
    replaced = ledger.fold(["a/m"], {"x": counted(2.0), "z": counted(3.0)}, {"x", "z"}, 20.0)["a/m"]
    assert replaced.arrived == 5.0
    alone = ledger.fold(["a/m"], {"z": counted(3.0)}, {"z"}, 25.0)["a/m"]
    assert alone.arrived == 5.0


def test_a_pod_that_could_not_be_read_at_the_beginning_brings_no_growth_when_it_can() -> None:
    ledger = Ledger()
    ledger.fold(["a/m"], {"x": counted(7.0), "y": None}, {"x", "y"}, 10.0)
    assert ledger.fold(["a/m"], {"x": counted(7.0), "y": counted(500.0)}, {"x", "y"}, 15.0)["a/m"].arrived == 0.0


@pytest.mark.parametrize("lost", [None, {}, counted(requests=None), counted(waiting=None)])
def test_one_pod_unread_leaves_the_sum_unknown_and_who_waits_at_another_one_known(lost: Any) -> None:
    ledger = Ledger()
    quiet = ledger.fold(["a/m"], {"x": counted(7.0), "y": lost}, {"x", "y"}, 10.0)["a/m"]
    assert (quiet.arrived, quiet.waiting) == (None, None)
    waits = ledger.fold(["a/m"], {"x": counted(8.0, 1.0), "y": lost}, {"x", "y"}, 15.0)["a/m"]
    assert (waits.arrived, waits.waiting) == (None, 1.0)


def test_who_leaves_is_asked_for_those_who_wait_there_and_is_not_missed() -> None:
    ledger = Ledger()
    found = ledger.fold(["a/m"], {"x": counted(7.0), "old": counted(9.0, 2.0, None)}, {"x"}, 10.0)["a/m"]
    assert (found.arrived, found.waiting, found.holds_s) == (0.0, 2.0, 300.0)
    assert ledger.fold(["a/m"], {"x": counted(7.0), "old": None}, {"x"}, 15.0)["a/m"].arrived == 0.0


def test_no_pod_is_no_zero() -> None:
    found = Ledger().fold(["a/m"], {}, set(), 10.0)["a/m"]
    assert (found.arrived, found.waiting, found.holds_s) == (None, None, None)


def test_a_page_is_read_by_name_and_numbers_that_cannot_be_are_unknown() -> None:
    where = '{namespace="a",name="m"}'
    text = "\n".join(
        [
            "# TYPE polyfleet_activator_requests counter",
            f"polyfleet_activator_requests_total{where} 12",
            f"polyfleet_activator_waiting_requests{where} NaN",
            f"polyfleet_activator_hold_seconds{where} 300",
            f"polyfleet_activator_waiting_bytes{where} 5",
            "",
        ]
    )
    assert read(text) == {"a/m": Counted(12.0, None, 300.0)}
    assert read("") == {}
    with pytest.raises(ValueError, match="metric name"):
        read("<html>no</html>\n")
