"""The Deployment for one (deployment, pool, variant, engine, size, revision).

Its template never changes under its name, so the Deployment controller never rolls it: replicas come and go by the plan alone. A
child of an earlier revision, whose template can no longer be rendered, keeps the template that is stored in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwprofiles.schema import duration_seconds
from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec
from polyfleet.children import Child
from polyfleet.fleet import Pool
from polyfleet.outdated import profile_digest, spec_digest
from polyfleet.render.pod import render_pod
from polyfleet.resolve import ResolvedOption
from polyfleet.state import CustomState

_OWN_PREFIX = f"{naming.GROUP}/"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One child as it is wanted, apart from its size."""

    name: str
    option: str
    pool: str
    revision: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    template: Mapping[str, Any]
    deadline_seconds: int


def owner_reference(owner: CustomState) -> dict[str, Any]:
    return {
        "apiVersion": naming.API_VERSION,
        "kind": "ModelDeployment",
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        # Foreground deletion of a model must not wait for us.
        "blockOwnerDeletion": False,
    }


def render(owner: CustomState, spec: ModelDeploymentSpec, option: ResolvedOption, pool: Pool) -> Rendered:
    pod = render_pod(owner.name, spec, option, pool)
    identity = {key: text for key, text in pod.template["metadata"]["labels"].items() if key.startswith(_OWN_PREFIX)}
    full = {key: text for key, text in pod.template["metadata"].get("annotations", {}).items() if key.startswith(_OWN_PREFIX)}
    wanted = option.wanted
    name = naming.child_name(
        owner.name, pool.name, wanted.variant, wanted.engine, option.devices, pod.revision, naming.short_hash(pod.template)
    )
    return Rendered(
        name=name,
        option=option.id,
        pool=pool.name,
        revision=pod.revision,
        labels=identity,
        annotations={
            **full,
            naming.ENGINE: wanted.engine,
            naming.DEVICES: str(option.devices),
            naming.SPEC: spec_digest(spec, option.profile, wanted.profile.vendor),
            naming.CONVENTIONS: profile_digest(wanted.profile, wanted.engine),
            naming.WEIGHTS: naming.weights_digest(wanted.uri, wanted.model_revision),
        },
        template=pod.template,
        deadline_seconds=max(1, round(duration_seconds(spec.rollout.progress_deadline))),
    )


def manifest(owner: CustomState, rendered: Rendered, replicas: int) -> dict[str, Any]:
    selector = {key: rendered.labels[key] for key in (naming.DEPLOYMENT, naming.POOL, naming.VARIANT, naming.REVISION)}
    # Two children may differ in what no label says (a toleration), and selectors of two Deployments must not overlap.
    child = {f"{naming.GROUP}/child": naming.short_hash(rendered.name)}
    template = dict(rendered.template)
    template["metadata"] = {**template["metadata"], "labels": dict(sorted({**template["metadata"]["labels"], **child}.items()))}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": rendered.name,
            "namespace": owner.namespace,
            "labels": dict(sorted(rendered.labels.items())),
            "annotations": dict(sorted(rendered.annotations.items())),
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": rendered.deadline_seconds,
            # Only a hand that edits the child can start a roll; then one replica at a time, and never a device more than planned.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "selector": {"matchLabels": dict(sorted({**selector, **child}.items()))},
            "template": template,
        },
    }


def stored_manifest(owner: CustomState, child: Child, replicas: int) -> dict[str, Any]:
    """An earlier revision with another size: everything else as it is stored."""
    deployment = child.deployment
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment.name,
            "namespace": deployment.namespace,
            "labels": {key: text for key, text in sorted(deployment.labels.items()) if key.startswith(_OWN_PREFIX)},
            "annotations": {key: text for key, text in sorted(deployment.annotations.items()) if key.startswith(_OWN_PREFIX)},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {**deployment.spec, "replicas": replicas},
    }
