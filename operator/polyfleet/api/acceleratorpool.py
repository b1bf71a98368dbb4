"""AcceleratorPool: nodes with one kind of device ("node pool" in prose). Discovered; edited to restrict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from polyfleet.api.types import (
    Bool,
    Conditions,
    Cost,
    Count,
    LabelKey,
    Labels,
    Model,
    ObjectName,
    ObservedGeneration,
    ReasonWord,
    Sharing,
    ShortText,
    StatusModel,
    Toleration,
    Word,
)


class Limits(Model):
    devices: Annotated[Count | None, Field(description="Most devices in use.")] = None


class Reserve(Model):
    devices: Annotated[Count | None, Field(description="Devices kept free for bursts.")] = None


class AcceleratorPoolSpec(Model):
    cel_rules = (
        (
            (
                "!has(self.reserve) || !has(self.reserve.devices) || !has(self.limits) || !has(self.limits.devices)"
                " || self.reserve.devices <= self.limits.devices"
            ),
            "reserve.devices must not exceed limits.devices",
        ),
    )
    profile: Annotated[ObjectName, Field(description="HardwareProfile of all its nodes.")]
    node_selector: Annotated[Labels | None, Field(description="Nodes by label, beside the profile's match.")] = None
    scheduler: Annotated[Word | None, Field(description="Scheduler whose conventions apply; absent = detected.")] = None
    enforcement: Annotated[
        Literal["Node", "Pool"], Field(description="Node pins pods to the planned node; Pool leaves the node to the scheduler.")
    ] = "Node"
    capacity_type: Annotated[Literal["Reserved", "OnDemand", "Spot"], Field(description="How long the nodes stay.")] = "Reserved"
    limits: Annotated[Limits | None, Field(description="Upper bounds.")] = None
    reserve: Annotated[Reserve | None, Field(description="Head-room.")] = None
    schedulable: Annotated[Bool, Field(description="False = nothing new here.")] = True
    sharing: Annotated[Sharing, Field(description="Shared = time-sliced or sliced devices.")] = "Exclusive"
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32, description="Taints of these nodes that pods tolerate.")] = ()
    failure_domain_key: Annotated[LabelKey, Field(description="Node label of the failure domain.")] = "topology.kubernetes.io/zone"
    cost: Annotated[Cost | None, Field(description="Overrides the profile's price.")] = None


class NodeCounts(StatusModel):
    matched: Annotated[Count | None, Field(description="Nodes of the pool.")] = None
    eligible: Annotated[Count | None, Field(description="Nodes that may take replicas.")] = None


class PoolDevices(StatusModel):
    capacity: Annotated[Count | None, Field(description="Installed.")] = None
    allocatable: Annotated[Count | None, Field(description="Healthy.")] = None
    used: Annotated[Count | None, Field(description="Held by pods.")] = None
    free: Annotated[Count | None, Field(description="Free on eligible nodes.")] = None
    largest_free: Annotated[Count | None, Field(description="Most free on one node.")] = None
    withdrawn: Annotated[Count | None, Field(description="Taken out by the plugin.")] = None
    stranded: Annotated[Count | None, Field(description="Healthy, but blocked by a failed one.")] = None
    reserved: Annotated[Count | None, Field(description="Kept free.")] = None


class Excluded(StatusModel):
    reason: Annotated[ReasonWord, Field(description="Why.")]
    nodes: Annotated[Count, Field(description="How many.")]
    examples: Annotated[tuple[ShortText, ...], Field(max_length=8, description="Some of them.")] = ()


class AcceleratorPoolStatus(StatusModel):
    observed_generation: ObservedGeneration = None
    vendor: Annotated[ShortText | None, Field(description="Vendor.")] = None
    resource_name: Annotated[ShortText | None, Field(description="Resource that pods request.")] = None
    scheduler: Annotated[ShortText | None, Field(description="Scheduler in use.")] = None
    nodes: Annotated[NodeCounts | None, Field(description="Nodes.")] = None
    devices: Annotated[PoolDevices | None, Field(description="Devices.")] = None
    excluded: Annotated[tuple[Excluded, ...], Field(max_length=16, description="Nodes not used.")] = ()
    conditions: Conditions = ()


class AcceleratorPool(Model):
    """Nodes that carry one kind of device."""

    spec: Annotated[AcceleratorPoolSpec, Field(description="What is wanted.")]
    status: Annotated[AcceleratorPoolStatus | None, Field(description="What is.")] = None
