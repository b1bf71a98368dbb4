"""The API resources that polyfleet reads or writes: one row each, so that paths and kinds are spelled in one place."""

from __future__ import annotations

from dataclasses import dataclass

GROUP = "polyfleet.io"
VERSION = "v1alpha1"


@dataclass(frozen=True, slots=True)
class Resource:
    group: str  # "" is the core group
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection (no name) or of one object; no namespace means every namespace."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(parts)


NODES = Resource("", "v1", "nodes", "Node", False)
PODS = Resource("", "v1", "pods", "Pod", True)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", True)
SERVICES = Resource("", "v1", "services", "Service", True)
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet", True)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", True)
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True)
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True)
RESOURCE_SLICES = Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", False)
RESOURCE_CLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", True)
DEVICE_CLASSES = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", True)
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event", True)

MODEL_DEPLOYMENTS = Resource(GROUP, VERSION, "modeldeployments", "ModelDeployment", True)
HARDWARE_PROFILES = Resource(GROUP, VERSION, "hardwareprofiles", "HardwareProfile", False)
ACCELERATOR_POOLS = Resource(GROUP, VERSION, "acceleratorpools", "AcceleratorPool", False)
FLEET_POLICIES = Resource(GROUP, VERSION, "fleetpolicies", "FleetPolicy", False)
PLACEMENT_PLANS = Resource(GROUP, VERSION, "placementplans", "PlacementPlan", False)
ACCURACY_REPORTS = Resource(GROUP, VERSION, "accuracyreports", "AccuracyReport", True)

OWN_KINDS = (MODEL_DEPLOYMENTS, HARDWARE_PROFILES, ACCELERATOR_POOLS, FLEET_POLICIES, PLACEMENT_PLANS, ACCURACY_REPORTS)
DRA = (RESOURCE_SLICES, RESOURCE_CLAIMS, DEVICE_CLASSES)
ALL = (NODES, PODS, CONFIG_MAPS, SERVICES, REPLICA_SETS, DEPLOYMENTS, BUDGETS, HPAS, LEASES, ENDPOINT_SLICES, EVENTS, *DRA, *OWN_KINDS)
BY_KIND = {resource.kind: resource for resource in ALL}
