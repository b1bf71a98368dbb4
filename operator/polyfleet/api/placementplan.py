"""PlacementPlan: what the placer decided and how it is being applied. Written by the operator; a human sets only the approval.

Everything in spec but `approval` is immutable, so that what was approved is what is applied.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from polyfleet.api.types import (
    Bool,
    Conditions,
    Count,
    Decimal,
    Model,
    ObservedGeneration,
    ReasonWord,
    ShortText,
    StatusModel,
    Time,
)

_FIXED = ("trigger", "inputsDigest", "assignments", "truncated")
_TRIGGERS = Literal["SpecChanged", "LoadChanged", "InventoryChanged", "ProfileChanged", "AccuracyChanged", "Resync", "Manual"]
Signed = Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)]


class NodeShare(Model):
    name: Annotated[ShortText, Field(description="Node.")]
    replicas: Annotated[Count, Field(description="Replicas on it.")]


class Assignment(Model):
    deployment: Annotated[ShortText, Field(description="namespace/name of the ModelDeployment.")]
    pool: Annotated[ShortText, Field(description="AcceleratorPool.")]
    variant: Annotated[ShortText, Field(description="Variant.")]
    engine: Annotated[ShortText, Field(description="Serving engine.")]
    devices_per_replica: Annotated[Count, Field(description="Devices of one replica.")]
    replicas: Annotated[Count, Field(description="Replicas.")]
    revision: Annotated[ShortText | None, Field(description="Wanted revision of the replicas.")] = None
    nodes: Annotated[tuple[NodeShare, ...], Field(max_length=2000, description="Where; absent when truncated.")] = ()


class PlacementPlanSpec(Model):
    cel_rules = (
        *(
            (
                f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
                f"{name} of a plan cannot change; only approval can",
            )
            for name in _FIXED
        ),
        (
            "self.approval == oldSelf.approval || oldSelf.approval == 'Pending'",
            "approval moves only away from Pending",
        ),
    )
    trigger: Annotated[_TRIGGERS, Field(description="What made it.")]
    inputs_digest: Annotated[ShortText, Field(description="Of the snapshot and the demand.")]
    assignments: Annotated[tuple[Assignment, ...], Field(max_length=2000, description="The whole target.")]
    truncated: Annotated[Bool | None, Field(description="Node lists were dropped for size.")] = None
    approval: Annotated[Literal["NotNeeded", "Pending", "Approved", "Rejected"], Field(description="Set by a human.")] = "NotNeeded"


class Changes(StatusModel):
    add: Annotated[Count, Field(description="Replicas that start.")] = 0
    move: Annotated[Count, Field(description="Replicas that move.")] = 0
    remove: Annotated[Count, Field(description="Replicas that stop.")] = 0


class PlanShortfall(StatusModel):
    deployment: Annotated[ShortText, Field(description="namespace/name.")]
    replicas: Annotated[Count, Field(description="Missing replicas.")]
    reason: Annotated[ReasonWord, Field(description="Why.")]


class BindingConstraint(StatusModel):
    name: Annotated[ShortText, Field(description="Constraint.")]
    slack: Annotated[Count | None, Field(description="Unused.")] = None
    shadow_price: Annotated[Decimal | None, Field(description="Price in the linear relaxation.")] = None


class Step(StatusModel):
    at: Annotated[Time, Field(description="When.")]
    deployment: Annotated[ShortText, Field(description="namespace/name.")]
    pool: Annotated[ShortText, Field(description="AcceleratorPool.")]
    delta: Annotated[Signed, Field(description="Change of replicas.")]
    reason: Annotated[ReasonWord, Field(description="Why.")]


class PlacementPlanStatus(StatusModel):
    observed_generation: ObservedGeneration = None
    state: Annotated[
        Literal["Proposed", "Applying", "Applied", "Superseded", "Rejected", "Abandoned"] | None, Field(description="How far.")
    ] = None
    outcome: Annotated[Literal["Optimal", "Feasible", "Greedy", "KeptOld"] | None, Field(description="How good.")] = None
    hourly_cost: Annotated[Decimal | None, Field(description="Cost per hour.")] = None
    objective: Annotated[ShortText | None, Field(description="Value of the objective.")] = None
    bound: Annotated[ShortText | None, Field(description="Valid for all plans.")] = None
    gap_percent: Annotated[Decimal | None, Field(description="Distance to the bound.")] = None
    decided_by: Annotated[Literal["Effort", "Deadline"] | None, Field(description="Deadline = the watchdog cut in.")] = None
    solver: Annotated[ShortText | None, Field(description="Solver.")] = None
    solve_millis: Annotated[Annotated[int, Field(strict=True, ge=0)] | None, Field(description="Time of the solve, ms.")] = None
    changes: Annotated[Changes | None, Field(description="Against the plan before.")] = None
    changes_text: Annotated[ShortText | None, Field(description="The same, as a column.")] = None
    shortfalls: Annotated[tuple[PlanShortfall, ...], Field(max_length=1000, description="What is missing.")] = ()
    binding_constraints: Annotated[tuple[BindingConstraint, ...], Field(max_length=64, description="What holds the cost up.")] = ()
    steps: Annotated[tuple[Step, ...], Field(max_length=20, description="Steps along the precomputed ladder.")] = ()
    conditions: Conditions = ()


class PlacementPlan(Model):
    """One decision of the placer."""

    spec: Annotated[PlacementPlanSpec, Field(description="What was decided.")]
    status: Annotated[PlacementPlanStatus | None, Field(description="How far it is applied.")] = None
