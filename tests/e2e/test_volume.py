"""Weights in a volume whose shape nothing tells: a reader pod is made, the condition names it, and it goes with what tells more."""

from __future__ import annotations

from tests.e2e.lib import Cluster, Object, condition_row, labels, tiny

ROLE = ("polyfleet.io/role", "volume-reader")


def _readers(pods: list[Object]) -> list[Object]:
    return [pod for pod in pods if labels(pod).get(ROLE[0]) == ROLE[1]]


def test_the_reader_of_a_volume_comes_and_goes(cluster: Cluster) -> None:
    """The claim does not exist, so the reader waits; the reason says for what. A footprint makes it unnecessary, and it is deleted."""
    weights = {"uri": "pvc://nowhere/glm-9b"}
    cluster.apply(tiny("in-volume", model=weights))
    (pod,) = _readers(cluster.until("a reader of the volume", "pods", lambda pods: bool(_readers(pods))))
    name = pod["metadata"]["name"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "nowhere", "readOnly": True}

    def named(models: list[Object]) -> bool:
        rows = [condition_row(item, "ProfilesResolved") for item in models if item["metadata"]["name"] == "in-volume"]
        return any(row.get("reason") == "ModelShapeUnknown" and name in row.get("message", "") for row in rows)

    cluster.until("the condition names the reader", "mdep", named)
    cluster.apply(tiny("in-volume", model={**weights, "footprint": "1Gi"}, suspend=False))
    cluster.until("the reader is gone", "pods", lambda pods: not _readers(pods))
