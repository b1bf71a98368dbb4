"""What a FleetPolicy may ask for and this version cannot do yet, and what that stops.

A field that is accepted and does nothing is worse than one that is refused: somebody relies on it. So the policy says Accepted=False
with the field and what to set instead. Where going on would break the promise itself (a replica that must not serve unchecked) nothing
new starts, and what runs stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec

REQUIRED, DISABLED = "Required", "Disabled"
# From the weakest: StricterOnly lets a model's own word count only if it comes later here.
_STRICTNESS = (DISABLED, "Observe", REQUIRED)


@dataclass(frozen=True, slots=True)
class Bars:
    """What stops new replicas of one model; "" = nothing does."""

    gate: str = ""

    def __bool__(self) -> bool:
        return bool(self.gate)


NO_BARS = Bars()


def policy_faults(spec: FleetPolicySpec) -> list[str]:
    found: list[str] = []
    if _gate(spec) == REQUIRED:
        found.append(
            "spec.accuracy.gate: Required is not supported in this version (it checks no accuracy), so no new replica starts or serves;"
            " supported: Disabled"
        )
    return found


def model_fault(spec: ModelDeploymentSpec) -> str:
    if spec.accuracy.gate != REQUIRED:
        return ""
    return (
        "spec.accuracy.gate: Required is not supported in this version (it checks no accuracy);"
        " set Disabled with acknowledgeRisk, or Inherit where the FleetPolicy's gate is Disabled"
    )


def bars(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> Bars:
    gate = ""
    if _effective_gate(policy, spec) == REQUIRED:
        gate = (
            "FleetPolicy default: spec.accuracy.gate is Required and this version checks no accuracy, so no new replica starts or serves;"
            " set it to Disabled: kubectl edit fpol default"
        )
    return Bars(gate)


def _gate(policy: FleetPolicySpec) -> str:
    """The gate that somebody wrote. Without the object, or without the field, there is none: the schema's default in a stored object
    is written like any other value."""
    return policy.accuracy.gate if "gate" in policy.accuracy.model_fields_set else DISABLED


def _effective_gate(policy: FleetPolicySpec, spec: ModelDeploymentSpec) -> str:
    fleet, own = _gate(policy), spec.accuracy.gate
    if own == "Inherit":
        return fleet
    if policy.accuracy.overrides == "StricterOnly":
        return max(fleet, own, key=_STRICTNESS.index)
    return own
