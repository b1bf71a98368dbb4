"""Observed custom objects, parsed once per cycle into the models of their specs.

The schema in the API server refuses most wrong objects. What was stored under older rules, or came in past the schema, is caught
here: the object keeps its identity and carries the faults in words, and every later stage asks `spec is None`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec
from polyfleet.api import AcceleratorPoolSpec, FleetPolicySpec, ModelDeploymentSpec
from polyfleet.api.objects import describe
from polyfleet.state import CustomState, Observed

Spec = TypeVar("Spec", ModelDeploymentSpec, HardwareProfileSpec, AcceleratorPoolSpec, FleetPolicySpec)

_MAX_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Spec]):
    state: CustomState
    spec: Spec | None
    fault: str = ""

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def key(self) -> str:
        return self.state.key


@dataclass(frozen=True, slots=True)
class Objects:
    """All objects of one reading, sorted by key."""

    models: tuple[Parsed[ModelDeploymentSpec], ...]
    profiles: tuple[Parsed[HardwareProfileSpec], ...]
    pools: tuple[Parsed[AcceleratorPoolSpec], ...]
    policy: FleetPolicySpec
    policy_fault: str = ""


def parse(state: CustomState, model: type[Spec]) -> Parsed[Spec]:
    try:
        return Parsed(state, model.parse(dict(state.spec)))
    except ValidationError as error:
        return Parsed(state, None, describe(error, "spec")[:_MAX_MESSAGE])


def _all(states: Iterable[CustomState], model: type[Spec]) -> tuple[Parsed[Spec], ...]:
    return tuple(parse(state, model) for state in sorted(states, key=lambda s: (s.namespace, s.name)))


def parse_all(observed: Observed, policy_defaults: FleetPolicySpec | None = None) -> Objects:
    policy = policy_defaults if policy_defaults is not None else FleetPolicySpec()
    fault = ""
    if observed.policy is not None:
        parsed = parse(observed.policy, FleetPolicySpec)
        # The defaults stand in for a policy that makes no sense; its condition says why, and no model grows meanwhile.
        policy, fault = (parsed.spec, "") if parsed.spec is not None else (policy, parsed.fault)
    return Objects(
        models=_all(observed.model_deployments, ModelDeploymentSpec),
        profiles=_all(observed.profiles, HardwareProfileSpec),
        pools=_all(observed.pools, AcceleratorPoolSpec),
        policy=policy,
        policy_fault=fault,
    )
