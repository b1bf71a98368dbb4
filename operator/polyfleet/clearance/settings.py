"""The accuracy settings that hold for one model: the fleet's, with what the ModelDeployment changes, in the words of `accuracy.policy`."""

from __future__ import annotations

from collections.abc import Sequence

from accuracy.policy import GATES, LEVELS, STRATA, Formats, PairRule, Policy, Settings, TaskRule
from hwprofiles.schema import decimal_float, duration_seconds
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.api.accuracy_settings import AccuracyFields, Pair
from polyfleet.clearance.work import GoldenSource

REQUIRED, OBSERVE, DISABLED = "Required", "Observe", "Disabled"
STRICTNESS = (DISABLED, OBSERVE, REQUIRED)
CORE = GoldenSource(builtin="core")
# A ConfigMap key that begins so holds recorded outputs of a reference, not only prompts (`polyfleet accuracy import` writes it).
CAPTURE_PREFIX = "record"

_LEVELS = ("Quick", "Standard", "Critical")
# A smaller number asks for more, or a larger one does.
_SMALLER = ("alpha", "bad_prompt_rate", "noise_ratio", "noise_kl", "floor_kl", "cap_kl", "tail_kl", "flip_margin_nats", "bias")
_LARGER = ("min_prompts", "positions_per_prompt", "top_k", "repeats")


