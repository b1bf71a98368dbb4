"""Least privilege, proven from the audit log after the other scenarios ran: granted minus used is empty, and nothing was refused.

The name sorts last: the log has to hold what the other scenarios made the operator do.
"""

from __future__ import annotations

import json

import pytest

from tests.e2e.lib import Cluster

USER = "system:serviceaccount:polyfleet:polyfleet"
Right = tuple[str, str, str]  # group, resource[/subresource], verb


def _granted(cluster: Cluster) -> set[Right]:
    rights: set[Right] = set()
    names = [("clusterrole", "", "polyfleet-operator"), ("role", "kube-system", "polyfleet-lease")]
    for kind, namespace, name in names:
        role = cluster.get(kind, name, *(["-n", namespace] if namespace else []))
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], rule
            rights |= {(g, r, v) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    return rights


def _used(cluster: Cluster) -> tuple[set[Right], list[str]]:
    from sandbox import witness

    used: set[Right] = set()
    refused: list[str] = []
    with witness.audit_log().open() as log:
        for line in log:
            event = json.loads(line)
            ref = event.get("objectRef")
            if event.get("stage") != "ResponseComplete" or event["user"]["username"] != USER or not ref:
                continue
            resource = ref["resource"] + (f"/{ref['subresource']}" if ref.get("subresource") else "")
            right = (ref.get("apiGroup", ""), resource, event["verb"])
            if event["responseStatus"]["code"] == 403:
                refused.append(f"{right}: {event['responseStatus'].get('message', '')}")
            used.add(right)
    return used, refused


def test_the_operator_used_what_it_was_granted_and_nothing_else(cluster: Cluster) -> None:
    if cluster.kind == "external":
        pytest.skip("needs the sandbox's audit log")
    granted = _granted(cluster)
    used, refused = _used(cluster)
    assert refused == []
    assert used - granted == set()
    assert granted - used == set()
