"""The kubelet's rules as the process node keeps them: back-off, probes, devices, admission, status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.deviceplugin.kinds import KINDS, Advertisement
from sandbox.processnode import admission, status
from sandbox.processnode.addresses import AddressPool
from sandbox.processnode.backoff import Backoff
from sandbox.processnode.devices import AdmissionError, DeviceManager, arbitrary, is_whole_cards
from sandbox.processnode.probes import LIVENESS, READINESS, STARTUP, ContainerProbes
from sandbox.processnode.records import ContainerRecord, Running, Terminated, Waiting
from sandbox.processnode.reporter import differs

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def offer(kind: str, count: int, node: str = "n") -> Advertisement:
    """What a node's plugin advertises."""
    found = KINDS[kind]
    return Advertisement(found, found.resource, tuple(found.id_pattern.format(node=node, index=index) for index in range(count)))


def at(seconds: float) -> datetime:
    """A moment so many seconds after the start."""
    return NOW + timedelta(seconds=seconds)


# -- restart back-off ------------------------------------------------------------------------------------------------------------


def test_backoff_first_restart_at_once_then_doubles_to_five_minutes() -> None:
    """The documented sequence of a container that ends at once: 0, 10, 20, 40, 80, 160, 300, 300 seconds."""
    backoff, now, waited = Backoff(), NOW, []
    for _ in range(8):
        remaining = backoff.remaining_seconds(now, now)
        waited.append(remaining)
        now += timedelta(seconds=remaining)
        backoff = backoff.raised(now - timedelta(seconds=remaining), now)
    assert waited == [0, 10, 20, 40, 80, 160, 300, 300]


def test_backoff_counts_from_the_end_of_the_run() -> None:
    """Four seconds after the end, six of ten are left."""
    backoff = Backoff().raised(NOW, NOW)
    assert backoff.remaining_seconds(at(20), at(24)) == 6
    assert backoff.remaining_seconds(at(20), at(31)) == 0


@pytest.mark.parametrize(("ran_seconds", "next_delay"), [(599, 80), (601, 10)])
def test_backoff_starts_over_after_ten_minutes(ran_seconds: float, next_delay: float) -> None:
    """A run of more than ten minutes is a sign of health; a shorter one is not."""
    backoff = Backoff(40.0, NOW)
    assert backoff.raised(at(ran_seconds), at(ran_seconds)).delay_seconds == next_delay


def test_backoff_survives_the_state_directory() -> None:
    """Writing and reading gives the same value."""
    backoff = Backoff(20.0, at(1.25))
    assert Backoff.from_json(backoff.to_json()) == backoff
    assert Backoff.from_json(Backoff().to_json()) == Backoff()


# -- probes ----------------------------------------------------------------------------------------------------------------------

HTTP = {"httpGet": {"port": 1}}


def test_no_probes_is_started_and_ready() -> None:
    """Without probes a running container is ready."""
    probes = ContainerProbes.of({})
    assert (probes.started, probes.ready) == (True, True)


def test_startup_holds_back_the_others() -> None:
    """Readiness and liveness are not asked before startup has succeeded, startup not after."""
    probes = ContainerProbes.of({"startupProbe": HTTP, "readinessProbe": HTTP, "livenessProbe": HTTP})
    assert [probes.wants(kind) for kind in (STARTUP, READINESS, LIVENESS)] == [True, False, False]
    probes.observe(READINESS, True)
    assert not probes.ready
    probes.observe(STARTUP, True)
    assert [probes.wants(kind) for kind in (STARTUP, READINESS, LIVENESS)] == [False, True, True]
    assert (probes.started, probes.ready) == (True, False)
    probes.observe(READINESS, True)
    assert probes.ready


def test_readiness_needs_failures_in_a_row() -> None:
    """Two failures, a success, two failures: still ready with failureThreshold 3; a third in a row ends it, one success brings it back."""
    probes = ContainerProbes.of({"readinessProbe": {**HTTP, "failureThreshold": 3}})
    for success in (True, False, False, True, False, False):
        probes.observe(READINESS, success)
        assert probes.ready
    probes.observe(READINESS, False)
    assert not probes.ready
    assert probes.restart_because == ""
    probes.observe(READINESS, True)
    assert probes.ready


@pytest.mark.parametrize("kind", [STARTUP, LIVENESS])
def test_startup_and_liveness_failures_ask_for_a_restart_once(kind: str) -> None:
    """At the threshold a restart is asked for, and nothing is probed any more in this run."""
    probes = ContainerProbes.of({f"{kind}Probe": {**HTTP, "failureThreshold": 2}})
    probes.observe(kind, False)
    assert probes.restart_because == ""
    probes.observe(kind, False)
    assert probes.restart_because == kind
    assert not probes.wants(kind)


