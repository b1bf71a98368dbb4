"""FleetPolicy.quotas as the placer's tenants: a tenant is what a set of namespaces shares.

A model has one tenant, so quotas that name a namespace together must name the same namespaces (one row for all devices and one for a
scarce profile, say). Quotas that overlap in part have no such tenant: they are a fault, and nothing grows under a rule that nobody
can hold.
"""

from __future__ import annotations

from placement.types import Quota
from polyfleet.api import FleetPolicySpec


def _tenant_of(policy: FleetPolicySpec) -> dict[frozenset[str], str]:
    """Each set of namespaces, under the first name of its quotas."""
    found: dict[frozenset[str], str] = {}
    for quota in sorted(policy.quotas, key=lambda item: item.name):
        found.setdefault(frozenset(quota.namespaces), quota.name)
    return found


def tenants(policy: FleetPolicySpec) -> dict[str, str]:
    """Namespace -> tenant, of the namespaces that have a quota."""
    return {namespace: name for group, name in _tenant_of(policy).items() for namespace in sorted(group)}


def rows(policy: FleetPolicySpec) -> tuple[Quota, ...]:
    names = _tenant_of(policy)
    found = [Quota(names[frozenset(q.namespaces)], q.devices, tuple(sorted(set(q.profiles))), q.borrow) for q in policy.quotas]
    return tuple(sorted(found, key=lambda quota: (quota.tenant, quota.profiles, quota.devices)))


def fault(policy: FleetPolicySpec) -> str:
    """Why the quotas cannot be held; "" if they can."""
    owner: dict[str, tuple[str, frozenset[str]]] = {}
    for quota in sorted(policy.quotas, key=lambda item: item.name):
        group = frozenset(quota.namespaces)
        for namespace in sorted(group):
            name, other = owner.setdefault(namespace, (quota.name, group))
            if other != group:
                return (
                    f"spec.quotas: namespace {namespace} is in {name} ({', '.join(sorted(other))}) and in {quota.name}"
                    f" ({', '.join(sorted(group))}); allowed: quotas that share a namespace name the same namespaces"
                )
    return ""
