"""The accuracy gate through the whole pure cycle: who is tried, what is checked, who may serve. One look after the other, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polyfleet.clearance import wanted
from polyfleet.clearance.standing import State
from polyfleet.clearance.work import RecordRef
from polyfleet.decide import act, prepare
from polyfleet.inputs import Inputs
from polyfleet.metrics import Metrics
from polyfleet.planner import Planned, Planner
from polyfleet.solver_process import Solved
from polyfleet.state import CustomState, DeploymentState, Observed, PodState

import placement
from placement.types import Demand, Snapshot, Warm
from tests.unit.operator import builders as b

DIGEST = "sha256:" + "a" * 64
GATE = {"accuracy": {"gate": "Required", "level": "Quick", "reference": {"onUnavailable": "SelfConsistency"}}}
KEY = "llm/m"


class InProcess:
    """The placer without a child process; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Snapshot] = []

    async def solve(self, snapshot: Snapshot, demand: Demand, warm: Warm | None) -> Solved:
        self.asked.append(snapshot)
        plan, kept = placement.plan(snapshot, demand, warm=warm)
        return Solved(plan, kept, tuple(str(v) for v in placement.check(snapshot, demand, plan)), 0.0)


def planned(seen: Observed, now: str = b.NOW, solver: InProcess | None = None) -> tuple[Inputs, Planned]:
    inputs = prepare(seen, now=now)
    planner = Planner(solver or InProcess(), Metrics(lambda: 0.0))  # type: ignore[arg-type]
    return inputs, asyncio.run(planner.plan(inputs, now))


@dataclass
class World:
    """Three vendors' nodes and one model, as the API server would hold them."""

    model: CustomState
    policy: CustomState
    deployments: tuple[DeploymentState, ...] = ()
    pods: tuple[PodState, ...] = ()
    reports: tuple[CustomState, ...] = ()

    def seen(self) -> Observed:
        return b.observed(
            models=[self.model],
            policy=self.policy,
            profiles=b.profiles(*b.SANDBOX),
            nodes=[b.sandbox(b.h100()), b.sandbox(b.a3()), b.sandbox(b.ppu())],
            deployments=self.deployments,
            pods=self.pods,
            reports=self.reports,
        )

    def turn(self) -> Planned:
        """Carries out what one cycle starts: each start becomes a replica that is up and does not serve."""
        _, plan = planned(self.seen())
        actions = act(self.seen(), plan.inputs, plan.plan)
        held = {d.name: d for d in self.deployments}
        for manifest in b.applied(actions, "Deployment"):
            held[manifest["metadata"]["name"]] = b.child(manifest)
        self.deployments = tuple(held.values())
        view, cells = plan.inputs.models[KEY], {c.name: c.pool for c in plan.inputs.snapshot.cells}
        for start in plan.plan.starts:
            rendered = view.child_for(start.option, cells[start.cell])
            assert rendered is not None
            self.pods = (*self.pods, up(held[rendered.name], f"{rendered.name}-{len(self.pods)}", start.node))
        return plan

    def checks(self, now: str = b.NOW) -> wanted.Wanted:
        seen = self.seen()
        return wanted.wanted(seen, planned(seen)[1].inputs, now=now, namespace="polyfleet-system")

    def with_reports(self) -> None:
        """What the API server makes of the reports that are to be created."""
        for apply in self.checks().applies:
            meta, spec = apply.manifest["metadata"], apply.manifest["spec"]
            made = b.custom("AccuracyReport", meta["name"], spec, namespace=meta["namespace"])
            self.reports = (
                *self.reports,
                replace(made, annotations=meta["annotations"], created=f"2026-11-25T08:00:{len(self.reports):02}Z"),
            )

    def told(self, name: str, **status: Any) -> None:
        self.reports = tuple(replace(r, status={**r.status, **status}) if r.name == name else r for r in self.reports)

    def serve(self, name: str) -> None:
        found = next(pod for pod in self.pods if pod.name == name)
        (owner,) = [d for d in self.deployments if b.replica_set_uid(d.name) == found.owner_uid]
        serving = replace(b.replica(owner, name, node=found.node, serving=True), containers=found.containers, ip=found.ip)
        self.pods = tuple(serving if pod.name == name else pod for pod in self.pods)


