"""Builders of observed objects for the tests of the operator's pure half. Every value has a plain default; tests name what matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import yaml
from polyfleet import naming
from polyfleet.actions import Actions, Apply
from polyfleet.render import budget, service
from polyfleet.state import Condition, ContainerState, CustomState, DeploymentState, NodeState, Observed, OwnedState, PodState, Taint

from hwprofiles.shipped_profiles import SHIPPED

NOW = "2026-11-25T08:00:00Z"
LATER = "2026-11-25T09:00:00Z"

H100_LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.count": "8",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.present": "true",
}
A3_LABELS = {"accelerator": "huawei-Ascend910", "accelerator-type": "module-a3-16", "node.kubernetes.io/npu.chip.name": "Ascend910"}
PPU_LABELS = {
    "aliyun.accelerator/xpu_type": "ppu",
    "aliyun.accelerator/ppu_name": "PPU-ZW810E",
    "aliyun.accelerator/ppu_count": "16",
    "aliyun.accelerator/ppu_mem": "98304MiB",
}
H100, ASCEND, PPU = "nvidia.com/gpu", "huawei.com/Ascend910", "alibabacloud.com/ppu"
TINY = "hf://polyfleet/byte-tiny"


# ---- nodes


def node(
    name: str,
    resource: str,
    devices: int | None,
    labels: Mapping[str, str],
    *,
    allocatable: int | None = None,
    ready: bool | None = True,
    cordoned: bool = False,
    taints: Iterable[Taint] = (),
    extra: Mapping[str, int] | None = None,
) -> NodeState:
    """`devices` None: the resource key is absent, as before a device plugin has registered."""
    capacity = dict(extra or {}) | ({} if devices is None else {resource: devices})
    healthy = dict(extra or {}) | ({} if devices is None else {resource: devices if allocatable is None else allocatable})
    return NodeState(name, f"uid-{name}", dict(labels), tuple(taints), ready, cordoned, capacity, healthy)


def h100(name: str = "h100-0", devices: int | None = 8, labels: Mapping[str, str] | None = None, **more: Any) -> NodeState:
    return node(name, H100, devices, {**H100_LABELS, **(labels or {})}, **more)


def a3(name: str = "a3-0", devices: int | None = 16, labels: Mapping[str, str] | None = None, **more: Any) -> NodeState:
    return node(name, ASCEND, devices, {**A3_LABELS, **(labels or {})}, **more)


def ppu(name: str = "ppu-0", devices: int | None = 16, labels: Mapping[str, str] | None = None, **more: Any) -> NodeState:
    return node(name, PPU, devices, {**PPU_LABELS, **(labels or {})}, **more)


def sandbox(state: NodeState) -> NodeState:
    """The node as a sandbox marks it."""
    labels = {**state.labels, "polyfleet.io/sandbox": "true"}
    return NodeState(state.name, state.uid, labels, state.taints, state.ready, state.unschedulable, state.capacity, state.allocatable)


# ---- polyfleet's own kinds


def custom(
    kind: str,
    name: str,
    spec: Mapping[str, Any],
    *,
    namespace: str = "",
    uid: str = "",
    generation: int = 1,
    status: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    deleting: bool = False,
) -> CustomState:
    return CustomState(
        kind, namespace, name, uid or f"uid-{kind}-{name}", generation, "1", dict(labels or {}), {}, spec, status or {}, deleting, NOW
    )


def model(name: str = "m", spec: Mapping[str, Any] | None = None, *, namespace: str = "llm", **more: Any) -> CustomState:
    """A small model; `spec` is merged over it at the top level."""
    base: dict[str, Any] = {"model": {"uri": TINY}}
    return custom("ModelDeployment", name, {**base, **(spec or {})}, namespace=namespace, **more)


def big_model(name: str = "m", *, footprint: str = "40Gi", tensor: int | None = None, engine: str = "vllm", **more: Any) -> CustomState:
    """A model of a stated size with an engine of ours, so that no profile's image or data matters."""
    runtime: dict[str, Any] = {"engine": engine, "image": "registry.example/vllm:v1"}
    if tensor is not None:
        runtime["parallelism"] = {"tensor": tensor}
    spec = {"model": {"uri": "hf://example/big", "footprint": footprint}, "runtime": runtime, **more.pop("spec", {})}
    return model(name, spec, **more)