def effective_gate(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> str:
    fleet, own = policy.accuracy.gate, spec.accuracy.gate
    if own == "Inherit":
        return fleet
    if policy.accuracy.overrides == "StricterOnly":
        return max(fleet, own, key=STRICTNESS.index)
    return own


def settings(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> Settings:
    return _settings(spec.accuracy).over(_settings(policy.accuracy))


def pair_rules(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> tuple[PairRule, ...]:
    """The model's own last: of several rules that fit the last one wins, number by number."""
    return tuple(_rule(pair) for pair in (*policy.accuracy.pairs, *spec.accuracy.pairs))


def golden(policy: FleetPolicySpec, spec: ModelDeploymentSpec, namespace: str) -> tuple[GoldenSource, ...]:
    """The fleet's sets and the model's own; the built-in one where nothing is named. A fleet's ConfigMap without a namespace is in the
    operator's ("")."""
    found: list[GoldenSource] = []
    for fleet_set in policy.accuracy.golden_sets:
        at = fleet_set.config_map
        found.append(
            GoldenSource(builtin=fleet_set.builtin or "")
            if at is None
            else GoldenSource(namespace=at.namespace or "", name=at.name, key=at.key or "")
        )
    for own in spec.accuracy.golden_sets:
        place = own.config_map
        found.append(
            GoldenSource(builtin=own.builtin or "")
            if place is None
            else GoldenSource(namespace=namespace, name=place.name, key=place.key or "")
        )
    found = list(dict.fromkeys(found))
    return tuple(found) if any(not is_capture(source) for source in found) else (CORE, *found)


def is_capture(source: GoldenSource) -> bool:
    return source.key.startswith(CAPTURE_PREFIX)


def looser(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> str:
    """What a model asks for and `overrides: StricterOnly` does not allow, as one sentence; "" = nothing."""
    if policy.accuracy.overrides != "StricterOnly":
        return ""
    own, fleet = spec.accuracy, policy.accuracy
    found: list[str] = []
    if own.gate != "Inherit" and STRICTNESS.index(own.gate) < STRICTNESS.index(fleet.gate):
        found.append(f"spec.accuracy.gate: {own.gate} is looser than the fleet's {fleet.gate}")
    fleet_level = fleet.level or "Standard"
    if own.level is not None and _LEVELS.index(own.level) < _LEVELS.index(fleet_level):
        found.append(f"spec.accuracy.level: {own.level} is looser than the fleet's {fleet_level}")
    mine, base = _settings(own), _settings(fleet)
    default = {**_defaults(), **LEVELS[fleet_level]}
    for name in (*_SMALLER, *_LARGER):
        value = getattr(mine, name)
        limit = getattr(base, name) if getattr(base, name) is not None else default.get(name)
        if value is None or limit is None:
            continue
        if value > limit if name in _SMALLER else value < limit:
            found.append(f"spec.accuracy.{_camel(name)}: {value:g} is looser than the fleet's {limit:g}")
    found += _dropped("gates", own.gates, fleet.gates or tuple(str(gate) for gate in GATES))
    found += _dropped("strata", own.strata, fleet.strata or STRATA)
    if own.modes and set(own.modes) - set(fleet.modes or ("PromptLogprobs", "Stepwise", "FreeRun")):
        found.append("spec.accuracy.modes: it allows a mode that the fleet does not")
    if own.pairs:
        found.append("spec.accuracy.pairs: margins of declared pairs are the fleet's to set")
    return "; ".join(found)


def _dropped(name: str, own: Sequence[str], fleet: Sequence[str]) -> list[str]:
    lost = sorted(set(fleet) - set(own)) if own else []
    return [f"spec.accuracy.{name}: the fleet's {', '.join(lost)} left out"] if lost else []


def _defaults() -> dict[str, float | None]:
    policy = Policy()
    found: dict[str, float | None] = {name: getattr(policy.margins, name) for name in ("noise_ratio", "floor_kl", "cap_kl", "tail_kl")}
    found |= {name: getattr(policy.margins, name) for name in ("flip_margin_nats", "bias")}
    return found | {name: getattr(policy, name) for name in _LARGER}


def _camel(name: str) -> str:
    if name.endswith("_kl"):
        return name[:-3] + "KL"
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _number(text: object) -> float | None:
    return None if text is None else decimal_float(str(text))


def _settings(fields: AccuracyFields) -> Settings:
    reference, load, recheck = fields.reference, fields.conditions, fields.recheck
    return Settings(
        level=fields.level,
        reference_profile=reference.profile if reference is not None else None,
        max_age_s=duration_seconds(reference.max_age) if reference is not None and reference.max_age is not None else None,
        on_unavailable=reference.on_unavailable if reference is not None else None,
        modes=tuple(fields.modes),
        gates=tuple(fields.gates),
        strata=tuple(fields.strata),
        alpha=_number(fields.alpha),
        beta=_number(fields.beta),
        bad_prompt_rate=_number(fields.bad_prompt_rate),
        noise_ratio=_number(fields.noise_ratio),
        noise_kl=_number(fields.noise_kl),
        floor_kl=_number(fields.floor_kl),
        cap_kl=_number(fields.cap_kl),
        tail_kl=_number(fields.tail_kl),
        flip_margin_nats=_number(fields.flip_margin_nats),
        bias=_number(fields.bias),
        min_prompts=fields.min_prompts,
        max_prompts=fields.max_prompts,
        positions_per_prompt=fields.positions_per_prompt,
        top_k=fields.top_k,
        repeats=fields.repeats,
        seed=fields.seed,
        concurrency=tuple(load.concurrency) if load is not None else (),
        prefix_cache=tuple(load.prefix_cache) if load is not None else (),
        per_replica=load.per_replica if load is not None else None,
        tasks=tuple(TaskRule(task.name, task.items, _number(task.margin_points), task.paired) for task in fields.tasks),
        on_inconclusive=fields.on_inconclusive,
        recheck_every_s=duration_seconds(recheck.every) if recheck is not None and recheck.every is not None else None,
        on_driver_change=recheck.on_driver_change if recheck is not None else None,
        shadow_percent=float(recheck.shadow_percent) if recheck is not None and recheck.shadow_percent is not None else None,
    )


def _rule(pair: Pair) -> PairRule:
    given = pair.margins.model_dump(exclude_none=True)
    return PairRule(
        vendors=tuple(pair.candidate.vendors),
        profiles=tuple(pair.candidate.profiles),
        variants=tuple(pair.candidate.variants),
        engines=tuple(pair.candidate.engines),
        declares=Formats(pair.declares.weights or "", pair.declares.kv or "", pair.declares.activations or ""),
        margins={name: decimal_float(str(value)) for name, value in sorted(given.items())},
        require_tasks=pair.require_tasks,
    )
