"""The six kinds: names, scope, printer columns and subresources. The CRDs, the reference docs and the client read this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from polyfleet.api.acceleratorpool import AcceleratorPool
from polyfleet.api.accuracyreport import AccuracyReport
from polyfleet.api.fleetpolicy import FleetPolicy
from polyfleet.api.hardwareprofile import HardwareProfile
from polyfleet.api.modeldeployment import ModelDeployment
from polyfleet.api.placementplan import PlacementPlan
from polyfleet.api.types import Model

GROUP: Final = "polyfleet.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "polyfleet"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    spec_replicas: str
    status_replicas: str
    selector: str


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    plural: str
    short: str
    namespaced: bool
    model: type[Model]
    columns: tuple[Column, ...]
    scale: Scale | None = None

    @property
    def singular(self) -> str:
        return self.name.lower()

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_AGE = Column("Age", ".metadata.creationTimestamp", "date")

KINDS: Final = (
    Kind(
        "ModelDeployment",
        "modeldeployments",
        "mdep",
        True,
        ModelDeployment,
        (
            Column("Ready", _condition("Ready", "status")),
            Column("Replicas", ".status.summary.replicas"),
            Column("Hardware", ".status.summary.hardware"),
            Column("Cost/h", ".status.summary.hourlyCost"),
            Column("Accuracy", ".status.summary.accuracy"),
            Column("Reason", ".status.summary.reason"),
            _AGE,
            Column("Model", ".spec.model.uri", wide=True),
            Column("URL", ".status.url", wide=True),
            Column("Plan", ".status.plan.name", wide=True),
            Column("Message", _condition("Ready", "message"), wide=True),
        ),
        Scale(".spec.replicas", ".status.replicas", ".status.selector"),
    ),
    Kind(
        "HardwareProfile",
        "hardwareprofiles",
        "hwp",
        False,
        HardwareProfile,
        (
            Column("Vendor", ".spec.vendor"),
            Column("Family", ".spec.family"),
            Column("Mem", ".spec.unit.memory"),
            Column("Align", ".spec.allocation.alignTo", "integer"),
            Column("Nodes", ".status.nodes", "integer"),
            Column("Devices", ".status.devices.total", "integer"),
            Column("Free", ".status.devices.free", "integer"),
            Column("Cost/Dev-h", ".spec.cost.perDeviceHour"),
            Column("Data", ".status.dataSummary"),
            _AGE,
        ),
    ),
    Kind(
        "AcceleratorPool",
        "acceleratorpools",
        "apool",
        False,
        AcceleratorPool,
        (
            Column("Profile", ".spec.profile"),
            Column("Vendor", ".status.vendor"),
            Column("Nodes", ".status.nodes.matched", "integer"),
            Column("Devices", ".status.devices.capacity", "integer"),
            Column("Used", ".status.devices.used", "integer"),
            Column("Free", ".status.devices.free", "integer"),
            Column("Type", ".spec.capacityType"),
            Column("Schedulable", _condition("Schedulable", "status")),
            _AGE,
        ),
    ),
    Kind(
        "FleetPolicy",
        "fleetpolicies",
        "fpol",
        False,
        FleetPolicy,
        (
            Column("Objective", ".spec.objective"),
            Column("Cost/h", ".status.hourlyCost"),
            Column("Budget", ".spec.budget.maxHourlyCost"),
            Column("Gate", ".spec.accuracy.gate"),
            Column("Plan", ".status.plan"),
            Column("Solver", ".status.solver"),
            _AGE,
        ),
    ),
    Kind(
        "PlacementPlan",
        "placementplans",
        "pplan",
        False,
        PlacementPlan,
        (
            Column("State", ".status.state"),
            Column("Approval", ".spec.approval"),
            Column("Trigger", ".spec.trigger"),
            Column("Changes", ".status.changesText"),
            Column("Cost/h", ".status.hourlyCost"),
            Column("Outcome", ".status.outcome"),
            Column("Gap%", ".status.gapPercent"),
            _AGE,
        ),
    ),
    Kind(
        "AccuracyReport",
        "accuracyreports",
        "accr",
        True,
        AccuracyReport,
        (
            Column("Deployment", ".spec.deployment"),
            Column("Candidate", ".spec.candidate.profile"),
            Column("Variant", ".spec.candidate.variant"),
            Column("Reference", ".spec.reference.profile"),
            Column("Verdict", ".status.verdict"),
            Column("Ratio", ".status.noiseRatio"),
            Column("Prompts", ".status.prompts", "integer"),
            Column("Reason", _condition("AccuracyVerified", "reason")),
            _AGE,
        ),
    ),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
