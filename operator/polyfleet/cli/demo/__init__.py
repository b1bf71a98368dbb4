"""The example fleet behind `--snapshot demo`: `fleet.yaml` and the shipped profiles as the operator would observe them.

Replicas that run are made by the operator's own rendering, so they carry the names, labels and revisions that it would have given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from hwprofiles.shipped_profiles import SHIPPED
from polyfleet import naming, parse
from polyfleet.cli.fleet import prepared
from polyfleet.inputs import Inputs
from polyfleet.render.deployment import manifest
from polyfleet.state import Condition, CustomState, DeploymentState, NodeState, Observed, OwnedState, PodState, Taint

FLEET = Path(__file__).parent / "fleet.yaml"
_BORN = "2026-11-01T00:00:00Z"  # before any residence time
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def observed(path: Path = FLEET) -> tuple[Observed, str]:
    """The fleet, and when it was seen."""
    given = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    states = [_custom(item) for item in given["objects"]]
    idle = Observed(
        model_deployments=_of(states, "ModelDeployment"),
        profiles=tuple(_profile(name) for name in sorted(given["profiles"])),
        pools=_of(states, "AcceleratorPool"),
        policy=next((state for state in states if state.kind == "FleetPolicy"), None),
        plans=(),
        nodes=tuple(sorted((node for group in given["nodes"] for node in _nodes(group)), key=lambda node: node.name)),
        pods=tuple(_foreign(item) for item in given["others"]),
        replica_sets=(),
        deployments=(),
        services=(),
        budgets=(),
    )
    return _running(idle, prepared(idle, given["takenAt"]), given["running"]), given["takenAt"]


def _custom(item: dict[str, Any]) -> CustomState:
    metadata = {"resourceVersion": "1", "generation": 1, "creationTimestamp": _BORN, **item["metadata"]}
    metadata["uid"] = f"demo/{item['kind']}/{metadata['name']}"
    return parse.custom(item["kind"], {**item, "metadata": metadata})


def _of(states: Iterable[CustomState], kind: str) -> tuple[CustomState, ...]:
    return tuple(sorted((state for state in states if state.kind == kind), key=lambda state: (state.namespace, state.name)))


def _profile(name: str) -> CustomState:
    return _custom(yaml.load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"), Loader=_Loader))


def _nodes(group: dict[str, Any]) -> list[NodeState]:
    amount = {group["resource"]: group["devices"]}
    taints = tuple(Taint(item["key"], "", item["effect"]) for item in group.get("taints", ()))
    return [
        NodeState(name, f"demo/Node/{name}", group["labels"], taints, True, bool(group.get("cordoned")), amount, amount)
        for name in group["names"]
    ]


def _foreign(item: dict[str, Any]) -> PodState:
    namespace, name = item["name"].split("/")
    return _pod(namespace, name, item["node"], {item["resource"]: item["devices"]})


def _pod(namespace: str, name: str, node: str, requests: dict[str, int], owner: str = "", labels: dict[str, str] | None = None) -> PodState:
    up = ("Ready", "ContainersReady", naming.SERVING)
    return PodState(
        namespace, name, f"demo/Pod/{namespace}/{name}", "1", owner, labels or {}, {}, node, node if owner else "", (), "Running", "",
        False, requests, {kind: Condition(kind, "True") for kind in up} if owner else {}, (), "", _BORN,
    )  # fmt: skip


def _running(idle: Observed, inputs: Inputs, rows: list[dict[str, Any]]) -> Observed:
    """Each model's Deployment per pool, its ReplicaSet, and the pods that serve from the nodes of `rows`."""
    places: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        places.setdefault((row["model"], row["pool"]), []).extend([row["node"]] * row["replicas"])
    deployments: list[DeploymentState] = []
    sets: list[OwnedState] = []
    pods = list(idle.pods)
    for (model, pool), nodes in sorted(places.items()):
        view = inputs.models[model]
        wanted = next(item for item in view.rendered if item.pool == pool)
        raw = manifest(view.state, wanted, len(nodes))
        uid = f"demo/Deployment/{wanted.name}"
        child = parse.deployment({**raw, "metadata": {**raw["metadata"], "uid": uid, "resourceVersion": "1"}})
        deployments.append(child)
        group = OwnedState(child.namespace, f"{child.name}-1", f"{uid}/rs", "1", uid, child.labels, {}, {})
        sets.append(group)
        template = raw["spec"]["template"]
        requests = parse.pod_requests(template["spec"])
        for number, node in enumerate(nodes):
            pods.append(_pod(child.namespace, f"{child.name}-{number}", node, requests, group.uid, template["metadata"]["labels"]))
    return replace(
        idle,
        pods=tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name))),
        deployments=tuple(sorted(deployments, key=lambda item: (item.namespace, item.name))),
        replica_sets=tuple(sorted(sets, key=lambda item: (item.namespace, item.name))),
    )
