"""The control plane itself: is it the real thing, whole, and does its audit log see who writes?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.controlplane import ControlPlane

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.control


def test_server_reports_the_pinned_kubernetes_version(kubectl: Kubectl) -> None:
    """/version says v1.37.2: helm and clients decide by it, and an unflagged build would say v0.0.0-master."""
    assert json.loads(kubectl("get", "--raw", "/version", check=True).stdout)["gitVersion"] == "v1.37.2"


def test_controllers_run(kubectl: Kubectl) -> None:
    """The controller manager gives a new namespace its ServiceAccount `default` and the CA bundle."""
    kubectl("create", "namespace", "controllers-run", check=True)
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", "controllers-run", "--timeout=60s", check=True)
    kubectl("wait", "--for=create", "configmap/kube-root-ca.crt", "-n", "controllers-run", "--timeout=60s", check=True)


def test_user_kubeconfig_has_only_the_rights_of_its_user(control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path) -> None:
    """A user without a role binding is refused, and the audit log names user, verb and status of the attempt."""
    mallory = control_plane.user_kubeconfig(tmp_path / "mallory.kubeconfig", "mallory")
    refused = kubectl("--kubeconfig", str(mallory), "get", "secrets", "-A")
    assert refused.returncode != 0
    assert "Forbidden" in refused.stderr
    entries = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
    assert ("list", "secrets", 403) in {
        (entry["verb"], entry["objectRef"]["resource"], entry["responseStatus"]["code"])
        for entry in entries
        if entry["user"]["username"] == "mallory" and "resource" in entry.get("objectRef", {})
    }


def test_state_of_the_control_plane_is_private(control_plane: ControlPlane) -> None:
    """Keys and kubeconfigs are readable by their owner only."""
    keys = [*control_plane.state.rglob("*.key"), *control_plane.state.rglob("*kubeconfig")]
    assert len(keys) >= 5
    assert {oct(path.stat().st_mode & 0o777) for path in keys} == {"0o600"}