def up(owner: DeploymentState, name: str, node: str, image: str = DIGEST) -> PodState:
    made = b.replica(owner, name, node=node, up=True)
    containers = tuple(replace(c, image_id=f"registry.example/engine@{image}") for c in made.containers)
    return replace(made, containers=containers, ip="10.0.0.7")


def world(replicas: int = 3, **accuracy: Any) -> World:
    spec = {**GATE, "accuracy": {**GATE["accuracy"], **accuracy}}
    return World(b.model(spec={"replicas": replicas}), b.policy(spec))


def verdict(word: str, status: str, reason: str, *, at: str = b.NOW, record: str = "", message: str = "") -> dict[str, Any]:
    rows = [
        {"type": "AccuracyVerified", "status": status, "reason": reason, "message": message, "lastTransitionTime": at},
        {"type": "Complete", "status": "True", "reason": "VerdictReached", "message": "", "lastTransitionTime": at},
    ]
    kept = {"record": {"configMap": record, "digest": "sha256:1", "made": at}} if record else {}
    return {"verdict": word, "conditions": rows, "checkedAt": at, **kept}


def passed(pod: PodState, result: str = "Passed") -> dict[str, Any]:
    return {"pod": pod.name, "containerId": pod.containers[0].container_id, "result": result}


def promote_first(w: World) -> PodState:
    """The first candidate becomes the reference, enters and serves."""
    w.turn()
    w.with_reports()
    (pod,), (report,) = w.pods, w.reports
    w.told(report.name, **verdict("Promote", "True", "SelfReference", record="m-record"), replicas=[passed(pod)])
    w.serve(pod.name)
    return pod


def states(w: World) -> Mapping[str, State]:
    view = prepare(w.seen(), now=b.NOW).models[KEY]
    return {name: view.clearance.pods[pod.uid].state for pod in w.pods for name in [pod.name]}


# ---- who is tried


def test_a_new_model_begins_with_one_candidate_that_is_no_capacity() -> None:
    """At most one candidate, no traffic (accuracy.md, acceptance test 13); the wanted three replicas are not asked for yet."""
    w = world()
    plan = w.turn()
    assert len(plan.plan.starts) == 1
    assert plan.plan.shortfalls == ()
    (pod,) = w.pods
    again = planned(w.seen())[1]
    assert (again.plan.starts, again.plan.stop, again.plan.keep) == ((), (), (pod.uid,))
    patches = [patch for patch in act(w.seen(), again.inputs, again.plan).pod_patches if patch.kind == "Serving"]
    assert [patch.body["status"]["conditions"][0]["status"] for patch in patches] == ["False"]


def test_the_same_question_is_asked_once() -> None:
    w, solver = world(), InProcess()
    planner = Planner(solver, Metrics(lambda: 0.0))  # type: ignore[arg-type]
    inputs = prepare(w.seen(), now=b.NOW)
    first = asyncio.run(planner.plan(inputs, b.NOW))
    count = len(solver.asked)
    assert count == 3  # as it is, as it could be, with the candidate
    assert asyncio.run(planner.plan(prepare(w.seen(), now=b.NOW), b.NOW)).plan == first.plan
    assert len(solver.asked) == count


def test_without_a_reference_nothing_is_tried_and_the_way_out_is_told() -> None:
    w = world(reference={"onUnavailable": "Hold"})
    plan = w.turn()
    assert (plan.plan.starts, w.pods) == ((), ())
    missing = plan.inputs.models[KEY].clearance.missing
    assert "spec.accuracy.reference.profile" in missing
    assert "polyfleet accuracy import" in missing


def test_a_named_reference_is_tried_before_everything_else() -> None:
    w = world(reference={"profile": "sandbox-ppu"})
    w.turn()
    assert [pod.node for pod in w.pods] == ["ppu-0"]


