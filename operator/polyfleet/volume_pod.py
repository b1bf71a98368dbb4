"""Readers of volumes as pods: which are missing, which are needed no more, what one looks like. What they are for: `volume_shape`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from polyfleet import naming
from polyfleet.actions import Apply, Delete
from polyfleet.api import ModelDeploymentSpec
from polyfleet.render.deployment import owner_reference
from polyfleet.render.model_uri import MODEL_PATH, source
from polyfleet.state import CustomState, Observed
from polyfleet.volume_shape import CONTAINER, READER, reader_name, readers, wanted

URI = "polyfleet.io/model-uri"  # annotation of a reader: what it reads
# A look at one small file; a volume that does not attach within five minutes is a fault to be told.
DEADLINE_SECONDS = 300


def acts(
    observed: Observed, models: Iterable[tuple[CustomState, ModelDeploymentSpec]], image: str
) -> tuple[tuple[Apply, ...], tuple[Delete, ...]]:
    """Readers to create, and readers that nobody needs any more. `image`: the operator's own; "" = not known, then none is created."""
    applies: list[Apply] = []
    deletes: list[Delete] = []
    there = readers(observed)
    for state, spec in models:
        own = there.get(state.uid, {})
        names = {reader_name(state.name, uri): uri for uri in wanted(spec)}
        if image:
            missing = {name: uri for name, uri in names.items() if name not in own}
            taken = {pod.name for pod in observed.pods if pod.namespace == state.namespace and pod.name in missing} if missing else set()
            applies += [
                Apply(manifest(state, spec, uri, image), f"the shape of {uri} is not known")
                for name, uri in sorted(missing.items())
                if name not in taken
            ]
        deletes += [
            Delete("Pod", pod.namespace, name, pod.uid, None, "its answer is not needed any more")
            for name, pod in sorted(own.items())
            if name not in names and pod.namespace == state.namespace
        ]
    return tuple(applies), tuple(deletes)


def manifest(state: CustomState, spec: ModelDeploymentSpec, uri: str, image: str) -> dict[str, Any]:
    """The reader: restricted, without a token, small, and over after `DEADLINE_SECONDS`. Of the podTemplate only what decides where the
    volume can be mounted counts: nodeSelector, tolerations and pull secrets."""
    origin = source(uri, "")
    mounts = [{**mount, "readOnly": True} for mount in origin.mounts]
    given = (spec.pod_template.dump().get("spec") if spec.pod_template is not None else None) or {}
    body: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python3", "-m", "polyfleet.volume_reader", origin.model or MODEL_PATH],
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": mounts,
            }
        ],
        "volumes": list(origin.volumes),
    }
    body.update({key: given[key] for key in ("nodeSelector", "tolerations", "imagePullSecrets") if given.get(key)})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": reader_name(state.name, uri),
            "namespace": state.namespace,
            "labels": {naming.DEPLOYMENT: READER, naming.ROLE: "volume-reader"},
            "annotations": {naming.DEPLOYMENT: state.name, URI: uri},
            "ownerReferences": [owner_reference(state)],
        },
        "spec": body,
    }
