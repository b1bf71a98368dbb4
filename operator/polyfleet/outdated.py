"""Why a replica runs something else than what is wanted now: its model's own spec changed, or what surrounds it did.

Only a person who changes the ModelDeployment asks for other replicas. An edited HardwareProfile (image, arguments, environment, mounts), a
deleted one, a renamed resource or a newer operator makes a new revision too, but nobody asked that what serves be restarted for it: such
replicas are *outdated*. They stay, count and are told (`Promoted=False`, `ProfileOutdated`); replicas that are added come in the new
revision, and one that dies is replaced in its old one where it still fits. The model's next own change takes everything along.

Where the accuracy gate is Required an edited profile is a rollout like any other: a candidate of it is tried first, so nobody's replicas
are taken by something that nobody has tried. `rollout.approval: Manual` keeps them outdated.

Each child carries a digest of the part of the spec that shapes its pods (annotation `polyfleet.io/spec`), so the cause is read from what
is observed and a restarted operator decides alike. A child without it is from an earlier version: its cause is unknown and taken to be the
spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwprofiles import HardwareProfileSpec
from hwprofiles.schema import Model
from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec
from polyfleet.children import Child
from polyfleet.compare import covers
from polyfleet.merge import variant_for

# Parts of the spec that decide which engine runs, with what, and on how many devices. Not the size, the price or the pace of changes:
# an autoscaler or a budget must not be what restarts an outdated replica.
DEFAULT = "default-scheduler"  # what the API server writes where a template names none
_PARTS = ("model", "workload", "slo", "runtime", "pod_template")


def spec_digest(spec: ModelDeploymentSpec, profile: str, vendor: str) -> str:
    """Of the user's own words for replicas on this profile. Defaults are left out: a later version may add some."""
    found: dict[str, Any] = {name: _words(getattr(spec, name)) for name in _PARTS}
    variant = variant_for(spec, profile, vendor)
    if variant is not None:  # its match list may be edited without any effect here
        found["variant"] = [variant.name, _words(variant.model), _words(variant.runtime)]
    return naming.short_hash(found)


def profile_digest(profile: HardwareProfileSpec, engine: str) -> str:
    """Of what a profile says of the pods that run this engine. Not of tolerations, prices and data, which change no pod."""
    found, pod = (profile.engines or {}).get(engine), profile.pod
    parts: list[Any] = [found.image, found.args, found.env] if found is not None else []
    parts += [pod.runtime_class_name, pod.mounts, pod.per_scheduler] if pod is not None else []
    return naming.short_hash([_plain(part) for part in parts])


def _plain(part: Any) -> Any:
    if isinstance(part, tuple):
        return [_plain(item) for item in part]
    if isinstance(part, dict):
        return {key: _plain(item) for key, item in part.items()}
    return part.dump_set() if isinstance(part, Model) else part


def edited(profile: HardwareProfileSpec | None, child: Child) -> bool:
    """Whether the child's profile says something else of its pods than when the child was made. Not known of a child of an earlier
    version, and so not said of it: an operator that is upgraded rolls nothing."""
    made_from = child.deployment.annotations.get(naming.CONVENTIONS, "")
    return profile is not None and made_from != "" and made_from != profile_digest(profile, child.engine)


def _words(part: Any) -> Any:
    return None if part is None else part.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def allowed(spec: ModelDeploymentSpec, child: Child) -> bool:
    """Whether the user's lists let replicas run where the child's do."""
    placement = spec.placement
    if placement.pools and child.pool not in placement.pools:
        return False
    return child.profile not in placement.exclude_profiles and (not placement.profiles or child.profile in placement.profiles)


def outdated(spec: ModelDeploymentSpec | None, child: Child) -> bool:
    """Whether the child was made from the model's spec as it is: if it is not of the wanted revision, something else changed."""
    if spec is None or not child.profile or not allowed(spec, child):
        return False
    made_from = child.deployment.annotations.get(naming.SPEC, "")
    return made_from != "" and made_from == spec_digest(spec, child.profile, child.text(naming.VENDOR))


def runs_where(child: Child, template: Mapping[str, Any]) -> bool:
    """Whether a pod of the child's stored template can run wherever one of this template can: it asks for the same devices, goes by the
    same scheduler, and tolerates and needs nothing less."""
    old, new = _spec(child.deployment.spec.get("template") or {}), _spec(template)
    had, needs = old.get("tolerations") or [], new.get("tolerations") or []
    return (
        _limits(old) == _limits(new)
        and old.get("schedulerName", DEFAULT) == new.get("schedulerName", DEFAULT)
        and all(any(covers(one, other) and covers(other, one) for one in had) for other in needs)
    )


def _spec(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return template.get("spec") or {}


def _limits(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {str(item.get("name")): (item.get("resources") or {}).get("limits") for item in spec.get("containers") or ()}


def differences(child: Child, wanted: Mapping[str, Any]) -> str:
    """What the wanted template would change for the child's replicas, in few words; images with their values."""
    old, new = _engine(child.deployment.spec.get("template") or {}), _engine(wanted)
    found = [f"image {old.get('image')} -> {new.get('image')}"] if old.get("image") != new.get("image") else []
    names = {"args": "args", "env": "env", "envFrom": "envFrom", "resources": "devices", "volumeMounts": "mounts"}
    found += [word for key, word in names.items() if not _same(old.get(key), new.get(key))]
    before, after = _spec(child.deployment.spec.get("template") or {}), _spec(wanted)
    found += [key for key in ("runtimeClassName", "schedulerName") if not _same(before.get(key), after.get(key))]
    return ", ".join(found)


def _engine(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((item for item in _spec(template).get("containers") or () if item.get("name") == "engine"), {})


def _same(live: Any, want: Any) -> bool:
    """Both ways round in number, one way in content: the API server adds defaults to what was applied."""
    return len(live or ()) == len(want or ()) and covers(live, want) if want else live in (None, [], {}, "", DEFAULT)
