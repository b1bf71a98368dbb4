"""Status of a ModelDeployment. Dates, never ages; counts from the cluster, not from the last write; node names live in the plan."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from polyfleet.api.types import (
    Argument,
    Conditions,
    Count,
    Decimal,
    Evidence,
    Message,
    Names,
    ObservedGeneration,
    ReasonWord,
    ShortText,
    StatusModel,
    Text,
    Time,
    Verdict,
)


class Summary(StatusModel):
    """Joined texts for the printer columns, which can only read the object itself."""

    replicas: Annotated[ShortText | None, Field(description="Ready/wanted.")] = None
    hardware: Annotated[Text | None, Field(description="Replicas by vendor.")] = None
    hourly_cost: Annotated[Decimal | None, Field(description="Cost per hour.")] = None
    accuracy: Annotated[
        ShortText | None, Field(description="Pairs that serve with Promote / pairs that serve or are tested, then those that are blocked.")
    ] = None
    reason: Annotated[
        ShortText | None, Field(description="Why it is not Ready; of a Ready one, why the wanted revision does not serve.")
    ] = None


class PlacementStatus(StatusModel):
    pool: Annotated[ShortText, Field(description="AcceleratorPool.")]
    profile: Annotated[ShortText, Field(description="HardwareProfile.")]
    vendor: Annotated[ShortText | None, Field(description="Vendor.")] = None
    variant: Annotated[ShortText, Field(description="Variant.")]
    engine: Annotated[ShortText | None, Field(description="Serving engine.")] = None
    replicas: Annotated[Count, Field(description="Replicas that exist.")] = 0
    ready_replicas: Annotated[Count | None, Field(description="Of these, serving.")] = None
    candidates: Annotated[Count | None, Field(description="Replicas not certified yet.")] = None
    devices_per_replica: Annotated[Count | None, Field(description="Devices of one replica.")] = None
    tokens_per_second: Annotated[Decimal | None, Field(description="Planned output tokens/s.")] = None
    hourly_cost: Annotated[Decimal | None, Field(description="Cost per hour.")] = None
    weight_percent: Annotated[Count | None, Field(description="Share of the traffic.")] = None
    evidence: Annotated[Evidence | None, Field(description="Of the numbers used.")] = None
    reason: Annotated[ReasonWord | None, Field(description="Why here.")] = None
    message: Annotated[Message | None, Field(description="Why, in words.")] = None


class ShortfallReason(StatusModel):
    reason: Annotated[ReasonWord, Field(description="Why.")]
    pools: Annotated[Names, Field(description="Where.")] = ()
    missing: Annotated[Count | None, Field(description="Replicas.")] = None
    largest_free: Annotated[Count | None, Field(description="Most free devices on one node.")] = None
    total_free: Annotated[Count | None, Field(description="Free devices in all.")] = None
    message: Annotated[Message | None, Field(description="The numbers.")] = None
    hint: Annotated[Message | None, Field(description="The way out.")] = None


class Shortfall(StatusModel):
    replicas: Annotated[Count, Field(description="Missing replicas.")]
    queue_position: Annotated[Count | None, Field(description="Place in the queue.")] = None
    reasons: Annotated[tuple[ShortfallReason, ...], Field(max_length=8, description="By precedence.")] = ()


class Rejected(StatusModel):
    profile: Annotated[ShortText, Field(description="HardwareProfile.")]
    pool: Annotated[ShortText | None, Field(description="Only this pool.")] = None
    variant: Annotated[ShortText | None, Field(description="Variant.")] = None
    reason: Annotated[ReasonWord, Field(description="Why not.")]
    message: Annotated[Message | None, Field(description="The numbers.")] = None
    hint: Annotated[Message | None, Field(description="The way out.")] = None


class Effective(StatusModel):
    profile: Annotated[ShortText, Field(description="HardwareProfile.")]
    variant: Annotated[ShortText, Field(description="Variant.")]
    engine: Annotated[ShortText | None, Field(description="Serving engine.")] = None
    image: Annotated[Text | None, Field(description="Container image.")] = None
    args: Annotated[tuple[Argument, ...], Field(max_length=256, description="Merged arguments.")] = ()
    devices: Annotated[Count | None, Field(description="Devices of one replica.")] = None
    revision: Annotated[ShortText | None, Field(description="Revision of the pods.")] = None


class PlanRef(StatusModel):
    name: Annotated[ShortText | None, Field(description="PlacementPlan.")] = None
    outcome: Annotated[ReasonWord | None, Field(description="How good.")] = None
    gap_percent: Annotated[Decimal | None, Field(description="Distance to the bound.")] = None


class AccuracySummary(StatusModel):
    profile: Annotated[ShortText, Field(description="HardwareProfile.")]
    variant: Annotated[ShortText, Field(description="Variant.")]
    verdict: Annotated[Verdict | None, Field(description="Absent while it runs.")] = None
    report: Annotated[ShortText | None, Field(description="AccuracyReport.")] = None


class RolledBackStatus(StatusModel):
    profile: Annotated[ShortText, Field(description="HardwareProfile.")]
    variant: Annotated[ShortText, Field(description="Variant.")]
    revision: Annotated[ShortText, Field(description="Not tried again.")]
    reason: Annotated[Message | None, Field(description="Why.")] = None
    at: Annotated[Time | None, Field(description="When given up.")] = None


class AutoscalerStatus(StatusModel):
    desired: Annotated[Decimal | None, Field(description="Size it asks for.")] = None
    direction: Annotated[Literal["Up", "Down", "Hold"] | None, Field(description="Up, Down or Hold.")] = None
    reason: Annotated[Message | None, Field(description="The numbers.")] = None
    at: Annotated[Time | None, Field(description="When decided.")] = None


class ModelDeploymentStatus(StatusModel):
    observed_generation: ObservedGeneration = None
    url: Annotated[Text | None, Field(description="OpenAI-compatible endpoint.")] = None
    desired_replicas: Annotated[Count | None, Field(description="Wanted size.")] = None
    replicas: Annotated[Count | None, Field(description="Replicas that exist.")] = None
    ready_replicas: Annotated[Count | None, Field(description="Replicas that serve.")] = None
    selector: Annotated[Text | None, Field(description="Selects the pods.")] = None
    summary: Annotated[Summary | None, Field(description="Texts of the columns.")] = None
    placements: Annotated[tuple[PlacementStatus, ...], Field(max_length=128, description="Where it runs.")] = ()
    shortfall: Annotated[Shortfall | None, Field(description="What is missing; absent = nothing.")] = None
    rejected: Annotated[tuple[Rejected, ...], Field(max_length=128, description="Profiles not used, and why.")] = ()
    effective: Annotated[tuple[Effective, ...], Field(max_length=64, description="Merged configuration.")] = ()
    plan: Annotated[PlanRef | None, Field(description="Plan in force.")] = None
    accuracy: Annotated[tuple[AccuracySummary, ...], Field(max_length=128, description="Verdicts.")] = ()
    rolled_back: Annotated[
        tuple[RolledBackStatus, ...], Field(max_length=16, description="Wanted revisions that made no progress and were given up.")
    ] = ()
    autoscaler: Annotated[AutoscalerStatus | None, Field(description="Last decision.")] = None
    conditions: Conditions = ()
