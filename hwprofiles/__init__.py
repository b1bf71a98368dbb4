"""HardwareProfiles: schema, shipped device files, node matching, resource aliases and legal sizes. Pure; no Kubernetes."""

from hwprofiles.allocation import granted_size, legal_sizes, whole_node_only
from hwprofiles.match import MatchReason, NodeMatch, match_node
from hwprofiles.model import HardwareProfileSpec, Layout, Throughput
from hwprofiles.resources import advertised_alias, held_devices, installed_devices
from hwprofiles.sharing import shared_reason
from hwprofiles.shipped_profiles import load_profiles, load_shipped
from hwprofiles.validation import Finding, validate

__all__ = [
    "Finding",
    "HardwareProfileSpec",
    "Layout",
    "MatchReason",
    "NodeMatch",
    "Throughput",
    "advertised_alias",
    "granted_size",
    "held_devices",
    "installed_devices",
    "legal_sizes",
    "load_profiles",
    "load_shipped",
    "match_node",
    "shared_reason",
    "validate",
    "whole_node_only",
]
