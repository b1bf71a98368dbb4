"""The pod of one replica: restricted Pod Security, gates, one device request, the scheduler's conventions.

The node is not part of it: it comes with the pin. Visible-device ids are never written: the device plugin or the scheduler gives
them (on Ascend, ids that the runtime does not remap break every pod that is not on the first devices). A reference to the
scheduler's own annotation is the one exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec
from polyfleet.fleet import DEFAULT_SCHEDULER, Pool
from polyfleet.merge import EnvItem, env_items
from polyfleet.render import grace, overlay
from polyfleet.render.engines import PORT, arguments
from polyfleet.render.model_uri import source
from polyfleet.resolve import ResolvedOption

CONTAINER = "engine"
PORT_NAME = "http"
# One hour for weights to arrive: a start that takes longer is a fault, and `StartDeadlineExceeded` is told long before.
_STARTUP_PERIOD_SECONDS, _STARTUP_FAILURES = 2, 1800


@dataclass(frozen=True, slots=True)
class RenderedPod:
    """The revision covers what an engine runs with; the template also holds what no running replica is restarted for.

    (A toleration, the grace period, the pool's name.)
    """

    template: dict[str, Any]
    revision: str


def is_visible_devices_literal(item: EnvItem) -> bool:
    return item.field_path is None and overlay.VISIBLE_DEVICES.search(item.name) is not None


def _convention(option: ResolvedOption, pool: Pool) -> dict[str, Any]:
    pod = option.wanted.profile.pod
    given = (pod.per_scheduler or {}).get(pool.scheduler) if pod is not None else None
    name = given.scheduler_name if given is not None else None
    if name is None and pool.scheduler != DEFAULT_SCHEDULER:
        name = pool.scheduler
    return {
        "scheduler": name,
        "labels": dict(sorted((given.labels or {}).items())) if given is not None else {},
        "annotations": dict(sorted((given.annotations or {}).items())) if given is not None else {},
        "env": env_items(given.env) if given is not None else (),
    }


def render_pod(name: str, spec: ModelDeploymentSpec, option: ResolvedOption, pool: Pool) -> RenderedPod:
    """`name` is the ModelDeployment's."""
    wanted = option.wanted
    convention = _convention(option, pool)
    origin = source(wanted.uri, wanted.secret_name)
    args = arguments(option, origin)
    items = [item for item in (*wanted.env, *convention["env"]) if not is_visible_devices_literal(item)]
    env = _by_name([*origin.env, *(item.manifest() for item in items)])
    pod = wanted.profile.pod
    mounts = [(m.host_path, m.mount_path, m.read_only) for m in (pod.mounts if pod is not None else ())]
    runtime_class = pod.runtime_class_name if pod is not None else None
    template_over = spec.pod_template.dump() if spec.pod_template is not None else {}
    revision = naming.short_hash(
        {
            "engine": wanted.engine,
            "image": wanted.image,
            "uri": wanted.uri,
            "args": args,
            "env": env,
            "envFrom": origin.env_from,
            "layout": [option.layout.tensor, option.layout.pipeline, option.layout.data, option.layout.expert],
            "resource": pool.resource,
            "mounts": mounts,
            "runtimeClass": runtime_class,
            "scheduler": convention["scheduler"],
            "labels": convention["labels"],
            "annotations": convention["annotations"],
            "podTemplate": template_over,
        }
    )
    labels, annotations = identity(name, option, pool, revision)
    volumes = [*origin.volumes, *_host_volumes(mounts), *_shared_memory(option)]
    volume_mounts = [*origin.mounts, *_host_mounts(mounts), *_shared_memory_mount(option)]
    amount = {pool.resource: str(option.devices)} if pool.resource else {}
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(args),
        "env": env,
        "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"limits": dict(amount), "requests": dict(amount)},
        "startupProbe": _probe(period=_STARTUP_PERIOD_SECONDS, failures=_STARTUP_FAILURES, timeout=2),
        "readinessProbe": _probe(period=5, failures=3, timeout=3),
        "livenessProbe": _probe(period=10, failures=6, timeout=5),
        "lifecycle": {"preStop": {"sleep": {"seconds": grace.PRE_STOP_S}}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if origin.env_from:
        container["envFrom"] = list(origin.env_from)
    if volume_mounts:
        container["volumeMounts"] = volume_mounts
    ends = grace.of(spec)
    body: dict[str, Any] = {
        "schedulingGates": [{"name": naming.GATE}],
        "readinessGates": [{"conditionType": naming.SERVING}],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        grace.FIELD: ends.period,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    tolerations = [item.manifest() for item in pool.tolerations]
    if tolerations:
        body["tolerations"] = tolerations
    if convention["scheduler"] is not None:
        body["schedulerName"] = convention["scheduler"]
    if runtime_class is not None:
        body["runtimeClassName"] = runtime_class
    if volumes:
        body["volumes"] = volumes
    merged = overlay.merge(body, template_over.get("spec") or {})
    if isinstance(merged[grace.FIELD], int):  # anything else is the API server's to refuse
        merged[grace.FIELD] = ends.period
    engine = next(item for item in merged["containers"] if item["name"] == CONTAINER)
    if amount:
        # The placed size and the requested size are one number: a template may add to the request, not change the devices.
        resources = dict(engine.get("resources") or {})
        engine["resources"] = {**resources, **{part: {**(resources.get(part) or {}), **amount} for part in ("limits", "requests")}}
    extra = template_over.get("metadata") or {}
    metadata: dict[str, Any] = {
        "labels": dict(sorted({**(extra.get("labels") or {}), **convention["labels"], **labels}.items())),
        "annotations": dict(sorted({**(extra.get("annotations") or {}), **convention["annotations"], **annotations}.items())),
    }
    if not metadata["annotations"]:
        del metadata["annotations"]
    return RenderedPod({"metadata": metadata, "spec": merged}, revision)


def identity(name: str, option: ResolvedOption, pool: Pool, revision: str) -> tuple[dict[str, str], dict[str, str]]:
    """The labels of everything generated for one option in one pool, and annotations with the full text of shortened ones."""
    return naming.labels_and_annotations(
        {
            naming.DEPLOYMENT: name,
            naming.POOL: pool.name,
            naming.PROFILE: option.profile,
            naming.VENDOR: option.wanted.profile.vendor,
            naming.VARIANT: option.wanted.variant,
            naming.REVISION: revision,
            naming.ROLE: "serving",
            naming.CAPACITY_CLASS: pool.spec.capacity_type if pool.spec is not None else "Reserved",
        }
    )


def _by_name(env: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for item in env:
        merged[item["name"]] = item
    return list(merged.values())


def _probe(*, period: int, failures: int, timeout: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": PORT_NAME},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _host_volumes(mounts: list[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    return [{"name": f"host-{index}", "hostPath": {"path": host}} for index, (host, _, _) in enumerate(mounts)]


def _host_mounts(mounts: list[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    return [{"name": f"host-{index}", "mountPath": path, "readOnly": read_only} for index, (_, path, read_only) in enumerate(mounts)]


def _shared_memory(option: ResolvedOption) -> list[dict[str, Any]]:
    # Collectives between the processes of one replica go through /dev/shm; the container runtime's default of 64 MiB is too small.
    return [{"name": "shm", "emptyDir": {"medium": "Memory"}}] if option.devices > 1 else []


def _shared_memory_mount(option: ResolvedOption) -> list[dict[str, Any]]:
    return [{"name": "shm", "mountPath": "/dev/shm"}] if option.devices > 1 else []
