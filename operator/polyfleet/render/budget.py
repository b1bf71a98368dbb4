"""The disruption budget of a model: an eviction takes one serving replica at a time, and never waits for one that does not serve."""

from __future__ import annotations

from typing import Any

from polyfleet.render import service
from polyfleet.state import CustomState


def manifest(owner: CustomState) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": service.metadata(owner),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": service.labels(owner)},
        },
    }