def test_resume_keeps_ready_until_failures_prove_otherwise() -> None:
    """A new agent starts from what was known, not from zero."""
    probes = ContainerProbes.of({"startupProbe": HTTP, "readinessProbe": HTTP})
    probes.resume(started=True, ready=True)
    assert (probes.started, probes.ready, probes.wants(STARTUP)) == (True, True, False)


# -- devices ---------------------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 15), min_size=1), st.data(), st.text(max_size=8))
def test_ascend_choice_avoids_whole_cards_when_it_can(dies: set[int], data: st.DataObject, seed: str) -> None:
    """The choice is repeatable, of the right size, out of the free dies, and whole cards only when every free die is taken."""
    free = [f"Ascend910-{die}" for die in sorted(dies)]
    count = data.draw(st.integers(1, len(free)))
    picked = arbitrary(free, count, seed)
    assert picked == arbitrary(list(reversed(free)), count, seed)
    assert len(set(picked)) == count
    assert set(picked) <= set(free)
    if is_whole_cards(picked):
        assert count == len(free)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("nvidia", {"NVIDIA_VISIBLE_DEVICES": "GPU-n-0,GPU-n-1"}), ("ppu", {"PPU_VISIBLE_DEVICES": "0,1"})],
)
def test_preferred_allocation_is_lowest_and_contiguous(kind: str, expected: dict[str, str]) -> None:
    """nvidia and ppu give neighbours from the bottom, in their own form of environment."""
    manager = DeviceManager(offer(kind, 8))
    assert manager.environment(manager.allocate("uid", {}, {"engine": 2})["engine"]) == expected


def test_a_device_is_never_held_twice_and_comes_back() -> None:
    """Allocation until nothing is left, release, allocation again."""
    manager = DeviceManager(offer("ascend", 4))
    first = manager.allocate("a", {}, {"engine": 3})["engine"]
    second = manager.allocate("b", {}, {"engine": 1})["engine"]
    assert sorted(first + second) == list(manager.devices)
    with pytest.raises(AdmissionError, match=r"huawei.com/Ascend910. Requested: 1, Available: 0"):
        manager.allocate("c", {}, {"engine": 1})
    assert "c" not in manager.held
    manager.release("b")
    assert manager.allocate("c", {}, {"engine": 1})["engine"] == second


def test_init_containers_devices_are_used_again() -> None:
    """An init container's devices go to the main container: eight of eight can be had by both."""
    manager = DeviceManager(offer("ppu", 8))
    result = manager.allocate("a", {"init": 4}, {"engine": 8})
    assert set(result["init"]) <= set(result["engine"])
    assert len(set(result["engine"])) == 8


def test_unhealthy_devices_leave_allocatable_only() -> None:
    """Capacity stays, allocatable shrinks, unknown ids count for nothing, running pods keep theirs."""
    manager = DeviceManager(offer("ascend", 4))
    manager.allocate("a", {}, {"engine": 4})
    assert manager.mark_unhealthy({"Ascend910-0", "Ascend910-9"})
    assert not manager.mark_unhealthy({"Ascend910-0"})
    assert (len(manager.devices), manager.allocatable, len(manager.held["a"]["engine"])) == (4, 3, 4)


# -- admission and addresses -----------------------------------------------------------------------------------------------------


