"""Bad input: every refusal names the field, the value and the way out, and nothing is half done."""

from __future__ import annotations

import json

from tests.e2e.lib import Cluster, condition_row, tiny


def test_schema_and_cel_refuse_before_anything_is_stored(cluster: Cluster) -> None:
    """A wrong object is refused by the API server itself, with the rule's own words."""
    wrong = tiny("wrong", replicas=2, scaling={"minReplicas": 1, "maxReplicas": 3})
    said = cluster.kubectl("apply", "--server-side", "-f", "-", check=False, stdin=json.dumps(wrong))
    assert "use replicas for a fixed size and scaling for autoscaling" in said
    typo = tiny("wrong")
    typo["spec"]["replica"] = 2
    said = cluster.kubectl("apply", "-f", "-", check=False, stdin=json.dumps(typo))
    assert 'unknown field "spec.replica"' in said
    assert "wrong" not in [m["metadata"]["name"] for m in cluster.items("mdep")]


def test_unknown_profile_and_pool_are_named_with_the_known_ones(cluster: Cluster) -> None:
    """Accepted=False names the unknown name, the known ones and the command that lists them; no pod is made."""
    cluster.apply(tiny("nowhere", placement={"profiles": ["nvidia-h900"]}))
    mdep = cluster.wait_condition("nowhere", "Accepted", "False", "UnknownProfile")
    message = condition_row(mdep, "Accepted")["message"]
    assert "nvidia-h900" in message
    assert "sandbox-ppu" in message
    assert "kubectl get hwp" in message
    assert condition_row(mdep, "Ready")["reason"] == "UnknownProfile"
    cluster.kubectl(
        "patch", "mdep", "nowhere", "--type=merge", "-p", json.dumps({"spec": {"placement": {"profiles": [], "pools": ["lake"]}}})
    )
    mdep = cluster.wait_condition("nowhere", "Accepted", "False", "UnknownPool")
    assert "lake" in condition_row(mdep, "Accepted")["message"]
    assert cluster.pods("nowhere") == []
    cluster.kubectl("patch", "mdep", "nowhere", "--type=merge", "-p", json.dumps({"spec": {"placement": {"pools": []}}}))
    mdep = cluster.wait_ready("nowhere")
    assert "lake" not in json.dumps(mdep["status"]), "a resolved cause leaves no trace"


def _small_node(cluster: Cluster) -> None:
    """A node with 4 GPUs behind a pool of its own. No kubelet runs it: what is installed is judged, and nothing may start there."""
    only = {"e2e.polyfleet.io/small": "yes"}
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "small-0", "labels": only}})
    devices = {"nvidia.com/gpu": "4", "pods": "10"}
    status = json.dumps({"status": {"capacity": devices, "allocatable": devices}})
    cluster.kubectl("patch", "node", "small-0", "--subresource=status", "--type=merge", "-p", status)
    pool = {"profile": "sandbox-nvidia", "nodeSelector": only}
    cluster.apply({"apiVersion": "polyfleet.io/v1alpha1", "kind": "AcceleratorPool", "metadata": {"name": "small"}, "spec": pool})


def test_never_fits_and_busy_are_told_apart(cluster: Cluster) -> None:
    """8 cards fit no node of 4 installed, ever; a ninth single card of 8 is only busy. Both say the numbers and what to do."""
    _small_node(cluster)
    cluster.apply(tiny("big", placement={"pools": ["small"]}, runtime={"parallelism": {"tensor": 8}}))
    mdep = cluster.wait_condition("big", "Placed", "False", "NeverFits")
    row = mdep["status"]["shortfall"]["reasons"][0]
    assert (row["reason"], row["pools"], row["missing"]) == ("NeverFits", ["small"], 1)
    assert "need 8, largest node has 4 installed" in row["message"]
    assert "runtime.parallelism.tensor" in row["hint"]
    assert cluster.pods("big") == []
    cluster.settled()  # the nine below need all of the node's eight
    cluster.apply(tiny("many", replicas=9, placement={"profiles": ["sandbox-nvidia"], "pools": ["sandbox-nvidia"]}))
    mdep = cluster.wait_condition("many", "Placed", "False", "DevicesUnavailable", timeout_s=150)
    shortfall = mdep["status"]["shortfall"]
    assert shortfall["replicas"] == 1
    assert shortfall["reasons"][0]["reason"] == "DevicesUnavailable"
    assert shortfall["reasons"][0]["hint"]


def test_a_size_that_the_profile_does_not_know_names_its_sizes(cluster: Cluster) -> None:
    """16 cards in one pod of a profile whose nodes have 8: the profile cannot resolve, and nothing is started."""
    cluster.apply(tiny("odd", placement={"profiles": ["sandbox-nvidia"]}, runtime={"parallelism": {"tensor": 16}}))
    mdep = cluster.wait_condition("odd", "ProfilesResolved", "False", "SizeNotAllowed")
    assert "16" in condition_row(mdep, "ProfilesResolved")["message"]
    assert cluster.pods("odd") == []


def test_a_foreign_object_of_the_same_name_is_left_alone(cluster: Cluster) -> None:
    """A Service that somebody else owns is never taken over; the status says which object is in the way."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "taken", "namespace": "default"},
            "spec": {"ports": [{"port": 1234}], "selector": {"app": "theirs"}},
        }
    )
    before = cluster.get("service", "taken")
    cluster.apply(tiny("taken"))
    mdep = cluster.wait_condition("taken", "Accepted", "False", "InvalidSpec")
    assert "Service default/taken" in condition_row(mdep, "Accepted")["message"]
    after = cluster.get("service", "taken")
    assert (before["metadata"]["resourceVersion"], before["spec"]) == (after["metadata"]["resourceVersion"], after["spec"])
