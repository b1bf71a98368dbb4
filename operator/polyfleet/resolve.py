"""From one ModelDeployment to its options: which profiles can serve it, in which size, and why not the others.

Per profile the checks run in a fixed order and stop at the first that fails; the failure becomes a line of `status.rejected` with
what to do about it. A size is the smallest legal one whose usable memory holds the footprint. Legal sizes depend on the pool's
scheduler, so one profile may give several options, each with the pools where it is legal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from hwprofiles import HardwareProfileSpec, legal_sizes
from hwprofiles.schema import decimal, quantity_bytes

from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec
from polyfleet.api.modeldeployment import Parallelism, VariantModel, VariantRuntime
from polyfleet.catalog import params_billion
from polyfleet.fleet import Fleet, Pool
from polyfleet.merge import (
    DEFAULT_VARIANT,
    Wanted,
    best_entry,
    choose_engine,
    env_items,
    merge_env,
    strip_scheme,
    variant_for,
)

GIB = 1 << 30
# Weights plus KV cache and activations over the bare weights: our own assumption, which makes a size Estimated (2026-11).
SHAPE_OVERHEAD = Decimal("1.2")
# vLLM's default for --gpu-memory-utilization (vLLM documentation, 2026-08); used where the profile states no usableFraction.
DEFAULT_USABLE = Decimal("0.9")
# Bytes per parameter of a number format; a format that is not listed counts as two, the size of bf16.
BYTES: dict[str, Decimal] = {
    "fp32": Decimal(4),
    "bf16": Decimal(2),
    "fp16": Decimal(2),
    "fp8": Decimal(1),
    "int8": Decimal(1),
    "w8a8": Decimal(1),
    "w8a16": Decimal(1),
    "fp4": Decimal("0.5"),
    "int4": Decimal("0.5"),
    "awq": Decimal("0.5"),
    "gptq": Decimal("0.5"),
    "w4a8": Decimal("0.5"),
    "w4a16": Decimal("0.5"),
    "w4a4": Decimal("0.5"),
}

EXCLUDED = "Excluded"
NO_NODES = "MatchesNoNodes"
NO_MATCHING_PROFILE = "NoMatchingProfile"
PRECISION_UNSUPPORTED = "PrecisionUnsupported"
ENGINE_MISSING = "EngineMissing"
MODEL_SHAPE_UNKNOWN = "ModelShapeUnknown"
NO_PERFORMANCE_DATA = "NoPerformanceData"
SIZE_NOT_ALLOWED = "SizeNotAllowed"
MODEL_TOO_LARGE = "ModelTooLarge"

# The condition's reasons in the order in which a model without any option reports one of them: what the user can change first.
CONDITION_ORDER = (
    MODEL_SHAPE_UNKNOWN,
    NO_PERFORMANCE_DATA,
    PRECISION_UNSUPPORTED,
    SIZE_NOT_ALLOWED,
    MODEL_TOO_LARGE,
    NO_MATCHING_PROFILE,
)


@dataclass(frozen=True, slots=True)
class Rejection:
    profile: str
    reason: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    tensor: int
    pipeline: int = 1
    data: int = 1
    expert: int | None = None

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True)
class ResolvedOption:
    """Everything that rendering one replica needs, apart from the pool."""

    id: str
    model: str
    wanted: Wanted
    layout: Layout
    pools: tuple[str, ...]
    evidence: str

    @property
    def devices(self) -> int:
        return self.layout.devices

    @property
    def profile(self) -> str:
        return self.wanted.profile_name


@dataclass(frozen=True, slots=True)
class Fault:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Resolution:
    options: tuple[ResolvedOption, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    accepted: Fault | None = None  # why the spec makes no sense with the fleet's objects
    unresolved: Fault | None = None  # why there is no option at all
    restricted: bool = False  # the user's lists leave profiles or pools out

    def option(self, identity: str) -> ResolvedOption | None:
        return next((option for option in self.options if option.id == identity), None)


def resolve(key: str, name: str, spec: ModelDeploymentSpec, fleet: Fleet, held_profiles: Iterable[str] = ()) -> Resolution:
    """`held_profiles` are those on which the model already has replicas: they stay options while their nodes are out of sight."""
    fault = _unknown_names(spec, fleet)
    if fault is not None:
        return Resolution(accepted=fault)
    kept = frozenset(held_profiles)
    options: list[ResolvedOption] = []
    rejected: list[Rejection] = []
    for profile in sorted(fleet.profiles):
        found = _profile(key, name, spec, profile, fleet, profile in kept)
        if isinstance(found, Rejection):
            rejected.append(found)
        else:
            options.extend(found)
    restricted = bool(spec.placement.profiles or spec.placement.exclude_profiles or spec.placement.pools)
    unresolved = None if options else _nothing(rejected, fleet)
    return Resolution(
        tuple(sorted(options, key=lambda option: option.id)), tuple(rejected), unresolved=unresolved, restricted=restricted
    )


def _unknown_names(spec: ModelDeploymentSpec, fleet: Fleet) -> Fault | None:
    checks: tuple[tuple[str, str, str, tuple[str, ...], list[str]], ...] = (
        ("UnknownProfile", "profiles", "HardwareProfile", spec.placement.profiles, sorted(fleet.profiles)),
        ("UnknownPool", "pools", "AcceleratorPool", spec.placement.pools, [pool.name for pool in fleet.pools]),
    )
    for reason, field, kind, names, known in checks:
        unknown = sorted(name for name in names if name not in known)
        if unknown:
            short = {"HardwareProfile": "hwp", "AcceleratorPool": "apool"}[kind]
            listed = ", ".join(known[:20]) or "none"
            more = f" and {len(known) - 20} more" if len(known) > 20 else ""
            return Fault(
                reason,
                f"spec.placement.{field}: no {kind} named {', '.join(unknown)}; known: {listed}{more}; see kubectl get {short}",
            )
    return None


def _nothing(rejected: list[Rejection], fleet: Fleet) -> Fault:
    by_reason: dict[str, list[Rejection]] = {}
    for item in rejected:
        reason = item.reason if item.reason in CONDITION_ORDER else NO_MATCHING_PROFILE
        by_reason.setdefault(reason, []).append(item)
    for reason in CONDITION_ORDER:
        found = by_reason.get(reason)
        if found:
            lines = [f"{item.profile}: {item.message}" for item in found if item.reason != NO_NODES][:3]
            hint = next((item.hint for item in found if item.hint), "")
            if reason == NO_MATCHING_PROFILE:
                lines += _unmatched(fleet)
            message = "; ".join(lines) or "no node matches a profile; see kubectl get hwp and kubectl get nodes --show-labels"
            return Fault(reason, f"{message}; {hint}" if hint else message)
    return Fault(NO_MATCHING_PROFILE, "; ".join(_unmatched(fleet)) or "the fleet has no HardwareProfile; see kubectl get hwp")


def _unmatched(fleet: Fleet) -> list[str]:
    nodes = [node for node, _ in fleet.unmatched()]
    if not nodes:
        return []
    shown = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    return [f"nodes with devices but no matching profile: {shown}"]


def _profile(
    key: str, name: str, spec: ModelDeploymentSpec, profile_name: str, fleet: Fleet, held: bool
) -> Rejection | list[ResolvedOption]:
    profile = fleet.profiles[profile_name]
    placement = spec.placement
    if placement.profiles and profile_name not in placement.profiles:
        return Rejection(profile_name, EXCLUDED, "not in spec.placement.profiles")
    if profile_name in placement.exclude_profiles:
        return Rejection(profile_name, EXCLUDED, "in spec.placement.excludeProfiles")
    pools = [pool for pool in fleet.pools_of(profile_name) if pool.nodes or held or fleet.unknown]
    if not pools:
        return Rejection(profile_name, NO_NODES, "no node matches it")
    allowed = [pool for pool in pools if not placement.pools or pool.name in placement.pools]
    if not allowed:
        return Rejection(profile_name, EXCLUDED, "none of its pools is in spec.placement.pools")
    wanted = _wanted(name, spec, profile_name, profile)
    if isinstance(wanted, Rejection):
        return wanted
    return _sized(key, wanted, allowed)


def _wanted(name: str, spec: ModelDeploymentSpec, profile_name: str, profile: HardwareProfileSpec) -> Wanted | Rejection:
    variant = variant_for(spec, profile_name, profile.vendor)
    weights = (variant.model if variant is not None else None) or VariantModel()
    own = (variant.runtime if variant is not None else None) or VariantRuntime()
    uri = weights.uri or spec.model.uri
    precision = weights.precision or spec.model.precision
    dtypes = profile.dtypes or {}
    if precision is not None and dtypes.get(precision) == "Unsupported":
        good = ", ".join(sorted(word for word, support in dtypes.items() if support != "Unsupported"))
        return Rejection(
            profile_name,
            PRECISION_UNSUPPORTED,
            f"precision {precision} is not supported; it has {good}",
            f"add a variant with match.profiles [{profile_name}] and weights in one of: {good}",
        )
    image = own.image or spec.runtime.image
    asked = own.engine or spec.runtime.engine
    engine_name = choose_engine(profile, asked, strip_scheme(uri), precision, image)
    if engine_name is None:
        known = ", ".join(sorted(profile.engines or {})) or "none"
        return Rejection(
            profile_name,
            ENGINE_MISSING,
            f"no engine with an image for runtime.engine {asked}; the profile has: {known}",
            "set spec.runtime.engine and spec.runtime.image, or engines.<name>.image in the HardwareProfile",
        )
    engine = (profile.engines or {}).get(engine_name)
    image = image or (engine.image if engine else None)
    if image is None:
        return Rejection(
            profile_name,
            ENGINE_MISSING,
            f"engine {engine_name} has no image",
            f"set spec.runtime.image, or engines.{engine_name}.image in the HardwareProfile",
        )
    return Wanted(
        profile_name=profile_name,
        profile=profile,
        variant=variant.name if variant is not None else DEFAULT_VARIANT,
        uri=uri,
        served_name=spec.model.name or name,
        # Other weights have revisions of their own.
        model_revision=weights.revision or ("" if weights.uri else spec.model.revision) or "",
        precision=precision,
        secret_name=weights.secret_name or spec.model.secret_name or "",
        footprint=weights.footprint or spec.model.footprint,
        shape=weights.shape or spec.model.shape,
        parallelism=own.parallelism or spec.runtime.parallelism or Parallelism(),
        engine=engine_name,
        engine_version=engine.version if engine else None,
        image=image,
        args=(*(engine.args if engine else ()), *spec.runtime.args, *own.args),
        env=merge_env(env_items(engine.env if engine else ()), env_items(spec.runtime.env), env_items(own.env)),
        entry=best_entry(profile, strip_scheme(uri), engine_name, precision),
    )


def footprint_bytes(wanted: Wanted) -> tuple[int, str] | None:
    """Memory of one replica and the evidence for it, by order of trust; None if nothing is known."""
    for entry in wanted.profile.throughput:
        same_version = wanted.engine_version is None or entry.engine_version in (None, wanted.engine_version)
        if entry.footprint is not None and entry.model == wanted.model_id and entry.engine == wanted.engine and same_version:
            return quantity_bytes(entry.footprint), entry.evidence
    if wanted.footprint is not None:
        return quantity_bytes(wanted.footprint), "Estimated"
    shape = wanted.shape
    params = decimal(shape.params_b) if shape is not None and shape.params_b is not None else params_billion(wanted.model_id)
    if params is None:
        return None
    per_parameter = BYTES.get(wanted.precision or "bf16", Decimal(2))
    return int(params * 1_000_000_000 * per_parameter * SHAPE_OVERHEAD), "Estimated"


def _sized(key: str, wanted: Wanted, pools: list[Pool]) -> Rejection | list[ResolvedOption]:
    by_scheduler: dict[str, list[Pool]] = {}
    for pool in pools:
        by_scheduler.setdefault(pool.scheduler, []).append(pool)
    found: dict[int, tuple[Layout, list[str], str]] = {}
    failure: Rejection | None = None
    for scheduler in sorted(by_scheduler):
        members = by_scheduler[scheduler]
        size = choose_layout(wanted, scheduler, _full(wanted.profile, members))
        if isinstance(size, Rejection):
            failure = failure or size
            continue
        layout, evidence = size
        _, names, _ = found.setdefault(layout.devices, (layout, [], evidence))
        names.extend(pool.name for pool in members)
    if not found:
        return failure or Rejection(wanted.profile_name, SIZE_NOT_ALLOWED, "no size is legal")
    return [
        ResolvedOption(
            id=naming.option_id(key, wanted.profile_name, wanted.variant, wanted.engine, devices),
            model=key,
            wanted=wanted,
            layout=layout,
            pools=tuple(sorted(names)),
            evidence=wanted.entry.evidence if wanted.entry is not None else evidence,
        )
        for devices, (layout, names, evidence) in sorted(found.items())
    ]


def _full(profile: HardwareProfileSpec, pools: list[Pool]) -> int | None:
    if profile.unit.per_node is not None:
        return profile.unit.per_node
    return max((node.installed for pool in pools for node in pool.nodes), default=0) or None


def choose_layout(wanted: Wanted, scheduler: str, full: int | None) -> tuple[Layout, str] | Rejection:
    """The smallest legal layout that holds the model under this scheduler."""
    profile = wanted.profile
    parallelism = wanted.parallelism
    if (parallelism.span or 1) > 1:
        return _reject_size(wanted, f"parallelism.span {parallelism.span}: replicas over several nodes are not supported", "set span 1")
    legal = legal_sizes(profile, scheduler, full)
    pipeline, data = parallelism.pipeline or 1, parallelism.data or 1
    allowed = f"{wanted.profile_name} allows {', '.join(map(str, legal)) or 'none'} devices per replica under scheduler {scheduler}"
    choices = (parallelism.tensor,) if parallelism.tensor is not None else tuple(parallelism.tensor_choices or ())
    if choices:
        layouts = [Layout(t, pipeline, data, parallelism.expert) for t in sorted(set(choices)) if t * pipeline * data in legal]
        if not layouts:
            asked = ", ".join(str(t * pipeline * data) for t in sorted(set(choices)))
            return _reject_size(wanted, f"parallelism asks for {asked} devices; {allowed}", "choose one of the allowed sizes")
    else:
        layouts = [
            Layout(size // (pipeline * data), pipeline, data, parallelism.expert)
            for size in legal
            if size % (pipeline * data) == 0 and _divides(wanted, size // (pipeline * data))
        ]
        if not layouts:
            return _reject_size(wanted, f"no size fits pipeline {pipeline} x data {data} and the head count; {allowed}", "set tensor")
    return _fitting(wanted, layouts, explicit=parallelism.tensor is not None)


def _divides(wanted: Wanted, tensor: int) -> bool:
    heads = wanted.shape.heads if wanted.shape is not None else None
    return heads is None or heads % tensor == 0


def _fitting(wanted: Wanted, layouts: list[Layout], *, explicit: bool) -> tuple[Layout, str] | Rejection:
    known = footprint_bytes(wanted)
    if known is None:
        if explicit:
            return layouts[0], "Estimated"
        return Rejection(
            wanted.profile_name,
            MODEL_SHAPE_UNKNOWN,
            f"how much memory {wanted.model_id} needs is not known",
            "set spec.model.footprint (for example 24Gi) or spec.model.shape.paramsB, set spec.runtime.parallelism.tensor,"
            f" or measure: polyfleet bench --profile {wanted.profile_name} --model {wanted.model_id}",
        )
    need, evidence = known
    usable = decimal(wanted.profile.unit.usable_fraction) if wanted.profile.unit.usable_fraction else DEFAULT_USABLE
    per_device = Decimal(quantity_bytes(wanted.profile.unit.memory)) * usable
    for layout in sorted(layouts, key=lambda item: item.devices):
        if per_device * layout.devices >= need:
            return layout, evidence
    largest = max(layout.devices for layout in layouts)
    return Rejection(
        wanted.profile_name,
        MODEL_TOO_LARGE,
        f"needs {_gib(need)} GiB; {largest} x {wanted.profile.unit.memory} hold {_gib(int(per_device * largest))} GiB usable",
        "use a smaller precision in a variant, or allow more devices in runtime.parallelism",
    )


def _reject_size(wanted: Wanted, message: str, hint: str) -> Rejection:
    return Rejection(wanted.profile_name, SIZE_NOT_ALLOWED, message, hint)


def _gib(value: int) -> str:
    return f"{value / GIB:.1f}"

