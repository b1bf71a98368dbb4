"""A small cluster that moves by itself: what a cycle asks for is done, ReplicaSets and kubelets play along, and checks give verdicts.

One `turn` is one whole cycle and everything that follows from it before the next. Times are given; each turn takes a minute. Nobody has
requests in flight, so a replica that is drained goes in the next turn.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from polyfleet import naming
from polyfleet.actions import Actions, EventNote, PodPatch
from polyfleet.clearance import wanted
from polyfleet.decide import act, prepare, report
from polyfleet.inventory import node_of
from polyfleet.metrics import Metrics
from polyfleet.planner import Planned, Planner
from polyfleet.plans import judge
from polyfleet.state import Condition, CustomState, DeploymentState, InFlight, NodeState, Observed, PodState

from tests.unit.operator import builders as b
from tests.unit.operator import cycle
from tests.unit.operator.test_gate import GATE, InProcess, passed, verdict

REQUIRED = b.policy(GATE)
LONG_AGO = "2000-01-01T00:00:00Z"


def at_once(coroutine: Coroutine[Any, Any, Planned]) -> Planned:
    """The result of a coroutine that never waits, as with a placer in this process: an event loop costs more than the turn."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        found: Planned = done.value
        return found
    raise AssertionError("it waits for something")


def argument(deployment: DeploymentState) -> str:
    """The last argument of a child's engine: by it the tests tell revisions apart."""
    return str(deployment.spec["template"]["spec"]["containers"][0]["args"][-1])


