"""From one ModelDeployment to its options: which profiles can serve it, in which size, and why not the others.

Per profile the checks run in a fixed order and stop at the first that fails; the failure becomes a line of `status.rejected` with
what to do about it. A size is the smallest legal one whose usable memory holds the footprint. Legal sizes depend on the pool's
scheduler, so one profile may give several options, each with the pools where it is legal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwprofiles import HardwareProfileSpec
from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec
from polyfleet.api.modeldeployment import Parallelism, VariantModel, VariantRuntime
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
from polyfleet.sizing import MODEL_SHAPE_UNKNOWN, MODEL_TOO_LARGE, SIZE_NOT_ALLOWED, Layout, Rejection, choose_layout

EXCLUDED = "Excluded"
NO_NODES = "MatchesNoNodes"
NO_MATCHING_PROFILE = "NoMatchingProfile"
PRECISION_UNSUPPORTED = "PrecisionUnsupported"
ENGINE_MISSING = "EngineMissing"
NO_PERFORMANCE_DATA = "NoPerformanceData"

# From the weakest.
EVIDENCE = ("Estimated", "Published", "Measured")

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


def resolve(
    key: str, name: str, spec: ModelDeploymentSpec, fleet: Fleet, held_profiles: Iterable[str] = (), min_evidence: str = "Estimated"
) -> Resolution:
    """`held_profiles` are those on which the model already has replicas: they stay options while their nodes are out of sight.

    `min_evidence` is FleetPolicy.spec.profiles.minEvidence: weaker data is not used.
    """
    fault = _unknown_names(spec, fleet)
    if fault is not None:
        return Resolution(accepted=fault)
    kept = frozenset(held_profiles)
    options: list[ResolvedOption] = []
    rejected: list[Rejection] = []
    for profile in sorted(fleet.profiles):
        found = _profile(key, name, spec, profile, fleet, profile in kept, min_evidence)
        if isinstance(found, Rejection):
            rejected.append(found)
        else:
            options.extend(found)
    restricted = bool(spec.placement.profiles or spec.placement.exclude_profiles or spec.placement.pools)
    unresolved = None if options else _nothing(rejected, fleet)
    return Resolution(tuple(sorted(options, key=lambda option: option.id)), tuple(rejected), unresolved=unresolved, restricted=restricted)


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
    key: str, name: str, spec: ModelDeploymentSpec, profile_name: str, fleet: Fleet, held: bool, min_evidence: str
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
    wanted = _wanted(name, spec, profile_name, _trusted(profile, min_evidence))
    if isinstance(wanted, Rejection):
        return wanted
    found = _sized(key, wanted, allowed)
    if isinstance(found, Rejection):
        return found
    good = [option for option in found if EVIDENCE.index(option.evidence) >= EVIDENCE.index(min_evidence)]
    return good or _too_weak(wanted, found[0].evidence, min_evidence)


def _trusted(profile: HardwareProfileSpec, least: str) -> HardwareProfileSpec:
    """The profile without throughput data of a lower class."""
    entries = tuple(entry for entry in profile.throughput if EVIDENCE.index(entry.evidence) >= EVIDENCE.index(least))
    return profile if len(entries) == len(profile.throughput) else profile.model_copy(update={"throughput": entries})


def _too_weak(wanted: Wanted, evidence: str, least: str) -> Rejection:
    return Rejection(
        wanted.profile_name,
        NO_PERFORMANCE_DATA,
        f"what is known of {wanted.model_id} here is {evidence}; FleetPolicy spec.profiles.minEvidence is {least}",
        f"add a throughput entry with a footprint and evidence {least} to the HardwareProfile, or lower minEvidence",
    )


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
