"""The cross-field rules of a ModelDeployment again, for objects that were stored before the rules existed.

The API server checks the same rules in CEL at every write. An object that was stored earlier is not written again, so it is judged
here: every broken rule is told at once, its replicas are kept, and it never grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hwprofiles import HardwareProfileSpec
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