@dataclass
class Cluster:
    models: dict[str, CustomState]
    nodes: tuple[NodeState, ...]
    policy: CustomState = field(default_factory=b.ungated)
    profiles: tuple[CustomState, ...] = b.profiles("sandbox-nvidia")
    broken: Callable[[DeploymentState], bool] = lambda _: False  # whose engines never come up
    judged: Callable[[DeploymentState], str] = lambda _: "Promote"  # the verdict of a check, "" while it runs
    deployments: dict[str, DeploymentState] = field(default_factory=dict)
    pods: dict[str, PodState] = field(default_factory=dict)
    reports: dict[str, CustomState] = field(default_factory=dict)
    plans: tuple[CustomState, ...] = ()
    owners: dict[str, str] = field(default_factory=dict)  # pod -> Deployment
    notes: dict[str, EventNote] = field(default_factory=dict)  # by reason, the newest
    now: str = b.NOW
    made: int = 0
    least: dict[str, int] = field(default_factory=dict)  # fewest serving replicas seen, by model, while `watch` is on
    watch: bool = False
    others: tuple[PodState, ...] = ()  # pods of somebody else
    sick: set[str] = field(default_factory=set)  # pods whose engines have ended and do not come up again
    solver: InProcess = field(default_factory=InProcess)
    planner: Planner = field(init=False)

    def __post_init__(self) -> None:
        self.planner = Planner(self.solver, Metrics(lambda: 0.0))  # type: ignore[arg-type]

    # ---- what tests ask and change

    def spec(self, name: str, **change: Any) -> None:
        found = self.models[name]
        self.models[name] = replace(found, spec={**found.spec, **change}, generation=found.generation + 1)

    def of(self, name: str, arg: str = "") -> list[PodState]:
        """Pods of a model, of one revision."""
        found = [p for p in self.pods.values() if p.labels[naming.DEPLOYMENT] == name]
        return [p for p in found if not arg or argument(self.deployments[self.owners[p.name]]) == arg]

    def serving(self, name: str, arg: str = "") -> int:
        return sum(1 for pod in self.of(name, arg) if b_ready(pod))

    def revisions(self, name: str) -> dict[str, int]:
        """Serving replicas by the argument of their revision."""
        found: dict[str, int] = {}
        for pod in self.of(name):
            arg = argument(self.deployments[self.owners[pod.name]])
            found[arg] = found.get(arg, 0) + b_ready(pod)
        return {arg: count for arg, count in sorted(found.items()) if count}

    def row(self, name: str, kind: str) -> tuple[str, str, str]:
        return b.condition(self.models[name].status, kind)

    def again(self) -> Cluster:
        """The same cluster once more, to be moved on by itself."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("planner", "solver")}
        return Cluster(**{name: copy(value) if isinstance(value, dict | set) else value for name, value in own.items()})

    def seen(self) -> Observed:
        leaving = [pod.uid for pod in self.pods.values() if pod.labels.get(naming.DRAINING) == "true"]
        idle = {uid: InFlight(0.0, self.now, LONG_AGO, LONG_AGO) for uid in leaving}
        found = b.observed(
            models=self.models.values(), policy=self.policy, profiles=self.profiles, nodes=self.nodes,
            pools=[b.pool(profile.name, profile.name) for profile in self.profiles],
            plans=self.plans, deployments=self.deployments.values(), pods=[*self.pods.values(), *self.others],
            reports=self.reports.values(),
        )  # fmt: skip
        return replace(found, in_flight=idle)

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.turn()

    def until(self, reached: Callable[[], bool], most: int = 80) -> None:
        for _ in range(most):
            if reached():
                return
            self.turn()
        raise AssertionError({name: (self.revisions(name), self.row(name, "Promoted")) for name in self.models})

    # ---- one cycle and what follows

    def turn(self) -> Planned:
        seen = self.seen()
        planned = at_once(self.planner.plan(prepare(seen, now=self.now), self.now))
        assert not planned.failed, planned.failed
        decision = judge.judge(seen, planned.inputs, planned.plan, millis=1, now=self.now)
        if decision.create is not None:
            self.plans = (*self.plans, cycle.stored(decision.create, now=self.now))
            seen = self.seen()
            decision = judge.judge(seen, planned.inputs, planned.plan, millis=1, now=self.now)
            assert decision.create is None, "the plan that was just written is not taken up"
        new = {item.name: item.status for item in judge.statuses(decision, planned.inputs, self.now)}
        gone = {item.name for item in judge.outdated(decision)}
        self.plans = tuple(replace(plan, status=new.get(plan.name, plan.status)) for plan in self.plans if plan.name not in gone)
        actions = act(seen, planned.inputs, decision.plan, now=self.now, kept=decision.kept)
        checks = wanted.wanted(seen, planned.inputs, now=self.now, namespace="polyfleet-system")
        told = report(seen, planned.inputs, decision.plan, now=self.now, told=decision.told)
        for status in told.statuses:
            if status.kind == "ModelDeployment":
                self.models[status.name] = replace(self.models[status.name], status=dict(status.status))
        self.notes |= {note.reason: note for note in told.events}
        self._carry_out(actions)
        self._check(checks)
        self._controllers()
        for name in self.models:
            if self.watch:
                self.least[name] = min(self.least.get(name, 99), self.serving(name))
        self.now = (datetime.fromisoformat(self.now) + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
        return planned

    def _carry_out(self, actions: Actions) -> None:
        for patch in actions.pod_patches:
            self.pods[patch.name] = _patched(self.pods[patch.name], patch)
        for delete in actions.deletes:
            if delete.kind == "Pod":
                self.remove(delete.name)
            else:
                self.deployments.pop(delete.name, None)
        for manifest in b.applied(actions, "Deployment"):
            self.deployments[manifest["metadata"]["name"]] = b.child(manifest)

    def remove(self, name: str) -> None:
        """A pod is deleted; here it ends at once."""
        self.pods.pop(name, None)

    def _controllers(self) -> None:
        for name, child in sorted(self.deployments.items()):
            own = [pod for pod in self.pods.values() if self.owners[pod.name] == name and not pod.deleting]
            # The ReplicaSet takes what is not bound first, then what is not ready, the cheapest first.
            order = sorted(own, key=lambda p: (bool(p.node), b_ready(p), int(p.annotations.get(naming.DELETION_COST, 0)), p.name))
            for pod in order[: max(0, len(own) - child.replicas)]:
                self.remove(pod.name)
            for _ in range(child.replicas - len(own)):
                self.made += 1
                pod = b.replica(child, f"pod-{self.made:03}", created=self.now)
                self.pods[pod.name], self.owners[pod.name] = pod, name
        for name, pod in list(self.pods.items()):
            self.pods[name] = self._kubelet(pod)

    def _kubelet(self, pod: PodState) -> PodState:
        child = self.deployments[self.owners[pod.name]]
        node = pod.node or pod.pinned_node
        if not node:
            return pod
        up = not self.broken(child) and pod.name not in self.sick
        gate = pod.conditions.get(naming.SERVING)
        running = b.replica(child, pod.name, node=node, up=up, created=pod.created)
        image = naming.short_hash(child.spec["template"]["spec"]["containers"][0]["image"])
        containers = tuple(replace(c, image_id=f"x@sha256:{image}", reason="" if up else "CrashLoopBackOff") for c in running.containers)
        conditions = {
            **pod.conditions,
            "PodScheduled": pod.conditions.get("PodScheduled") or Condition("PodScheduled", "True", last_transition=self.now),
            "ContainersReady": Condition("ContainersReady", "True" if up else "False"),
            "Ready": Condition("Ready", "True" if up and gate is not None and gate.status == "True" else "False"),
        }
        return replace(
            running, labels=pod.labels, annotations=pod.annotations, conditions=conditions, containers=containers, ip="10.0.0.7",
            deleting=pod.deleting,
        )  # fmt: skip

    def _check(self, checks: wanted.Wanted) -> None:
        for apply in checks.applies:
            meta, spec = apply.manifest["metadata"], apply.manifest["spec"]
            made = b.custom("AccuracyReport", meta["name"], spec, namespace=meta["namespace"])
            self.reports[meta["name"]] = replace(made, annotations=meta["annotations"], created=self.now)
        for delete in checks.deletes:
            self.reports.pop(delete.name)
        for item in checks.work.certify:
            word = self.judged(self.deployments[self.owners[item.replicas[0].pod]])
            if word:
                said = ("True", "Equivalent") if word == "Promote" else ("False", "NotEquivalent")
                self.tell(item.report, **verdict(word, *said, at=self.now, record="m-record" if item.own_reference else ""))
        for enter in checks.work.enter:
            rows = [row for row in self.reports[enter.report].status.get("replicas") or () if row["pod"] != enter.replica.pod]
            self.tell(enter.report, replicas=[*rows, passed(self.pods[enter.replica.pod])])

    def tell(self, name: str, **status: Any) -> None:
        found = self.reports[name]
        self.reports[name] = replace(found, status={**found.status, **status})

    def rejudge(self, arg: str, word: str, message: str = "") -> None:
        """The verdict of a revision changes: a re-check found something."""
        for name, found in list(self.reports.items()):
            children = [d for d in self.deployments.values() if d.labels[naming.REVISION] == found.spec["fingerprint"]["flags"]]
            if any(argument(child) == arg for child in children):
                said = "True" if word == "Promote" else "False"
                self.tell(name, **verdict(word, said, "NotEquivalent", at=self.now, message=message))


def b_ready(pod: PodState) -> bool:
    gate, ready = pod.conditions.get(naming.SERVING), pod.conditions.get("Ready")
    return gate is not None and gate.status == "True" and ready is not None and ready.status == "True"


def _patched(pod: PodState, patch: PodPatch) -> PodState:
    body: Mapping[str, Any] = patch.body
    meta = body.get("metadata") or {}
    labels = {**pod.labels, **(meta.get("labels") or {})}
    pod = replace(
        pod,
        labels={key: text for key, text in labels.items() if text is not None},
        annotations={**pod.annotations, **(meta.get("annotations") or {})},
    )
    for row in (body.get("status") or {}).get("conditions") or ():
        kept = Condition(row["type"], row["status"], row["reason"], row["message"])
        ready = Condition("Ready", "True" if row["status"] == "True" and pod.conditions["ContainersReady"].status == "True" else "False")
        pod = replace(pod, conditions={**pod.conditions, row["type"]: kept, "Ready": ready})
    if patch.kind == "Pin":
        return replace(pod, pinned_node=node_of(pod), gates=())
    return pod
