"""Our children in the cluster, attributed by owner uid: ModelDeployment -> Deployment -> ReplicaSet -> pod.

Labels are for people and selectors; a user may copy them to anything, so they never decide what is ours. A Deployment that was
owned by an earlier object of the same name (another uid) is the garbage collector's, not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyfleet import naming
from polyfleet.inventory import node_of, reserved
from polyfleet.state import DeploymentState, Observed, PodState

# Failed attempts that are kept: enough to count a growing delay, few enough to be no litter.
KEPT_FAILED = 7


def condition_true(pod: PodState, kind: str) -> bool:
    found = pod.conditions.get(kind)
    return found is not None and found.status == "True"


@dataclass(frozen=True, slots=True)
class Child:
    """One owned Deployment with its pods, finished ones included, sorted by (created, uid)."""

    deployment: DeploymentState
    model: str  # namespace/name of the owner
    pods: tuple[PodState, ...]

    @property
    def name(self) -> str:
        return self.deployment.name

    def text(self, key: str) -> str:
        """A value of ours in full length: the annotation of the same key if the label had to be shortened."""
        return self.deployment.annotations.get(key) or self.deployment.labels.get(key, "")

    @property
    def pool(self) -> str:
        return self.text(naming.POOL)

    @property
    def profile(self) -> str:
        return self.text(naming.PROFILE)

    @property
    def variant(self) -> str:
        return self.text(naming.VARIANT)

    @property
    def revision(self) -> str:
        return self.text(naming.REVISION)

    @property
    def engine(self) -> str:
        return self.text(naming.ENGINE)

    @property
    def devices(self) -> int:
        text = self.text(naming.DEVICES)
        return int(text) if text.isdecimal() else 0

    @property
    def option(self) -> str:
        return naming.option_id(self.model, self.profile, self.variant, self.engine, self.devices)

    @property
    def live(self) -> tuple[PodState, ...]:
        """Pods that the ReplicaSet counts: neither finished nor being deleted."""
        return tuple(pod for pod in self.pods if not pod.finished and not pod.deleting)

    @property
    def failed(self) -> tuple[PodState, ...]:
        return tuple(pod for pod in self.pods if pod.phase == "Failed" and not pod.deleting)

    def spent(self) -> tuple[PodState, ...]:
        """Failed pods that may go. The last ones stay while no other pod of the child is up: they carry the reason, and their
        number is how often it was tried in vain."""
        up = any(condition_true(pod, "ContainersReady") for pod in self.live)
        if up or (not self.live and not self.deployment.replicas):
            return self.failed
        return self.failed[:-KEPT_FAILED] if len(self.failed) > KEPT_FAILED else ()

    @property
    def waiting(self) -> tuple[PodState, ...]:
        """Live pods that hold our gate and have no node yet, in the order in which they get one."""
        return tuple(pod for pod in self.live if naming.GATE in pod.gates and not node_of(pod))

    @property
    def reserved(self) -> tuple[PodState, ...]:
        """Live pods that are promised a node and wait for its devices."""
        return tuple(pod for pod in self.live if reserved(pod))

    @property
    def stray(self) -> tuple[PodState, ...]:
        """Live pods whose gate somebody lifted without giving them a node: they would start wherever there is room."""
        return tuple(pod for pod in self.live if naming.GATE not in pod.gates and not node_of(pod))


@dataclass(frozen=True, slots=True)
class Children:
    by_model: Mapping[str, tuple[Child, ...]]
    owners: Mapping[str, str]  # pod uid -> model key

    def of(self, model: str) -> tuple[Child, ...]:
        return self.by_model.get(model, ())


def attribute(observed: Observed) -> Children:
    models = {state.uid: state.key for state in observed.model_deployments}
    deployments = {d.uid: d for d in observed.deployments if d.owner_uid in models}
    sets = {rs.uid: rs.owner_uid for rs in observed.replica_sets if rs.owner_uid in deployments}
    pods: dict[str, list[PodState]] = {}
    owners: dict[str, str] = {}
    for pod in observed.pods:
        owner = sets.get(pod.owner_uid)
        if owner is not None:
            pods.setdefault(owner, []).append(pod)
            owners[pod.uid] = models[deployments[owner].owner_uid]
    by_model: dict[str, list[Child]] = {}
    for deployment in sorted(deployments.values(), key=lambda d: (d.namespace, d.name)):
        found = sorted(pods.get(deployment.uid, ()), key=lambda p: (p.created, p.name, p.uid))
        model = models[deployment.owner_uid]
        by_model.setdefault(model, []).append(Child(deployment, model, tuple(found)))
    return Children({key: tuple(found) for key, found in sorted(by_model.items())}, owners)


def recorded_size(owned: tuple[Child, ...]) -> int:
    """The size that was decided last: what the Deployments ask for, less what is being drained out of them."""
    asked = sum(child.deployment.replicas for child in owned if not child.deployment.deleting)
    draining = sum(1 for child in owned for pod in child.live if pod.labels.get(naming.DRAINING) == "true")
    return max(0, asked - draining)
