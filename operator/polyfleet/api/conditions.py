"""Condition types and reasons of all kinds, enumerated. A reason that is not here is a defect.

The order of `MODEL_ROWS` and of the reasons within `PLACED` is the order of precedence that `Ready` and shortfalls use.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class ModelCondition(StrEnum):
    ACCEPTED = "Accepted"
    PROFILES_RESOLVED = "ProfilesResolved"
    PLACED = "Placed"
    WORKLOADS_READY = "WorkloadsReady"
    HARDWARE_VERIFIED = "HardwareVerified"
    ACCURACY_VERIFIED = "AccuracyVerified"
    ROUTE_READY = "RouteReady"
    READY = "Ready"
    AVAILABLE = "Available"
    PROMOTED = "Promoted"
    METRICS_AVAILABLE = "MetricsAvailable"
    SCALING_ACTIVE = "ScalingActive"
    DEGRADED = "Degraded"  # True is bad


class ProfileCondition(StrEnum):
    DISCOVERED = "Discovered"
    CALIBRATED = "Calibrated"
    READY = "Ready"


class PoolCondition(StrEnum):
    INVENTORY_KNOWN = "InventoryKnown"
    SCHEDULABLE = "Schedulable"
    HEALTHY = "Healthy"


class PolicyCondition(StrEnum):
    ACCEPTED = "Accepted"
    SOLVER_HEALTHY = "SolverHealthy"
    WITHIN_BUDGET = "WithinBudget"
    CONVERGED = "Converged"


class PlanCondition(StrEnum):
    APPLIED = "Applied"


class ReportCondition(StrEnum):
    COMPLETE = "Complete"
    ACCURACY_VERIFIED = "AccuracyVerified"


# The rows whose conjunction is Ready, by precedence.
MODEL_ROWS: Final = (
    ModelCondition.ACCEPTED,
    ModelCondition.PROFILES_RESOLVED,
    ModelCondition.PLACED,
    ModelCondition.WORKLOADS_READY,
    ModelCondition.HARDWARE_VERIFIED,
    ModelCondition.ACCURACY_VERIFIED,
    ModelCondition.ROUTE_READY,
)

ACCEPTED: Final = ("InvalidSpec", "PodTemplateInvalid", "UnknownProfile", "UnknownPool", "OverrideNotAllowed", "WakeTooSlow", "NoWakePath")
PROFILES_RESOLVED: Final = (
    "NoMatchingProfile",
    "ModelShapeUnknown",
    "NoPerformanceData",
    "LoadOutsideProfileRange",
    "ProfileStale",
    "PrecisionUnsupported",
    "SizeNotAllowed",
    "ModelTooLarge",
    "DriverTooOld",
    "EngineTooOld",
)
PLACED: Final = (
    "NeverFits",
    "PoolRestricted",
    "SharedDevices",
    "BudgetExceeded",
    "QuotaExceeded",
    "SpreadUnsatisfied",
    "SloUnreachable",
    "DevicesUnavailable",
    "PoolCordoned",
    "AwaitingApproval",
    "SolverTimeout",
    "InventoryUnknown",  # status Unknown
)
WORKLOADS_READY: Final = (
    "ImagePull",
    "ModelDownload",
    "Loading",
    "CrashLoop",
    "PendingScheduling",
    "AdmissionRejected",
    "StartDeadlineExceeded",
)
HARDWARE_VERIFIED: Final = ("WrongDevice", "CpuFallback", "NotReported")
ACCURACY_VERIFIED: Final = (
    "NotEquivalent",
    "HardFault",
    "ContractMismatch",
    "Pending",
    "Running",
    "Inconclusive",
    "InputsDiffer",
    "ReferenceMissing",
    "ReferenceUnavailable",
    "CandidateUnavailable",
    "CapabilityMissing",
    "GoldenStale",
    "NoiseUnmeasured",
    "FingerprintChanged",
    "Disabled",
)
ACCURACY_TRUE: Final = ("Equivalent", "SelfReference", "Overridden")
ROUTE_READY: Final = ("NoGateway", "WeightsPending", "RouteNotAccepted", "NoWakePath")

# Reasons of a condition that is not True, by kind and type; for Degraded, of one that is True.
MODEL_REASONS: Final[Mapping[ModelCondition, tuple[str, ...]]] = MappingProxyType(
    {
        ModelCondition.ACCEPTED: ACCEPTED,
        ModelCondition.PROFILES_RESOLVED: PROFILES_RESOLVED,
        ModelCondition.PLACED: PLACED,
        ModelCondition.WORKLOADS_READY: WORKLOADS_READY,
        ModelCondition.HARDWARE_VERIFIED: HARDWARE_VERIFIED,
        ModelCondition.ACCURACY_VERIFIED: ACCURACY_VERIFIED,
        ModelCondition.ROUTE_READY: ROUTE_READY,
        ModelCondition.READY: tuple(
            dict.fromkeys(  # a word may stand in two rows
                (
                    *ACCEPTED,
                    *PROFILES_RESOLVED,
                    *PLACED,
                    *WORKLOADS_READY,
                    *HARDWARE_VERIFIED,
                    *ACCURACY_VERIFIED,
                    *ROUTE_READY,
                )
            )
        ),
        ModelCondition.AVAILABLE: ("NothingServes",),
        ModelCondition.PROMOTED: (
            "RolloutInProgress",
            "RolloutBlocked",
            "AwaitingAccuracy",
            "AwaitingApproval",
            "RolledBack",
            "ProfileOutdated",
            "Paused",
        ),
        ModelCondition.METRICS_AVAILABLE: ("MetricsMissing", "MetricsStale", "MetricsFallback"),
        ModelCondition.SCALING_ACTIVE: ("AtMaximum", "ConflictingScaler", "Paused", "AdvisoryOnly", "ExternallyScaled"),
        ModelCondition.DEGRADED: ("SpillOver", "VendorLost", "Drifting", "BurstFasterThanColdStart"),
    }
)
PROFILE_REASONS: Final[Mapping[ProfileCondition, tuple[str, ...]]] = MappingProxyType(
    {
        ProfileCondition.DISCOVERED: ("MatchesNoNodes", "ResourceMissing"),
        ProfileCondition.CALIBRATED: ("NoData", "DataOutOfRange", "ProvenanceMissing", "Stale"),
        ProfileCondition.READY: ("MatchesNoNodes", "ResourceMissing", "NoData", "DataOutOfRange", "ProvenanceMissing", "Stale"),
    }
)
POOL_REASONS: Final[Mapping[PoolCondition, tuple[str, ...]]] = MappingProxyType(
    {
        PoolCondition.INVENTORY_KNOWN: ("ListForbidden", "ListFailed"),
        PoolCondition.SCHEDULABLE: ("Cordoned", "AllNodesExcluded", "ProfileMissing"),
        PoolCondition.HEALTHY: ("DevicesWithdrawn", "NodesNotReady", "NodeOverlap"),
    }
)
POOL_EXCLUDED: Final = (
    "NotReady",
    "Cordoned",
    "Tainted",
    "DevicesWithdrawn",
    "DevicesMissing",
    "SharedDevices",
    "DriverTooOld",
    "NoMatchingProfile",
)
POLICY_REASONS: Final[Mapping[PolicyCondition, tuple[str, ...]]] = MappingProxyType(
    {
        PolicyCondition.ACCEPTED: ("InvalidSpec", "UnknownProfile"),
        PolicyCondition.SOLVER_HEALTHY: ("SolverDegraded",),
        PolicyCondition.WITHIN_BUDGET: ("BudgetExceeded", "BudgetNearLimit"),
        PolicyCondition.CONVERGED: ("PlanPending", "AwaitingApproval"),
    }
)
PLAN_REASONS: Final[Mapping[PlanCondition, tuple[str, ...]]] = MappingProxyType(
    {
        PlanCondition.APPLIED: (
            "Proposed",
            "AwaitingApproval",
            "Rejected",
            "InProgress",
            "PartRefused",
            "Superseded",
            "CannotBeRealised",
        ),
    }
)
REPORT_REASONS: Final[Mapping[ReportCondition, tuple[str, ...]]] = MappingProxyType(
    {
        ReportCondition.COMPLETE: ("Running", "Retrying"),
        ReportCondition.ACCURACY_VERIFIED: ACCURACY_VERIFIED,
    }
)
# Reasons of conditions that are True and of those whose table names none.
TRUE_REASONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "AccuracyVerified": ACCURACY_TRUE,
        "Complete": ("VerdictReached",),
        "Discovered": ("NodesMatched",),
        "InventoryKnown": ("Listed",),
        "SolverHealthy": ("SelfTestPassed",),
    }
)

EVENTS: Final = (
    "Planned",
    "PlanChanged",
    "AwaitingApproval",
    "PlacementShortfall",
    "Preempted",
    "MovedForRoom",
    "ReservationEnded",
    "ScaledUp",
    "ScaledDown",
    "ScalingHeld",
    "MetricsFallback",
    "ConflictingScaler",
    "SpillOver",
    "SpillOverEnded",
    "AccuracyStarted",
    "AccuracyPassed",
    "AccuracyBlocked",
    "AccuracyInconclusive",
    "PromotionBlocked",
    "Promoted",
    "RolledBack",
    "FingerprintChanged",
    "HardwareMismatch",
    "ProfileStale",
    "ProfileEdited",
    "PoolLost",
    "PoolRecovered",
    "NodeUnmatched",
    "DriftRepaired",
)
