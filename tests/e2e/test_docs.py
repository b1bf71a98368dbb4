"""`docs/edit-a-profile.md` as it is written: the chart's own operator, the real helm, kubectl as a person types it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import install
from tests import pages
from tests.e2e.lib import BIN, ROOT, Cluster, Object, condition_row


def _known(profile: Object) -> bool:
    return profile["metadata"]["name"] == "sandbox-nvidia" and condition_row(profile, "Ready").get("status") == "True"


def test_edit_a_profile(cluster: Cluster, tmp_path: Path) -> None:
    """Every command of the page ends well and prints what the page says. The page is about one node of any kind, so one kind runs it."""
    if cluster.kind == "external":
        pytest.skip("needs the sandbox's profiles and its release")
    if cluster.kind == "real" and not os.environ.get("POLYFLEET_E2E_DOCS"):
        pytest.skip("the process nodes run it")
    cluster.settled()
    cluster.until("the node's profile is known", "hwp", lambda found: any(_known(item) for item in found))
    pools = {item["metadata"]["name"] for item in cluster.items("apool")}
    folder = str(Path(install.helm_path()).parent)
    env = {**cluster.env, "PATH": os.pathsep.join([str(BIN), folder, os.environ["PATH"]]), "NO_COLOR": "1"}
    try:
        assert pages.run(ROOT / "docs/edit-a-profile.md", tmp_path, env) == 9
    finally:
        cluster.kubectl("delete", "mdep", "edit-demo", "--ignore-not-found", "--wait=false")
        cluster.kubectl("delete", "hwp", "sandbox-nvidia", "--ignore-not-found")
        cluster.kubectl("wait", "--for=create", "hwp/sandbox-nvidia", "--timeout=60s")
        # While its profile is gone the node is what the vendor's own labels say, and gets a pool of that name.
        cluster.until("the node is back in its pool", "apool", lambda found: any(_holds_it(item) for item in found), namespace="*")
        for name in sorted({item["metadata"]["name"] for item in cluster.items("apool")} - pools):
            cluster.kubectl("delete", "apool", name)
        cluster.until("the pools as before", "apool", lambda found: {item["metadata"]["name"] for item in found} <= pools, namespace="*")


def _holds_it(pool: Object) -> bool:
    return pool["metadata"]["name"] == "sandbox-nvidia" and pool.get("status", {}).get("nodes", {}).get("matched") == 1