def pool(name: str, profile: str, spec: Mapping[str, Any] | None = None, **more: Any) -> CustomState:
    return custom("AcceleratorPool", name, {"profile": profile, **(spec or {})}, **more)


def policy(spec: Mapping[str, Any] | None = None) -> CustomState:
    """Without the accuracy gate, unless the spec names one: a test that is not about verdicts needs none."""
    given = dict(spec or {})
    return custom("FleetPolicy", "default", {**given, "accuracy": {"gate": "Disabled", **given.get("accuracy", {})}})


def ungated() -> CustomState:
    return policy()


@lru_cache
def _shipped(name: str) -> Any:
    return yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))


def profile(name: str, **changes: Any) -> CustomState:
    """A shipped profile, with fields of its spec replaced."""
    found = _shipped(name)
    return custom("HardwareProfile", name, {**found["spec"], **changes})


def profiles(*names: str) -> tuple[CustomState, ...]:
    return tuple(profile(name) for name in sorted(names))


SANDBOX = ("sandbox-ascend", "sandbox-nvidia", "sandbox-ppu")
REAL = ("alibaba-ppu-810e", "huawei-910c-752", "nvidia-h100-sxm")


# ---- pods and children


def pod(
    name: str,
    *,
    node: str = "",
    pinned: str = "",
    requests: Mapping[str, int] | None = None,
    owner: str = "",
    namespace: str = "other",
    phase: str = "Running",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    gates: Iterable[str] = (),
    deleting: bool = False,
    reason: str = "",
    conditions: Iterable[Condition] = (),
    containers: Iterable[ContainerState] = (),
    created: str = NOW,
) -> PodState:
    return PodState(
        namespace, name, f"uid-{name}", "7", owner, dict(labels or {}), dict(annotations or {}), node, pinned, tuple(gates), phase,
        reason, deleting, dict(requests or {}), {c.type: c for c in conditions}, tuple(containers), "", created,
    )  # fmt: skip


def holder(name: str, node: str, resource: str, devices: int, **more: Any) -> PodState:
    """A pod of somebody else."""
    return pod(name, node=node, requests={resource: devices}, **more)


def replica_set_uid(deployment: str) -> str:
    return f"uid-rs-{deployment}"


def child(manifest: Mapping[str, Any], *, replicas: int | None = None, conditions: Iterable[Condition] = ()) -> DeploymentState:
    """The Deployment that the API server would hold after this apply."""
    metadata, spec = manifest["metadata"], dict(manifest["spec"])
    if replicas is not None:
        spec["replicas"] = replicas
    return DeploymentState(
        namespace=metadata["namespace"], name=metadata["name"], uid=f"uid-{metadata['name']}", resource_version="5",
        owner_uid=metadata["ownerReferences"][0]["uid"], labels=metadata["labels"], annotations=metadata["annotations"], spec=spec,
        replicas=spec["replicas"], generation=1, observed_generation=1, status_replicas=spec["replicas"], deleting=False,
        conditions={c.type: c for c in conditions},
    )  # fmt: skip


def replica_set(deployment: DeploymentState) -> OwnedState:
    return OwnedState(
        deployment.namespace, f"{deployment.name}-rs", replica_set_uid(deployment.name), "5", deployment.uid, deployment.labels, {}, {}
    )


