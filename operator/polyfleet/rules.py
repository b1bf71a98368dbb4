"""The cross-field rules of a ModelDeployment again, for objects that were stored before the rules existed.

The API server checks the same rules in CEL at every write. An object that was stored earlier is not written again, so it is judged
here: every broken rule is told at once, its replicas are kept, and it never grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hwprofiles import HardwareProfileSpec
from hwprofiles.schema import duration_seconds
from polyfleet.api import ModelDeploymentSpec
from polyfleet.inventory import device_names
from polyfleet.merge import env_items
from polyfleet.render import overlay
from polyfleet.render.pod import is_visible_devices_literal

Rule = Callable[[ModelDeploymentSpec], str]


def size(spec: ModelDeploymentSpec) -> int:
    """The largest size that the spec allows."""
    if spec.scaling is not None:
        return spec.scaling.max_replicas
    return spec.replicas if spec.replicas is not None else 1


def _both_sizes(spec: ModelDeploymentSpec) -> str:
    if spec.replicas is not None and spec.scaling is not None and spec.scaling.mode == "Auto":
        return "spec: use replicas for a fixed size and scaling for autoscaling; both only with scaling.mode Advise or External"
    return ""


def _external_size(spec: ModelDeploymentSpec) -> str:
    if spec.scaling is not None and spec.scaling.mode == "External" and spec.replicas is None:
        return "spec: scaling.mode External needs a first value in replicas"
    return ""


def _vendors(spec: ModelDeploymentSpec) -> str:
    spread = spec.placement.spread
    if spread is not None and spread.min_vendors is not None and spread.min_vendors > size(spec):
        return f"spec.placement.spread.minVendors {spread.min_vendors} needs at least as many replicas, there are {size(spec)}"
    return ""


def _minimum(spec: ModelDeploymentSpec) -> str:
    scaling = spec.scaling
    if scaling is not None and scaling.min_replicas > scaling.max_replicas:
        return f"spec.scaling.minReplicas {scaling.min_replicas} must not exceed maxReplicas {scaling.max_replicas}"
    return ""


def _to_zero(spec: ModelDeploymentSpec) -> str:
    scaling = spec.scaling
    if scaling is None or (scaling.min_replicas == 0) == (scaling.scale_to_zero is not None):
        return ""
    if scaling.min_replicas == 0:
        return "spec.scaling.minReplicas 0 needs a scaleToZero block ({} for its defaults), or set minReplicas 1"
    return f"spec.scaling.scaleToZero needs minReplicas 0, it is {scaling.min_replicas}"


def _idle_after(spec: ModelDeploymentSpec) -> str:
    sleep = spec.scaling.scale_to_zero if spec.scaling is not None else None
    if sleep is not None and duration_seconds(sleep.idle_after) < 600:
        return f"spec.scaling.scaleToZero.idleAfter {sleep.idle_after} must be at least 10m"
    return ""


def _metric_target(spec: ModelDeploymentSpec) -> str:
    scaling = spec.scaling
    if scaling is None or scaling.metric == "Work":
        return ""
    if scaling.target_per_replica is None:
        return f"spec.scaling.metric {scaling.metric} needs targetPerReplica; every metric but Work does"
    if float(scaling.target_per_replica) <= 0:
        return f'spec.scaling.targetPerReplica "{scaling.target_per_replica}" must be above 0'
    return ""


def _fallback(spec: ModelDeploymentSpec) -> str:
    scaling = spec.scaling
    back = scaling.fallback if scaling is not None else None
    if scaling is not None and back is not None and back.replicas > scaling.max_replicas:
        return f"spec.scaling.fallback.replicas {back.replicas} must not exceed maxReplicas {scaling.max_replicas}"
    return ""


def _both_lists(spec: ModelDeploymentSpec) -> str:
    both = sorted(set(spec.placement.profiles) & set(spec.placement.exclude_profiles))
    return f"spec.placement: {', '.join(both)} both allowed and excluded" if both else ""


def _tensor(spec: ModelDeploymentSpec) -> str:
    runtimes = [("spec.runtime", spec.runtime.parallelism)]
    runtimes += [(f"spec.variants[{v.name}].runtime", v.runtime.parallelism) for v in spec.variants if v.runtime is not None]
    for where, parallelism in runtimes:
        if parallelism is not None and parallelism.tensor is not None and parallelism.tensor_choices:
            return f"{where}.parallelism: set tensor for one size or tensorChoices for a choice, not both"
    return ""


def _variant_match(spec: ModelDeploymentSpec) -> str:
    empty = [v.name for v in spec.variants if not v.match.vendors and not v.match.profiles]
    return f"spec.variants[{empty[0]}].match needs vendors or profiles" if empty else ""


def _visible_devices(spec: ModelDeploymentSpec) -> str:
    layers = [("spec.runtime.env", spec.runtime.env)]
    layers += [(f"spec.variants[{v.name}].runtime.env", v.runtime.env) for v in spec.variants if v.runtime is not None]
    for where, env in layers:
        for item in env_items(env):
            if is_visible_devices_literal(item):
                return f"{where}: {item.name} must not be set: the device plugin or the scheduler gives the devices; remove it"
    return ""


RULES: tuple[Rule, ...] = (
    _both_sizes,
    _external_size,
    _vendors,
    _minimum,
    _to_zero,
    _idle_after,
    _metric_target,
    _fallback,
    _both_lists,
    _tensor,
    _variant_match,
    _visible_devices,
)


def broken(spec: ModelDeploymentSpec) -> list[str]:
    return [message for rule in RULES if (message := rule(spec))]


def template_faults(spec: ModelDeploymentSpec, profiles: Iterable[HardwareProfileSpec] = ()) -> list[str]:
    """`profiles`: the fleet's, whose resources only the plan may hand out."""
    if spec.pod_template is None:
        return []
    return overlay.faults(spec.pod_template.dump(), {name for profile in profiles for name in device_names(profile)})
