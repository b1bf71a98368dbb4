"""Least privilege, proven from the audit log after the other scenarios ran: granted minus used is empty, and nothing was refused.

The name sorts last: the log has to hold what the other scenarios made the operator do.
"""

from __future__ import annotations

import json

import pytest

from tests.e2e.lib import Cluster

ACCOUNT = "system:serviceaccount:polyfleet:"
ROLES = {  # account -> where its rights are
    "polyfleet": [("clusterrole", "", "polyfleet-operator"), ("role", "kube-system", "polyfleet-lease")],
    "polyfleet-activator": [("clusterrole", "", "polyfleet-activator")],
}
Right = tuple[str, str, str]  # group, resource[/subresource], verb


def _granted(cluster: Cluster, account: str) -> set[Right]:
    rights: set[Right] = set()
    for kind, namespace, name in ROLES[account]:
        role = cluster.get(kind, name, *(["-n", namespace] if namespace else []))
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], rule
            rights |= {(g, r, v) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    return rights


def _used(account: str) -> tuple[set[Right], list[str]]:
    """(rights used, refusals). While the release is uninstalled the operator ends without its rights: that stretch is no refusal."""
    from sandbox import witness

    used: set[Right] = set()
    refused: list[str] = []
    bound = True
    with witness.audit_log().open() as log:
        for line in log:
            event = json.loads(line)
            ref = event.get("objectRef") or {}
            if event.get("stage") not in ("ResponseComplete", "ResponseStarted") or not ref:  # a watch is used while it lasts
                continue
            if ref["resource"].endswith("rolebindings") and event["verb"] in ("delete", "create", "patch"):
                bound = event["verb"] != "delete"
            if event["user"]["username"] != ACCOUNT + account:
                continue
            resource = ref["resource"] + (f"/{ref['subresource']}" if ref.get("subresource") else "")
            right = (ref.get("apiGroup", ""), resource, event["verb"])
            message = event["responseStatus"].get("message", "")
            # 403 is also the answer for a namespace that is being deleted; only RBAC says "cannot <verb> resource".
            if event["responseStatus"]["code"] == 403 and "cannot" in message:
                if bound:
                    refused.append(f"{event['requestReceivedTimestamp']} {right}: {message}")
                continue
            used.add(right)
    # Server-side apply of an object that is not there yet is logged as one patch, and asks for "create" as well.
    return used, refused


def _created_by_apply(account: str) -> set[Right]:
    """For each patch that answered 201: the right to create, which that apply needed."""
    from sandbox import witness

    found: set[Right] = set()
    with witness.audit_log().open() as log:
        for line in log:
            event = json.loads(line)
            if event.get("stage") != "ResponseComplete" or event["verb"] != "patch":
                continue
            if event["user"]["username"] != ACCOUNT + account:
                continue
            if event["responseStatus"]["code"] == 201:
                found.add((event["objectRef"].get("apiGroup", ""), event["objectRef"]["resource"], "create"))
    return found


@pytest.mark.parametrize("account", ROLES)
def test_what_was_granted_was_used_and_nothing_else(cluster: Cluster, account: str) -> None:
    """Granted equals used, over everything that the other scenarios made it do; no request was refused."""
    if cluster.kind == "external":
        pytest.skip("needs the sandbox's audit log")
    if account not in [each["metadata"]["name"] for each in cluster.items("serviceaccounts", namespace="polyfleet")]:
        pytest.skip(f"{account} was not installed")
    granted = _granted(cluster, account)
    used, refused = _used(account)
    used |= _created_by_apply(account)
    assert refused == []
    assert used - granted == set()
    assert granted - used == set()