def replica(
    deployment: DeploymentState,
    name: str,
    *,
    node: str = "",
    pinned: str = "",
    serving: bool = False,
    up: bool = False,
    draining: bool = False,
    **more: Any,
) -> PodState:
    """A pod of one of our children: gated without a node, pinned, loading on its node, or serving."""
    template = deployment.spec["template"]
    limits = template["spec"]["containers"][0]["resources"]["limits"]
    labels = dict(template["metadata"]["labels"]) | ({naming.DRAINING: "true"} if draining else {})
    gates = () if node or pinned else (naming.GATE,)
    up = up or serving
    conditions = [
        Condition("ContainersReady", "True" if up else "False"),
        Condition("Ready", "True" if serving and not draining else "False"),
    ]
    if serving:
        state = "False" if draining else "True"
        conditions.append(Condition(naming.SERVING, state, "Admitted", f"container cri://{name}"))
    given: dict[str, Any] = {
        "node": node, "pinned": pinned or node, "requests": {key: int(value) for key, value in limits.items()},
        "owner": replica_set_uid(deployment.name), "namespace": deployment.namespace, "labels": labels, "gates": gates,
        "phase": "Running" if node else "Pending", "conditions": conditions,
        "containers": [ContainerState("engine", f"cri://{name}", up, 0, "running")] if node else [],
    }  # fmt: skip
    return pod(name, **{**given, **more})


def owned(manifest: Mapping[str, Any]) -> OwnedState:
    metadata = manifest["metadata"]
    return OwnedState(
        metadata["namespace"], metadata["name"], f"uid-{manifest['kind']}-{metadata['name']}", "5",
        metadata["ownerReferences"][0]["uid"], metadata["labels"], metadata.get("annotations", {}), manifest["spec"],
    )  # fmt: skip


# ---- one reading of the cluster


def observed(
    *,
    models: Iterable[CustomState] = (),
    profiles: Iterable[CustomState] = (),
    pools: Iterable[CustomState] = (),
    policy: CustomState | None = None,
    nodes: Iterable[NodeState] = (),
    pods: Iterable[PodState] = (),
    deployments: Iterable[DeploymentState] = (),
    services: Iterable[OwnedState] | None = None,
    budgets: Iterable[OwnedState] | None = None,
    unknown: Mapping[str, str] | None = None,
    plans: Iterable[CustomState] = (),
    reports: Iterable[CustomState] = (),
    gated: bool = False,
) -> Observed:
    """Services and budgets are there for every model unless they are given. Without a policy the accuracy gate is off here; `gated`: no
    policy object at all, so that the operator's own defaults hold."""
    models, deployments = tuple(models), tuple(deployments)

    def key(item: Any) -> tuple[str, str]:
        return getattr(item, "namespace", ""), item.name

    return Observed(
        model_deployments=tuple(sorted(models, key=key)),
        profiles=tuple(sorted(profiles, key=key)),
        pools=tuple(sorted(pools, key=key)),
        policy=policy if policy is not None or gated else ungated(),
        plans=tuple(sorted(plans, key=key)),
        nodes=tuple(sorted(nodes, key=key)),
        pods=tuple(sorted(pods, key=key)),
        replica_sets=tuple(sorted((replica_set(d) for d in deployments), key=key)),
        deployments=tuple(sorted(deployments, key=key)),
        services=tuple([owned(service.manifest(m)) for m in models] if services is None else services),
        budgets=tuple([owned(budget.manifest(m)) for m in models] if budgets is None else budgets),
        unknown=dict(unknown or {}),
        reports=tuple(sorted(reports, key=key)),
    )


def applied(actions: Actions, kind: str) -> list[Mapping[str, Any]]:
    return [act.manifest for act in actions.applies if act.manifest["kind"] == kind]


def sizes(actions: Actions) -> dict[str, int]:
    return {m["metadata"]["name"]: m["spec"]["replicas"] for m in applied(actions, "Deployment")}


def condition(status: Mapping[str, Any], kind: str) -> tuple[str, str, str]:
    """(status, reason, message) of one condition; three empty words if there is none."""
    found = next((row for row in status.get("conditions", ()) if row["type"] == kind), None)
    return (found["status"], found["reason"], found["message"]) if found is not None else ("", "", "")


def short(act: Apply) -> str:
    return f"{act.manifest['kind']}/{act.manifest['metadata']['name']}"


def revision(actions: Actions) -> str:
    """The revision label of the only child."""
    (manifest,) = applied(actions, "Deployment")
    return str(manifest["metadata"]["labels"][naming.REVISION])