# ---- what is checked


def test_one_report_for_each_fingerprint_and_the_first_is_its_own_reference() -> None:
    w = world()
    w.turn()
    w.with_reports()
    (report,) = w.reports
    assert report.spec["fingerprint"]["engineImage"] == DIGEST
    assert w.checks().applies == ()  # made once
    (check,) = w.checks().work.certify
    assert (check.own_reference, check.record, check.recheck) == (True, None, False)
    assert check.capture_as.startswith("m-record")
    assert [each.url for each in check.replicas] == ["http://10.0.0.7:8000"]
    assert w.checks().work.enter == ()


def test_a_promoted_candidate_still_passes_the_entry_check() -> None:
    w = world()
    w.turn()
    w.with_reports()
    (pod,), (report,) = w.pods, w.reports
    w.told(report.name, **verdict("Promote", "True", "SelfReference", record="m-record"))
    assert states(w)[pod.name] is State.ENTRY
    (enter,) = w.checks().work.enter
    assert (enter.replica.pod, enter.record.name) == (pod.name, "m-record")
    w.told(report.name, replicas=[passed(pod, "Failed")])
    assert states(w)[pod.name] is State.REFUSED
    w.told(report.name, replicas=[passed(pod)])
    assert states(w)[pod.name] is State.CLEARED
    # Another container is another replica.
    (owner,) = [d for d in w.deployments if b.replica_set_uid(d.name) == pod.owner_uid]
    restarted = replace(up(owner, pod.name, pod.node), containers=tuple(replace(c, container_id="cri://new") for c in pod.containers))
    w.pods = (restarted,)
    assert states(w)[pod.name] is State.ENTRY


def test_after_the_first_promotion_the_target_is_reached_on_verified_hardware() -> None:
    w = world()
    first = promote_first(w)
    plan = w.turn()
    assert len(plan.plan.assignments) >= 1
    view = plan.inputs.models[KEY]
    kinds = {pod.node for pod in w.pods if view.clearance.pods.get(pod.uid) is None}
    assert kinds <= {first.node}
    assert len([pod for pod in w.pods if pod.node == first.node]) == 3


def test_a_blocked_pair_gets_no_second_candidate() -> None:
    w = world()
    w.turn()
    w.with_reports()
    (pod,), (report,) = w.pods, w.reports
    w.told(report.name, **verdict("Block", "False", "HardFault", message="NonFinite"))
    assert states(w)[pod.name] is State.BLOCKED
    plan = planned(w.seen(), "2026-11-25T08:05:00Z")[1]
    assert pod.uid in plan.plan.keep  # kept a while for somebody to look at
    started = {start.option for start in plan.plan.starts}
    later = planned(w.seen(), "2026-11-25T08:10:01Z")[1]
    assert pod.uid in later.plan.stop
    blocked = {option.id for option in later.inputs.snapshot.options if option.profile == report.spec["candidate"]["profile"]}
    assert not blocked & (started | {start.option for start in later.plan.starts})


def test_a_serving_replica_whose_image_changed_is_frozen_and_goes_on() -> None:
    """OC-067: the pair's condition is Unknown, a new report is made, and what serves goes on serving."""
    w = world(replicas=1)
    pod = promote_first(w)
    other = "sha256:" + "b" * 64
    w.pods = tuple(replace(p, containers=tuple(replace(c, image_id=f"x@{other}") for c in p.containers)) for p in w.pods)
    stand = prepare(w.seen(), now=b.NOW).models[KEY].clearance.pods[pod.uid]
    assert (stand.state, stand.reason) == (State.FROZEN, "FingerprintChanged")
    made = [apply.manifest["spec"]["fingerprint"]["engineImage"] for apply in w.checks().applies]
    assert made == [other]
    assert not [patch for patch in act(w.seen(), *_of(planned(w.seen())[1])).pod_patches if patch.kind == "Serving"]


