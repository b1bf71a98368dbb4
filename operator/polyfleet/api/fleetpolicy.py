"""FleetPolicy, named `default`: objective, budget, stability, quotas and the accuracy gate of the fleet.

Without the object the operator uses `FleetPolicySpec()`, so the defaults exist once.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from polyfleet.api.accuracy_settings import AccuracyFields, FleetGoldenSet
from polyfleet.api.types import (
    Approval,
    Bool,
    Conditions,
    Count,
    Currency,
    Decimal,
    Duration,
    Evidence,
    LabelKey,
    Model,
    Names,
    ObservedGeneration,
    Positive,
    ShortText,
    StatusModel,
    Word,
    list_map,
)


class Budget(Model):
    max_hourly_cost: Annotated[Decimal | None, Field(description="Highest cost of the fleet per hour.")] = None
    currency: Annotated[Currency, Field(description="ISO 4217 code.")] = "USD"


class Solver(Model):
    time_limit: Annotated[Duration, Field(description="Longest solve.")] = "10s"
    relative_gap: Annotated[Decimal, Field(description="Good enough, as a share of the bound.")] = "0.01"


class Stability(Model):
    min_saving_percent: Annotated[Decimal, Field(description="Saving that a move must earn, of what moves.")] = "5"
    max_moves_per_hour: Annotated[Count, Field(description="Moves per hour.")] = 4
    min_residence: Annotated[Duration, Field(description="Shortest stay before a move.")] = "15m"
    defragment: Annotated[Bool, Field(description="May move to make room.")] = False
    max_concurrent_rollouts: Annotated[Positive, Field(description="Models that change at once.")] = 3


class Preemption(Model):
    enabled: Annotated[Bool, Field(description="Lower priority drains for higher.")] = True
    reservation_timeout: Annotated[Duration, Field(description="How long freed devices are held.")] = "10m"


class Quota(Model):
    name: Annotated[Word, Field(description="Team.")]
    namespaces: Annotated[Names, Field(min_length=1, description="Its namespaces.")]
    profiles: Annotated[Names, Field(description="Only these profiles; empty = all.")] = ()
    devices: Annotated[Count, Field(description="Devices in all.")]
    borrow: Annotated[Bool, Field(description="May use what others leave.")] = False


class Profiles(Model):
    min_evidence: Annotated[Evidence, Field(description="Weaker data is not used for placing.")] = "Estimated"
    max_age: Annotated[Duration, Field(description="Older Measured data is stale.")] = "720h"


class Discovery(Model):
    auto_create_pools: Annotated[Bool, Field(description="Create a pool for every profile that matches nodes.")] = True
    pool_labels: Annotated[tuple[LabelKey, ...], Field(max_length=8, description="One pool per value of these labels.")] = ()


class ScalingClass(Model):
    name: Annotated[Literal["Strict", "Standard", "Batch"], Field(description="slo.class.")]
    burst_quantile: Annotated[Decimal | None, Field(description="Share of bursts that are covered; absent = none.")] = None
    utilization: Annotated[Decimal, Field(description="Planned use of a replica.")]


class FleetScaling(Model):
    classes: Annotated[
        tuple[ScalingClass, ...], Field(max_length=3, description="Head-room by class.", json_schema_extra=list_map("name"))
    ] = (
        ScalingClass(name="Strict", burst_quantile="0.98", utilization="0.7"),
        ScalingClass(name="Standard", burst_quantile="0.8", utilization="0.9"),
        ScalingClass(name="Batch", utilization="0.9"),
    )
    max_horizon: Annotated[Duration, Field(description="Longest look ahead.")] = "240s"
    hold_unknown_for: Annotated[Duration, Field(description="How long an unknown metric holds the size.")] = "5m"


class FleetAccuracy(AccuracyFields):
    overrides: Annotated[Literal["Any", "StricterOnly"], Field(description="What a ModelDeployment may change.")] = "Any"
    gate: Annotated[Literal["Required", "Observe", "Disabled"], Field(description="Whether a verdict is needed to serve.")] = "Required"
    level: Annotated[Literal["Quick", "Standard", "Critical"] | None, Field(description="Fills every number that is not set.")] = "Standard"
    golden_sets: Annotated[tuple[FleetGoldenSet, ...], Field(max_length=16, description="Golden sets.")] = ()


class FleetPolicySpec(Model):
    objective: Annotated[Literal["MinCost", "MaxThroughput", "Balanced"], Field(description="What placing optimises.")] = "MinCost"
    budget: Annotated[Budget | None, Field(description="Money.")] = None
    approval: Annotated[Approval, Field(description="Manual: every plan waits for its approval.")] = "Automatic"
    solver: Annotated[Solver, Field(description="Effort.")] = Solver()
    stability: Annotated[Stability, Field(description="Price of change.")] = Stability()
    preemption: Annotated[Preemption, Field(description="Priorities.")] = Preemption()
    quotas: Annotated[tuple[Quota, ...], Field(max_length=64, description="Devices per team.", json_schema_extra=list_map("name"))] = ()
    profiles: Annotated[Profiles, Field(description="Trust in data.")] = Profiles()
    discovery: Annotated[Discovery, Field(description="Pools from nodes.")] = Discovery()
    scaling: Annotated[FleetScaling, Field(description="Autoscaling.")] = FleetScaling()
    accuracy: Annotated[FleetAccuracy, Field(description="The fleet's accuracy gate.")] = FleetAccuracy()


class ModelCounts(StatusModel):
    total: Annotated[Count | None, Field(description="ModelDeployments.")] = None
    ready: Annotated[Count | None, Field(description="Ready.")] = None
    short: Annotated[Count | None, Field(description="With missing replicas.")] = None
    blocked: Annotated[Count | None, Field(description="Held by the gate.")] = None


class FleetPolicyStatus(StatusModel):
    observed_generation: ObservedGeneration = None
    plan: Annotated[ShortText | None, Field(description="Plan in force.")] = None
    hourly_cost: Annotated[Decimal | None, Field(description="Cost of the fleet per hour.")] = None
    models: Annotated[ModelCounts | None, Field(description="Models.")] = None
    solver: Annotated[ShortText | None, Field(description="Solver in use.")] = None
    conditions: Conditions = ()


class FleetPolicy(Model):
    """How the fleet is run. There is one, named default."""

    cel_rules: ClassVar[tuple[tuple[str, str], ...]] = (
        ("self.metadata.name == 'default'", "there is one FleetPolicy and its name is default"),
    )
    spec: Annotated[FleetPolicySpec, Field(description="What is wanted.")] = FleetPolicySpec()
    status: Annotated[FleetPolicyStatus | None, Field(description="What is.")] = None
