"""Install polyfleet's chart into a sandbox (or any marked) cluster with the real helm, as a user would.

Used by the demo and by the end-to-end tests, so that both run what users run: the chart's pod, under its own account.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from sandbox import binaries, foreground

RELEASE = "polyfleet"
NAMESPACE = "polyfleet"
OPERATOR_REPOSITORY = "sandbox.polyfleet.io/operator"
OPERATOR_TAG = "dev"


class InstallError(RuntimeError):
    """helm refused; the message carries helm's own words."""


def policy_file() -> Path:
    """Chart values of the sandbox's accuracy policy."""
    return Path(__file__).resolve().parent / "policy.yaml"


def chart_dir() -> Path:
    return Path(__file__).resolve().parent.parent / "charts" / "polyfleet"


def helm_path() -> str:
    found = binaries.cached()
    if found is None:
        raise InstallError("no helm is built yet; next: polyfleet-sandbox up")
    return str(found / "helm")


def helm(kubeconfig: Path, *args: str, timeout_s: float = 240) -> str:
    """Run helm against one cluster; returns its standard output."""
    env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    try:
        done = foreground.run([helm_path(), *args], env=env, capture=True, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        raise InstallError(f"helm {args[0]} did not end in {timeout_s:g} s; next: kubectl get pods,events -n {NAMESPACE}") from None
    if done.returncode:
        raise InstallError(f"helm {args[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def remedy(status: str) -> tuple[str, ...]:
    """The helm command that frees a release which a killed helm left in the middle of something; empty when it is not.

    A first install that was never finished has nothing to go back to, so it goes (CRDs and objects stay); an upgrade goes back.
    """
    if status in ("pending-install", "uninstalling"):
        return ("uninstall", RELEASE, "--namespace", NAMESPACE)
    if status in ("pending-upgrade", "pending-rollback"):
        return ("rollback", RELEASE, "--namespace", NAMESPACE)
    return ()


def release_status(kubeconfig: Path) -> str:
    """helm's word for the newest revision of the release, whatever its state; empty when there is none."""
    rows = json.loads(helm(kubeconfig, "list", "--namespace", NAMESPACE, "--filter", f"^{RELEASE}$", "--output", "json"))
    return str(rows[0]["status"]) if rows else ""


def install(kubeconfig: Path, *extra: str, wait_s: int = 180) -> str:
    """Install or upgrade the release with the sandbox's image, profiles and accuracy policy; waits until the operator is Ready."""
    if freeing := remedy(release_status(kubeconfig)):
        helm(kubeconfig, *freeing)
    return helm(
        kubeconfig,
        "upgrade",
        "--install",
        RELEASE,
        str(chart_dir()),
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--wait",
        f"--timeout={wait_s}s",
        "--values",
        str(policy_file()),
        "--set",
        f"image.repository={OPERATOR_REPOSITORY},image.tag={OPERATOR_TAG}",
        "--set",
        "profiles.builtin={nvidia,huawei,alibaba,amd,sandbox}",
        "--set-string",
        r"operator.nodeSelector.node-role\.polyfleet\.io/system=",
        *extra,
        timeout_s=wait_s + 30,
    )


def uninstall(kubeconfig: Path) -> str:
    return helm(kubeconfig, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
