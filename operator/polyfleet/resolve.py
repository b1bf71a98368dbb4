"""From one ModelDeployment to its options: which profiles can serve it, in which size, and why not the others.

Per profile the checks run in a fixed order and stop at the first that fails; the failure becomes a line of `status.rejected` with
what to do about it. A size is the smallest legal one whose usable memory holds the model and which reaches the SLO, where that is known;
a larger one is taken instead only where better data exists for it that covers the load (`choice`). Legal sizes depend on the
pool's scheduler, so one profile may give several options, each with the pools where it is legal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from hwprofiles import HardwareProfileSpec
from hwprofiles.performance import Performance
from polyfleet import naming, rating, shapes
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.choice import Choice, chosen
from polyfleet.fleet import Fleet, Pool
from polyfleet.merge import Wanted
from polyfleet.rating import LOAD_OUTSIDE, NO_PERFORMANCE_DATA, PROFILE_STALE, SLO_UNREACHABLE, Asked, Rated
from polyfleet.sizing import MODEL_SHAPE_UNKNOWN, MODEL_TOO_LARGE, SIZE_NOT_ALLOWED, Layout, Rejection
from polyfleet.wanted import ENGINE_TOO_OLD, PRECISION_UNSUPPORTED, wanted_of

EXCLUDED = "Excluded"
NO_NODES = "MatchesNoNodes"
NO_MATCHING_PROFILE = "NoMatchingProfile"

# The condition's reasons in the order in which a model without any option reports one of them: what the user can change first.
CONDITION_ORDER = (
    MODEL_SHAPE_UNKNOWN,
    LOAD_OUTSIDE,
    NO_PERFORMANCE_DATA,
    PROFILE_STALE,
    SLO_UNREACHABLE,
    PRECISION_UNSUPPORTED,
    ENGINE_TOO_OLD,
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
    rated: Rated | None = None  # None: nothing is known of its speed, and nothing rests on it
    memory: str = ""  # where the memory figure comes from; "" = the size is the user's

    @property
    def performance(self) -> Performance | None:
        return self.rated.performance if self.rated is not None else None

    @property
    def stale(self) -> str:
        return self.rated.stale if self.rated is not None else ""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Numbers that nobody published or measured and on which the performance rests."""
        if self.performance is None:
            return ()
        own = self.wanted.known.assumptions if self.performance.entry is None else ()
        return tuple(dict.fromkeys((*self.performance.assumptions, *own)))

    @property
    def assumed(self) -> tuple[str, ...]:
        """The same, to stand behind "assumes"."""
        return tuple(text.removesuffix(" assumed") for text in self.assumptions)

    @property
    def caveat(self) -> str:
        """What has to be said wherever its numbers are shown; "" = nothing."""
        parts = [self.stale] if self.stale else []
        parts += [f"assumes {', '.join(self.assumed)}"] if self.assumptions else []
        return "; ".join(parts)

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
    key: str,
    name: str,
    spec: ModelDeploymentSpec,
    fleet: Fleet,
    held_profiles: Iterable[str] = (),
    policy: FleetPolicySpec | None = None,
    today: date | None = None,
    readings: Mapping[str, shapes.Reading] | None = None,
) -> Resolution:
    """`held_profiles` are those on which the model already has replicas: they stay options while their nodes are out of sight.

    Of `policy` (default: the defaults) `profiles.minEvidence` counts, weaker data is not used, and `profiles.maxAge`, by `today`.
    `readings`: what is known of weights in volumes, by URI.
    """
    fault = _unknown_names(spec, fleet)
    if fault is not None:
        return Resolution(accepted=fault)
    kept = frozenset(held_profiles)
    ask = rating.asked(spec, policy if policy is not None else FleetPolicySpec(), today)
    options: list[ResolvedOption] = []
    rejected: list[Rejection] = []
    for profile in sorted(fleet.profiles):
        found = _profile(key, name, spec, profile, fleet, profile in kept, ask, readings or {})
        if isinstance(found, Rejection):
            rejected.append(found)
        else:
            options.extend(found)
    rejected += [_deleted(profile) for profile in sorted(kept - fleet.profiles.keys())]
    restricted = bool(spec.placement.profiles or spec.placement.exclude_profiles or spec.placement.pools)
    unresolved = None if options else _nothing(rejected, fleet)
    return Resolution(tuple(sorted(options, key=lambda option: option.id)), tuple(rejected), unresolved=unresolved, restricted=restricted)


def _deleted(profile: str) -> Rejection:
    return Rejection(
        profile,
        NO_MATCHING_PROFILE,
        "the HardwareProfile does not exist any more; the replicas that run on it stay and count, and none is added or replaced",
        f"create HardwareProfile {profile} again, or delete the replicas' pods to move them",
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
    key: str,
    name: str,
    spec: ModelDeploymentSpec,
    profile_name: str,
    fleet: Fleet,
    held: bool,
    ask: Asked,
    readings: Mapping[str, shapes.Reading],
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
    wanted = wanted_of(name, spec, profile_name, profile, ask, readings)
    if isinstance(wanted, Rejection):
        return wanted
    return _sized(key, wanted, allowed, ask, held)


def _sized(key: str, wanted: Wanted, pools: list[Pool], ask: Asked, held: bool) -> Rejection | list[ResolvedOption]:
    by_scheduler: dict[str, list[Pool]] = {}
    for pool in pools:
        by_scheduler.setdefault(pool.scheduler, []).append(pool)
    found: dict[Layout, tuple[Choice, list[str]]] = {}
    failure: Rejection | None = None
    for scheduler in sorted(by_scheduler):
        members = by_scheduler[scheduler]
        choice = chosen(wanted, scheduler, _full(wanted.profile, members), ask, held)
        if isinstance(choice, Rejection):
            failure = failure or choice
            continue
        _, names = found.setdefault(choice.fit.layout, (choice, []))
        names.extend(pool.name for pool in members)
    if not found:
        return failure or Rejection(wanted.profile_name, SIZE_NOT_ALLOWED, "no size is legal")
    return [
        ResolvedOption(
            id=naming.option_id(key, wanted.profile_name, wanted.variant, wanted.engine, choice.fit.layout.devices),
            model=key,
            wanted=wanted,
            layout=choice.fit.layout,
            pools=tuple(sorted(names)),
            evidence=choice.evidence,
            rated=choice.rated,
            memory=choice.fit.memory.basis if choice.fit.memory is not None else "",
        )
        for choice, names in sorted(found.values(), key=lambda item: item[0].fit.layout.devices)
    ]


def _full(profile: HardwareProfileSpec, pools: list[Pool]) -> int | None:
    if profile.unit.per_node is not None:
        return profile.unit.per_node
    return max((node.installed for pool in pools for node in pool.nodes), default=0) or None
