"""The merged runtime of one (model, profile, variant): HardwareProfile.engines.<engine> -> spec.runtime -> variants[].runtime.

Arguments append and never replace (a per-accelerator setting that silently drops the user's arguments is a known trap elsewhere),
environment merges by name, single values override. The order of the result is the order of first appearance, so it never depends
on a hash seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwprofiles import HardwareProfileSpec, Throughput
from hwprofiles.schema import decimal
from polyfleet.api import ModelDeploymentSpec
from polyfleet.api.modeldeployment import ModelShape, Parallelism, Variant

DEFAULT_VARIANT = "default"
AUTO = "auto"
VLLM_LIKE = ("vllm", "sandbox")


@dataclass(frozen=True, slots=True)
class EnvItem:
    """One environment variable; `value` or the downward API's `field_path`."""

    name: str
    value: str | None = None
    field_path: str | None = None

    def manifest(self) -> dict[str, Any]:
        if self.field_path is not None:
            return {"name": self.name, "valueFrom": {"fieldRef": {"fieldPath": self.field_path}}}
        return {"name": self.name, "value": self.value or ""}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the spec asks for on one profile, before a size is chosen."""

    profile_name: str
    profile: HardwareProfileSpec
    variant: str
    uri: str
    served_name: str
    model_revision: str
    precision: str | None
    secret_name: str
    footprint: str | None  # as declared
    shape: ModelShape | None
    parallelism: Parallelism
    engine: str
    engine_version: str | None
    image: str
    args: tuple[str, ...]
    env: tuple[EnvItem, ...]
    entry: Throughput | None  # the best throughput entry for it

    @property
    def model_id(self) -> str:
        """The model's name as throughput entries write it: the URI without its scheme."""
        return strip_scheme(self.uri)


def strip_scheme(uri: str) -> str:
    return uri.split("://", 1)[-1]


def variant_for(spec: ModelDeploymentSpec, profile_name: str, vendor: str) -> Variant | None:
    """The first variant of which every given list holds the profile."""
    for variant in spec.variants:
        match = variant.match
        if match.profiles and profile_name not in match.profiles:
            continue
        if match.vendors and vendor not in match.vendors:
            continue
        if match.profiles or match.vendors:
            return variant
    return None


def env_items(given: Any) -> tuple[EnvItem, ...]:
    return tuple(EnvItem(item.name, item.value, getattr(item, "field_path", None)) for item in given or ())


def merge_env(*layers: tuple[EnvItem, ...]) -> tuple[EnvItem, ...]:
    merged: dict[str, EnvItem] = {}
    for layer in layers:
        for item in layer:
            merged[item.name] = item
    return tuple(merged.values())


def best_entry(profile: HardwareProfileSpec, model_id: str, engine: str, precision: str | None) -> Throughput | None:
    """The entry with the highest throughput for this model and engine; ties by its place in the profile."""
    best: Throughput | None = None
    for entry in profile.throughput:
        if entry.model != model_id or entry.engine != engine:
            continue
        if precision is not None and entry.precision is not None and entry.precision != precision:
            continue
        if best is None or _rate(entry) > _rate(best):
            best = entry
    return best


def _rate(entry: Throughput) -> Any:
    return decimal(entry.output_tokens_per_second or "0")


def choose_engine(profile: HardwareProfileSpec, wanted: str, model_id: str, precision: str | None, image: str | None) -> str | None:
    """The engine's name. `auto`: the best throughput entry for this model, tie -> first name; only engines that can be started."""
    engines = profile.engines or {}
    if wanted != AUTO:
        return wanted if wanted in engines or image is not None else None
    usable = [
        name for name in sorted(engines) if (image is not None or engines[name].image is not None) and engines[name].config_style == "args"
    ]
    if not usable:
        return None

    def rate(name: str) -> Any:
        entry = best_entry(profile, model_id, name, precision)
        return decimal("0") if entry is None else _rate(entry)

    return min(usable, key=lambda name: (-rate(name), name))