def _of(plan: Planned) -> tuple[Inputs, Any]:
    return plan.inputs, plan.plan


def test_a_recheck_is_due_when_its_time_has_come() -> None:
    """The reference is held to its own record like everybody else: a fault in it must not become the new truth."""
    w = world(replicas=1, recheck={"every": "1h"}, reference={"onUnavailable": "SelfConsistency", "maxAge": "2h"})
    promote_first(w)
    before = w.checks("2026-11-25T08:59:59Z")
    assert (before.work.certify, before.next_s) == ((), 1.0)
    (check,) = w.checks("2026-11-25T09:00:00Z").work.certify
    assert (check.recheck, check.own_reference, check.record) == (True, False, RecordRef("llm", "m-record", "sha256:1"))
    (old,) = w.checks("2026-11-25T10:00:01Z").work.certify
    assert (old.recheck, old.own_reference, old.record) == (True, True, None)  # it is made anew


def test_a_block_never_takes_the_last_capacity() -> None:
    w = world(replicas=1)
    pod = promote_first(w)
    (report,) = w.reports
    w.told(report.name, **verdict("Block", "False", "NotEquivalent", record="m-record"))
    assert states(w)[pod.name] is State.BLOCKED
    plan = planned(w.seen())[1]
    assert pod.uid not in plan.plan.stop
    assert not [patch for patch in act(w.seen(), *_of(plan)).pod_patches if patch.kind == "Serving"]


def test_observe_checks_and_holds_nobody_back() -> None:
    w = world(gate="Observe")
    plan = w.turn()
    assert len(plan.plan.starts) == 3
    patches = [p for p in act(w.seen(), *_of(planned(w.seen())[1])).pod_patches if p.kind == "Serving"]
    assert [p.body["status"]["conditions"][0]["status"] for p in patches] == ["True"] * 3
    w.with_reports()
    assert len(w.checks().work.certify) == 1


def test_observe_makes_the_entry_check_too_and_takes_nobodys_traffic() -> None:
    """Interface.md §3.7: it scores and reports. The check is made once for each container; one that fails is told and goes on serving."""
    w = world(1, gate="Observe")
    w.turn()
    w.with_reports()
    (pod,), (report,) = w.pods, w.reports
    w.serve(pod.name)
    assert w.checks().work.enter == ()  # nothing to hold it against yet
    w.told(report.name, **verdict("Promote", "True", "SelfReference", record="m-record"))
    assert [item.replica.pod for item in w.checks().work.enter] == [pod.name]
    w.told(report.name, replicas=[passed(pod, "Failed")])
    assert w.checks().work.enter == ()
    assert not [p for p in act(w.seen(), *_of(planned(w.seen())[1])).pod_patches if p.kind == "Serving"]
    w.pods = tuple(replace(p, containers=tuple(replace(c, container_id="containerd://again") for c in p.containers)) for p in w.pods)
    assert [item.replica.pod for item in w.checks().work.enter] == [pod.name]  # its container restarted


def test_an_override_holds_until_it_ends() -> None:
    w = world(replicas=1)
    w.turn()
    w.with_reports()
    (report,) = w.reports
    w.told(report.name, **verdict("Block", "False", "NotEquivalent"))
    word = {"verdict": "Promote", "by": "me@example.org", "reason": "known and accepted difference", "until": "2026-11-25T09:00:00Z"}
    w.reports = (replace(report, spec={**report.spec, "override": word}, status=w.reports[0].status),)
    (during,) = wanted.statuses(w.seen(), now="2026-11-25T08:59:59Z")
    assert b.condition(during.status, "AccuracyVerified")[:2] == ("True", "Overridden")
    assert during.status["verdict"] == "Block"  # the measured one is not overwritten
    w.reports = (replace(w.reports[0], status=during.status),)
    (after,) = wanted.statuses(w.seen(), now="2026-11-25T09:00:00Z")
    assert b.condition(after.status, "AccuracyVerified")[:2] == ("False", "NotEquivalent")
