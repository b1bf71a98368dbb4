"""HardwareProfile as an object of the cluster: the spec of `hwprofiles` and the status that discovery writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hwprofiles import HardwareProfileSpec
from polyfleet.api.types import Conditions, Count, Model, ObservedGeneration, ShortText, StatusModel, Text


class ProfileDevices(StatusModel):
    total: Annotated[Count | None, Field(description="Installed.")] = None
    allocatable: Annotated[Count | None, Field(description="Healthy.")] = None
    used: Annotated[Count | None, Field(description="Held by pods.")] = None
    free: Annotated[Count | None, Field(description="Free on eligible nodes.")] = None
    withdrawn: Annotated[Count | None, Field(description="Taken out by the plugin.")] = None


class EvidenceCounts(StatusModel):
    measured: Annotated[Count | None, Field(description="Measured by this installation.")] = None
    published: Annotated[Count | None, Field(description="Somebody's figure.")] = None
    estimated: Annotated[Count | None, Field(description="Formula or assumption.")] = None


class HardwareProfileStatus(StatusModel):
    observed_generation: ObservedGeneration = None
    nodes: Annotated[Count | None, Field(description="Nodes that match.")] = None
    devices: Annotated[ProfileDevices | None, Field(description="Devices.")] = None
    resource_names: Annotated[tuple[ShortText, ...], Field(max_length=16, description="Resource names in use.")] = ()
    evidence: Annotated[EvidenceCounts | None, Field(description="Throughput entries by evidence.")] = None
    data_summary: Annotated[Literal["Measured", "Published", "Estimated", "None"] | None, Field(description="Best evidence.")] = None
    oldest_evidence: Annotated[ShortText | None, Field(description="Date of the oldest entry.")] = None
    edited_fields: Annotated[tuple[Text, ...], Field(max_length=256, description="Fields that somebody edited.")] = ()
    ignored: Annotated[tuple[Text, ...], Field(max_length=32, description="Entries that planning leaves out, and why.")] = ()
    conditions: Conditions = ()


class HardwareProfile(Model):
    """What polyfleet knows about one schedulable unit of silicon."""

    spec: Annotated[HardwareProfileSpec, Field(description="What is known.")]
    status: Annotated[HardwareProfileStatus | None, Field(description="What was found.")] = None
