"""Accuracy settings that no check could be made with, by field: what the schema lets through and `accuracy.policy` refuses."""

from __future__ import annotations

from accuracy.policy import PairRule, PolicyError, Settings, effective
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.clearance import settings

_NOBODYS = ModelDeploymentSpec.model_validate({"model": {"uri": "hf://example/nobody"}})


def fault(policy: FleetPolicySpec) -> str:
    """Of the fleet's own settings; "" = they make sense."""
    return of_model(policy, _NOBODYS)


def of_own(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> str:
    """What a model's own settings spoil; what is wrong with the fleet's is said of the policy."""
    return "" if spec.accuracy == _NOBODYS.accuracy or fault(policy) else of_model(policy, spec)


def of_model(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> str:
    """Of the settings that hold for one model."""
    try:
        wanted = settings.settings(policy, spec)
        rules = settings.pair_rules(policy, spec)
        effective(wanted)
    except (PolicyError, ValueError) as error:
        return f"spec.accuracy.{_field(str(error))}"
    for index, rule in enumerate(rules):
        try:
            _try(wanted, rule)
        except PolicyError as error:
            return f"spec.accuracy.pairs[{index}].margins: {_field(str(error))}"
    return ""


def _try(wanted: Settings, rule: PairRule) -> None:
    """As for a candidate that this rule is about."""
    effective(
        wanted,
        candidate=rule.declares,
        pairs=(rule,),
        vendor=next(iter(rule.vendors), ""),
        profile=next(iter(rule.profiles), ""),
        variant=next(iter(rule.variants), ""),
        engine=next(iter(rule.engines), ""),
    )


def _field(text: str) -> str:
    """`bad_prompt_rate: 2.0, must be ...` with the field's name as the object spells it."""
    name, colon, rest = text.partition(":")
    if not colon or " " in name:
        return text
    head, *more = name.removesuffix("_kl").split("_")
    return head + "".join(part.capitalize() for part in more) + ("KL" if name.endswith("_kl") else "") + colon + rest
