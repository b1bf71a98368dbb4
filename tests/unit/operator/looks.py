"""Shared by the decision tests: one look at a small cluster of three sandbox nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet import naming
from polyfleet.actions import PodPatch
from polyfleet.state import CustomState, DeploymentState, NodeState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle

PROFILES = b.profiles(*b.SANDBOX)
H100, A3, PPU = b.sandbox(b.h100()), b.sandbox(b.a3()), b.sandbox(b.ppu())
POOLS = tuple(b.pool(name, name) for name in b.SANDBOX)
NVIDIA_ONLY: dict[str, Any] = {"placement": {"profiles": ["sandbox-nvidia"]}}


def look(
    model: CustomState,
    *,
    nodes: tuple[NodeState, ...] = (H100, A3, PPU),
    deployments: tuple[DeploymentState, ...] = (),
    pods: tuple[PodState, ...] = (),
    now: str = b.NOW,
    **more: Any,
) -> Done:
    observed = b.observed(models=[model], profiles=PROFILES, pools=POOLS, nodes=nodes, deployments=deployments, pods=pods, **more)
    return cycle(observed, now=now)


def children(model: CustomState, **more: Any) -> dict[str, DeploymentState]:
    """The children that the first cycle asks for, by profile, as the API server would hold them."""
    manifests = b.applied(look(model, **more).actions, "Deployment")
    return {m["metadata"]["labels"][naming.PROFILE]: b.child(m) for m in manifests}


def patches(done: Done, kind: str) -> dict[str, PodPatch]:
    return {patch.name: patch for patch in done.actions.pod_patches if patch.kind == kind}


def pinned_node(patch: PodPatch) -> str:
    terms = patch.body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (field,) = terms[0]["matchFields"]
    assert (field["key"], field["operator"]) == ("metadata.name", "In")
    (node,) = field["values"]
    return str(node)


def deleted(done: Done) -> dict[str, tuple[str, str | None]]:
    return {item.name: (item.uid, item.resource_version) for item in done.actions.deletes}


def replace_size(child: DeploymentState, size: int) -> DeploymentState:
    return replace(child, replicas=size, spec={**child.spec, "replicas": size})
