"""What one cycle has observed, as frozen values: the only thing that the pure stages see of the cluster.

`observe` builds an `Observed` from the cache and nothing after it performs I/O or reads a clock. Objects are slim: only the
fields that a decision uses. Unknown is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polyfleet.clearance.work import Finding
from polyfleet.scaling.force import Force


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str  # True | False | Unknown
    reason: str = ""
    message: str = ""
    last_transition: str = ""  # RFC 3339
    observed_generation: int | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str  # NoSchedule | PreferNoSchedule | NoExecute


@dataclass(frozen=True, slots=True)
class NodeState:
    name: str
    uid: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    ready: bool | None  # None: status Unknown
    unschedulable: bool
    capacity: Mapping[str, int]  # extended resources only (names with a slash)
    allocatable: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SliceDevice:
    """One device that a DRA driver publishes."""

    name: str
    attributes: Mapping[str, Any]  # "domain/name" -> text, number or truth; names without a domain are in the driver's
    node: str = ""  # where the slice leaves the node to each device
    tainted: bool = False  # NoSchedule or NoExecute: nobody is given it
    counters: tuple[str, ...] = ()  # counter sets that it draws on: devices that share one are parts of the same silicon


@dataclass(frozen=True, slots=True)
class SliceState:
    """A ResourceSlice: some of the devices of one driver's pool, which is mostly one node."""

    name: str
    driver: str
    pool: str
    generation: int  # only the slices of the pool's highest generation count
    node: str
    devices: tuple[SliceDevice, ...]


@dataclass(frozen=True, slots=True)
class DeviceRef:
    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True)
class ClaimState:
    """An allocated ResourceClaim. One without an allocation holds nothing and is not held here."""

    namespace: str
    name: str
    uid: str
    devices: tuple[DeviceRef, ...]  # without those of admin access, which take nothing from anybody
    node: str  # that the allocation names, "" if none
    pods: tuple[str, ...]  # uids of the pods that use it
    extended: bool  # made by the scheduler for a pod's extended resource request, which says the same once more


@dataclass(frozen=True, slots=True)
class DeviceClassState:
    name: str
    extended_resource: str  # "" if pods can ask for it by claim only
    selectors: tuple[str, ...]  # CEL


@dataclass(frozen=True, slots=True)
class ContainerState:
    name: str
    container_id: str
    ready: bool
    restarts: int
    state: str  # waiting | running | terminated | ""
    reason: str = ""  # ImagePullBackOff, CrashLoopBackOff, ...
    message: str = ""
    exit_code: int | None = None
    image_id: str = ""  # what the kubelet really runs, with its digest; "" until it is known


@dataclass(frozen=True, slots=True)
class PodState:
    namespace: str
    name: str
    uid: str
    resource_version: str
    owner_uid: str  # uid of the controlling owner, "" if none
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    node: str  # spec.nodeName, "" while unbound
    pinned_node: str  # the node that a required matchFields term names, "" if none
    gates: tuple[str, ...]  # scheduling gates still set
    phase: str
    reason: str  # status.reason, for example UnexpectedAdmissionError, Evicted
    deleting: bool
    requests: Mapping[str, int]  # extended resources
    conditions: Mapping[str, Condition]
    containers: tuple[ContainerState, ...]
    ip: str
    created: str

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class OwnedState:
    """A ReplicaSet, Service or PodDisruptionBudget: identity, owner and the parts that `apply` compares."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner_uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EndpointsState(OwnedState):
    """An EndpointSlice that has to do with waking (`polyfleet.wake`). `spec`: its addressType, endpoints and ports as they are."""

    created: str


@dataclass(frozen=True, slots=True)
class ScalerState:
    """A HorizontalPodAutoscaler, whoever made it."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    target: tuple[str, str]  # kind and name of what it scales
    made_by: str  # kind and name of its owner, such as a KEDA ScaledObject; "" = nobody


@dataclass(frozen=True, slots=True)
class DeploymentState:
    namespace: str
    name: str
    uid: str
    resource_version: str
    owner_uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]  # raw
    replicas: int
    generation: int
    observed_generation: int
    status_replicas: int
    deleting: bool
    conditions: Mapping[str, Condition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CustomState:
    """One object of a polyfleet kind: raw spec and status, parsed by the stage that owns its model."""

    kind: str
    namespace: str  # "" for cluster-scoped
    name: str
    uid: str
    generation: int
    resource_version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    deleting: bool
    created: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class InFlight:
    """Requests in flight of one draining replica, as its engine counted them. Moments are RFC 3339."""

    requests: float | None  # None = the engine could not be read
    at: str  # when it was asked
    closed: str = ""  # since when it was seen out of its Service; "" = it is not, as far as is known
    quiet: str = ""  # the first of the readings without a break since, all at zero and with the same counters; "" = there is none


@dataclass(frozen=True, slots=True)
class Observed:
    """A consistent reading of the cache. Every tuple is sorted by (namespace, name)."""

    model_deployments: tuple[CustomState, ...]
    profiles: tuple[CustomState, ...]
    pools: tuple[CustomState, ...]
    policy: CustomState | None
    plans: tuple[CustomState, ...]
    nodes: tuple[NodeState, ...]
    pods: tuple[PodState, ...]  # every unfinished pod of the cluster, and finished pods of ours
    replica_sets: tuple[OwnedState, ...]
    deployments: tuple[DeploymentState, ...]  # those owned by ModelDeployments
    services: tuple[OwnedState, ...]
    budgets: tuple[OwnedState, ...]
    unknown: Mapping[str, str] = field(default_factory=dict)  # resource -> reason (ListForbidden, ListFailed) if not readable
    namespace_levels: Mapping[str, str] = field(default_factory=dict)
    slices: tuple[SliceState, ...] = ()
    claims: tuple[ClaimState, ...] = ()
    device_classes: tuple[DeviceClassState, ...] = ()
    reports: tuple[CustomState, ...] = ()  # AccuracyReports
    findings: Mapping[str, Finding] = field(default_factory=dict)  # namespace/name of a report -> what the checks found since it was stored
    in_flight: Mapping[str, InFlight] = field(default_factory=dict)  # uid of a draining pod -> its last reading
    scaling: Mapping[str, Force] = field(default_factory=dict)  # namespace/name of a model -> what the autoscaler says of it
    scalers: tuple[ScalerState, ...] = ()  # HorizontalPodAutoscalers of everybody
    endpoints: tuple[EndpointsState, ...] | None = None  # of activator and models that may sleep; None = nobody looked, or nobody may
