"""A pool that discovery found: the profile's name, and the label that sets it apart if there is one.

It is applied only while it does not exist, so everything that somebody edits in it stays theirs.
"""

from __future__ import annotations

from typing import Any

from polyfleet import naming
from polyfleet.fleet import Pool


def manifest(pool: Pool) -> dict[str, Any]:
    spec: dict[str, Any] = {"profile": pool.profile_name}
    if pool.selector:
        spec["nodeSelector"] = dict(sorted(pool.selector.items()))
    return {"apiVersion": naming.API_VERSION, "kind": "AcceleratorPool", "metadata": {"name": pool.name}, "spec": spec}