def pod_of(*requests: dict[str, str], init: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    """A pod whose containers request so much."""
    return {
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {
            "containers": [{"name": f"c{i}", "resources": {"requests": r}} for i, r in enumerate(requests)],
            "initContainers": [{"name": f"i{i}", "resources": {"requests": r}} for i, r in enumerate(init)],
        },
    }


def test_pod_request_is_the_sum_or_the_largest_init_container() -> None:
    """1 + 0.5 processors in main containers against one init container of two."""
    assert admission.pod_request(pod_of({"cpu": "1"}, {"cpu": "500m"}), "cpu") == 1500
    assert admission.pod_request(pod_of({"cpu": "1"}, {"cpu": "500m"}, init=({"cpu": "2"},)), "cpu") == 2000


def test_check_room_rejects_what_does_not_fit() -> None:
    """The last processor may be taken; a little more is OutOfcpu."""
    room = {"cpu": "2", "memory": "1Gi"}
    admission.check_room(pod_of({"cpu": "1"}), [pod_of({"cpu": "1"})], room)
    with pytest.raises(AdmissionError, match="requested: 1100, used: 1000, capacity: 2000") as caught:
        admission.check_room(pod_of({"cpu": "1100m"}), [pod_of({"cpu": "1"})], room)
    assert caught.value.reason == "OutOfcpu"


def test_addresses_are_unique_and_not_reused_at_once() -> None:
    """The first address is the node's; a released one comes back only after the others."""
    pool = AddressPool("127.9.8.0/29")
    assert pool.node == "127.9.8.1"
    first = pool.take()
    pool.release(first)
    later = [pool.take() for _ in range(5)]
    assert first == "127.9.8.2"
    assert later == ["127.9.8.3", "127.9.8.4", "127.9.8.5", "127.9.8.6", "127.9.8.2"]
    with pytest.raises(RuntimeError, match="all 5 pod addresses"):
        pool.take()


@pytest.mark.parametrize("cidr", ["10.0.0.0/24", "127.0.0.0/30"])
def test_addresses_outside_loopback_are_refused(cidr: str) -> None:
    """Only 127/8 may be used, and not too little of it."""
    with pytest.raises(ValueError, match="--pod-cidr"):
        AddressPool(cidr)


# -- status ----------------------------------------------------------------------------------------------------------------------

RUNNING, CREATING = Running(NOW), Waiting("ContainerCreating")


def ended(code: int) -> Terminated:
    """A container that has ended."""
    return Terminated(code, "Completed" if code == 0 else "Error", NOW, NOW)


def record(state: Any, *, done: bool = False, last: Terminated | None = None, ready: bool = False) -> ContainerRecord:
    """One container."""
    return ContainerRecord("c", "i", state, done=done, last=last, ready=ready)


@pytest.mark.parametrize(
    ("policy", "records", "stopped", "expected"),
    [
        ("Always", [record(CREATING)], False, "Pending"),
        ("Always", [record(RUNNING), record(CREATING)], False, "Pending"),
        ("Always", [record(RUNNING)], False, "Running"),
        ("Always", [record(Waiting("CrashLoopBackOff"), last=ended(1))], False, "Running"),
        ("Always", [record(ended(0))], False, "Running"),
        ("Never", [record(ended(0), done=True)], False, "Succeeded"),
        ("Never", [record(ended(1), done=True)], False, "Failed"),
        ("Never", [record(ended(1), done=True), record(RUNNING)], False, "Running"),
        ("OnFailure", [record(ended(1))], False, "Running"),
        ("Always", [record(ended(0))], True, "Succeeded"),
        ("Always", [record(ended(137))], True, "Failed"),
    ],
)
def test_phase(policy: str, records: list[ContainerRecord], stopped: bool, expected: str) -> None:
    """The documented phases."""
    assert status.phase(policy, [], records, stopped) == expected


def written(known: dict[str, Any], *, ready: bool = True, gates: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The conditions that are written for a running pod, by type."""
    pod = {"metadata": {"generation": 3}, "spec": {"readinessGates": [{"conditionType": gate} for gate in gates]}}
    facts = status.PodFacts(pod, "127.9.8.2", "127.9.8.1", NOW, sandbox_ready=True)
    found = status.pod_status(facts, [], [record(RUNNING, ready=ready)], known, at(60))
    return {condition["type"]: condition for condition in found["conditions"]}


def test_ready_is_containers_and_gates() -> None:
    """Ready needs the container and every gate; ContainersReady needs the container alone."""
    assert written({})["Ready"]["status"] == "True"
    assert written({}, ready=False)["Ready"]["reason"] == "ContainersNotReady"
    missing = written({}, gates=("g",))
    assert (missing["ContainersReady"]["status"], missing["Ready"]["status"]) == ("True", "False")
    assert missing["Ready"]["reason"] == "ReadinessGatesNotReady"
    assert written({"g": {"type": "g", "status": "False"}}, gates=("g",))["Ready"]["status"] == "False"
    assert written({"g": {"type": "g", "status": "True"}}, gates=("g",))["Ready"]["status"] == "True"


def test_conditions_of_others_are_not_written_and_times_are_kept() -> None:
    """A foreign condition is left out; lastTransitionTime moves only with the status word."""
    known = {
        "Ready": {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
        "polyfleet.io/serving": {"type": "polyfleet.io/serving", "status": "True"},
    }
    same, other = written(known), written(known, ready=False)
    assert "polyfleet.io/serving" not in same
    assert same["Ready"]["lastTransitionTime"] == "2025-01-01T00:00:00Z"
    assert other["Ready"]["lastTransitionTime"] == "2026-01-01T00:01:00Z"


def test_an_unchanged_status_is_not_written() -> None:
    """What the API server already holds, in its own form (no nulls, foreign fields beside it), is no difference."""
    wanted = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "reason": None}]}
    held = {
        "phase": "Running",
        "qosClass": "Burstable",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "other", "status": "x"}],
    }
    assert not differs(held, wanted)
    assert differs({**held, "phase": "Pending"}, wanted)
    assert differs({**held, "conditions": [{"type": "Ready", "status": "True", "reason": "Old"}]}, wanted)
