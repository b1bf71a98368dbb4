"""Models of polyfleet's six kinds, the source of the CRDs, the reference docs and offline validation."""

from hwprofiles import HardwareProfileSpec
from polyfleet.api import conditions
from polyfleet.api.acceleratorpool import AcceleratorPool, AcceleratorPoolSpec, AcceleratorPoolStatus
from polyfleet.api.accuracyreport import AccuracyReport, AccuracyReportSpec, AccuracyReportStatus
from polyfleet.api.fleetpolicy import FleetPolicy, FleetPolicySpec, FleetPolicyStatus
from polyfleet.api.hardwareprofile import HardwareProfile, HardwareProfileStatus
from polyfleet.api.kinds import API_VERSION, BY_NAME, CATEGORY, GROUP, KINDS, VERSION, Kind
from polyfleet.api.modeldeployment import ModelDeployment, ModelDeploymentSpec
from polyfleet.api.modeldeployment_status import ModelDeploymentStatus
from polyfleet.api.objects import ObjectError, parse_object
from polyfleet.api.placementplan import PlacementPlan, PlacementPlanSpec, PlacementPlanStatus

__all__ = [
    "API_VERSION",
    "BY_NAME",
    "CATEGORY",
    "GROUP",
    "KINDS",
    "VERSION",
    "AcceleratorPool",
    "AcceleratorPoolSpec",
    "AcceleratorPoolStatus",
    "AccuracyReport",
    "AccuracyReportSpec",
    "AccuracyReportStatus",
    "FleetPolicy",
    "FleetPolicySpec",
    "FleetPolicyStatus",
    "HardwareProfile",
    "HardwareProfileSpec",
    "HardwareProfileStatus",
    "Kind",
    "ModelDeployment",
    "ModelDeploymentSpec",
    "ModelDeploymentStatus",
    "ObjectError",
    "PlacementPlan",
    "PlacementPlanSpec",
    "PlacementPlanStatus",
    "conditions",
    "parse_object",
]
