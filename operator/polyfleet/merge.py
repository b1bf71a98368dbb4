"""The merged runtime of one (model, profile, variant): HardwareProfile.engines.<engine> -> spec.runtime -> variants[].runtime.

Arguments append and never replace (a per-accelerator setting that silently drops the user's arguments is a known trap elsewhere),
environment merges by name, single values override. The order of the result is the order of first appearance, so it never depends
on a hash seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hwprofiles import HardwareProfileSpec, Throughput
from hwprofiles.estimate.formats import support
from hwprofiles.model import Engine
from hwprofiles.schema import decimal
from hwprofiles.unanswered import EVIDENCE
from hwprofiles.versions import minimum_version, older
from polyfleet.api import ModelDeploymentSpec
from polyfleet.api.modeldeployment import Parallelism, Variant
from polyfleet.shapes import Known

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
    precision: str | None  # as declared
    secret_name: str
    footprint: str | None  # as declared
    known: Known
    parallelism: Parallelism
    engine: str
    engine_version: str | None  # of the profile's image; None = not known, as with an image of the user's
    image: str
    args: tuple[str, ...]
    env: tuple[EnvItem, ...]

    @property
    def model_id(self) -> str:
        """The model's name as throughput entries write it: the URI without its scheme."""
        return strip_scheme(self.uri)

    @property
    def number_format(self) -> str | None:
        """What data is looked up under: see `number_format`."""
        return number_format(self.profile, self.precision, self.known)

    def entries(self) -> tuple[Throughput, ...]:
        """Throughput entries of this model, engine and number format, of whatever version and layout, in the profile's order."""
        return entries_of(self.profile, self.known, self.engine, self.number_format)


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


def number_format(profile: HardwareProfileSpec, declared: str | None, known: Known) -> str | None:
    """The declared one, else that of the published weights, if this profile says anything of it. An engine on a device that does not know
    the format converts while loading, to what nobody declared: then data of every format counts (None)."""
    if declared is not None:
        return declared
    return known.precision if known.precision is not None and support(known.precision, profile.dtypes or {}) is not None else None


def entries_of(profile: HardwareProfileSpec, known: Known, engine: str, precision: str | None) -> tuple[Throughput, ...]:
    return tuple(
        entry
        for entry in profile.throughput
        if entry.model in known.names and entry.engine == engine and (None in (precision, entry.precision) or entry.precision == precision)
    )


def rate(entry: Throughput) -> Decimal:
    return decimal(entry.output_tokens_per_second or "0")


def choose_engine(
    profile: HardwareProfileSpec,
    wanted: str,
    known: Known,
    precision: str | None,
    image: str | None,
    covers: Callable[[Throughput], bool],
    min_evidence: str = EVIDENCE[-1],
) -> str | None:
    """The engine's name. `auto`: only engines that can be started, and one that is too old for the model only if every other is. Among them
    the one whose entries for this model and load are of the best evidence, then the highest rate per device among those, whatever their
    layout; an estimate outweighs no measurement, and data below `min_evidence` does not vote. Tie, also where there is no data -> vllm,
    then the first name."""
    engines = profile.engines or {}
    if wanted != AUTO:
        return wanted if wanted in engines or image is not None else None
    usable = [
        name for name in sorted(engines) if (image is not None or engines[name].image is not None) and engines[name].config_style == "args"
    ]
    if not usable:
        return None
    votes = EVIDENCE[: EVIDENCE.index(min_evidence) + 1]

    def order(name: str) -> tuple[bool, int, Decimal, bool, str]:
        entries = [
            entry for entry in entries_of(profile, known, name, precision) if entry.evidence in votes and rate(entry) > 0 and covers(entry)
        ]
        rank = min((EVIDENCE.index(entry.evidence) for entry in entries), default=len(EVIDENCE))
        per_device = max(
            (rate(entry) / entry.parallelism.devices for entry in entries if EVIDENCE.index(entry.evidence) == rank), default=Decimal(0)
        )
        return image is None and bool(too_old(engines[name], known)), rank, -per_device, name != "vllm", name

    return min(usable, key=order)


def too_old(engine: Engine, known: Known) -> str:
    """The lowest engine version that serves the model, if the profile's is below it; else "". What cannot be compared is not judged."""
    for name in known.names:
        least = minimum_version(engine, name)
        if least is not None:
            return least if engine.version is not None and older(engine.version, least) else ""
    return ""
