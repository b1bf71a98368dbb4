"""The chart as the real helm renders it: valid objects, restricted pods, least rights, digests, and typos that fail at install."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sandbox import install

Object = dict[str, Any]
KNOWN = {"polyfleet.io", "apiextensions.k8s.io"}  # kinds that the offline schemas lack
MATRIX = {
    "defaults": [],
    "digest": ["--set", f"image.digest=sha256:{'a' * 64}", "--set", "global.imageRegistry=mirror.example:5000"],
    "namespaced": ["--set", "operator.watchNamespaces={llm,team-a}"],
    "standby": ["--set", "operator.replicas=2", "--set", "operator.leaderElection.leaseDuration=30s"],
    "prometheus": [
        *("--set", "prometheus.url=https://p.monitoring.svc:9090", "--set", "prometheus.ca.configMap=p-ca"),
        *("--set", "prometheus.token.secret=p-token"),
    ],
    "activator": ["--set", "activator.enabled=true"],
    "no CRDs": ["--set", "crds.install=false", "--set", "profiles.builtin={nvidia}"],
}


def template(*extra: str) -> subprocess.CompletedProcess[str]:
    command = [install.helm_path(), "template", "polyfleet", str(install.chart_dir()), "--namespace", "polyfleet", *extra]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def objects(*extra: str) -> list[Object]:
    done = template(*extra)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(found: list[Object], kind: str) -> list[Object]:
    return [item for item in found if item["kind"] == kind]


@pytest.mark.parametrize("extra", MATRIX.values(), ids=MATRIX)
def test_every_object_is_valid_for_the_api(extra: list[str]) -> None:
    """Strict offline validation of each object that Kubernetes itself defines."""
    for item in objects(*extra):
        if item["apiVersion"].split("/")[0] not in KNOWN:
            kubernetes_validate.validate(item, "1.37.0", strict=True)


@pytest.mark.parametrize("extra", MATRIX.values(), ids=MATRIX)
def test_pods_are_restricted(extra: list[str]) -> None:
    """Pod Security "restricted" (Kubernetes' own list), a read-only root, and no token for anybody but who asks for it."""
    found = objects(*extra)
    for each in of_kind(found, "Deployment"):
        spec = each["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"hostNetwork", "hostPID", "hostIPC"} & spec.keys() == set()
        assert all("hostPath" not in volume for volume in spec.get("volumes", ()))
    accounts = of_kind(found, "ServiceAccount")
    assert len(accounts) == len(of_kind(found, "Deployment"))
    assert not any(each["automountServiceAccountToken"] for each in accounts)


@pytest.mark.parametrize("extra", MATRIX.values(), ids=MATRIX)
def test_rights_have_no_wildcard_and_no_secrets(extra: list[str]) -> None:
    for role in [*of_kind(objects(*extra), "ClusterRole"), *of_kind(objects(*extra), "Role")]:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert not {"secrets", "roles", "clusterroles", "customresourcedefinitions"} & set(rule["resources"])


def test_watched_namespaces_narrow_the_rights_to_them() -> None:
    """What lies in namespaces is written only there: no cluster-wide right on Deployments, Services or pods' patches remains."""
    found = objects("--set", "operator.watchNamespaces={llm}")
    cluster_wide = next(r for r in of_kind(found, "ClusterRole") if r["metadata"]["name"] == "polyfleet-operator")
    wide = {r for rule in cluster_wide["rules"] if rule["apiGroups"] != ["polyfleet.io"] for r in rule["resources"]}
    assert wide == {"nodes", "pods", "resourceslices", "resourceclaims", "deviceclasses"}
    dra = next(rule for rule in cluster_wide["rules"] if "deviceclasses" in rule["resources"])
    assert (dra["apiGroups"], dra["verbs"]) == (["resource.k8s.io"], ["list", "watch"])
    assert {v for rule in cluster_wide["rules"] if "pods" in rule["resources"] for v in rule["verbs"]} == {"list", "watch"}
    # Beside the operator only the golden sets of the fleet are read.
    assert {r["metadata"]["namespace"] for r in of_kind(found, "Role")} == {"llm", "default", "kube-system", "polyfleet"}


def test_the_activator_may_list_endpointslices_and_nothing_else() -> None:
    """It is off by default, and then the operator may not touch them either."""
    off, on = objects(), objects(*MATRIX["activator"])
    assert [each["metadata"]["name"] for each in of_kind(off, "Deployment")] == ["polyfleet"]
    roles = {each["metadata"]["name"]: each["rules"] for each in of_kind(on, "ClusterRole")}
    (only,) = roles["polyfleet-activator"]
    assert only == {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    mine = [rule for rule in roles["polyfleet-operator"] if "endpointslices" in rule["resources"]]
    assert sorted(verb for rule in mine for verb in rule["verbs"]) == ["create", "delete", "list", "patch", "watch"]
    assert not [rule for role in of_kind(off, "ClusterRole") for rule in role["rules"] if "endpointslices" in rule["resources"]]


def test_the_activator_waits_longer_at_its_end_than_it_promises() -> None:
    found = objects(*MATRIX["activator"], "--set", "activator.maxHoldSeconds=300")
    (pod,) = [each["spec"]["template"] for each in of_kind(found, "Deployment") if each["metadata"]["name"] == "polyfleet-activator"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 340
    env = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    assert env["POLYFLEET_ACTIVATOR_HOLD"] == "300"
    (service,) = of_kind(found, "Service")
    assert service["metadata"]["labels"]["polyfleet.io/activator"] == "pods"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    operator = next(each for each in of_kind(found, "Deployment") if each["metadata"]["name"] == "polyfleet")
    assert {"name": "POLYFLEET_ACTIVATOR", "value": "true"} in operator["spec"]["template"]["spec"]["containers"][0]["env"]


def test_a_digest_wins_over_the_tag_and_the_registry_goes_before() -> None:
    image = of_kind(objects(*MATRIX["digest"], "--set", "image.tag=1.2.3"), "Deployment")[0]["spec"]["template"]["spec"]["containers"][0][
        "image"
    ]
    assert image == f"mirror.example:5000/registry.example/polyfleet@sha256:{'a' * 64}"


def test_crds_are_kept_at_uninstall_and_equal_the_generated_ones() -> None:
    rendered = of_kind(objects(), "CustomResourceDefinition")
    assert len(rendered) == 6
    for crd in rendered:
        assert crd["metadata"].pop("annotations")["helm.sh/resource-policy"] == "keep"
        stored = yaml.safe_load(
            (install.chart_dir().parents[1] / "crds" / f"polyfleet.io_{crd['spec']['names']['plural']}.yaml").read_text()
        )
        stored["metadata"].pop("annotations", None)
        assert crd == stored
    assert all("annotations" not in crd["metadata"] for crd in of_kind(objects("--set", "crds.keep=false"), "CustomResourceDefinition"))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("operator.replicaz=2", "replicaz"),
        ("profiles.builtin={nvidea}", "builtin"),
        ("policy.accuracy.gate=Off", "gate"),
        ("image.digest=abc", "digest"),
    ],
)
def test_a_wrong_value_fails_at_install_and_is_named(value: str, named: str) -> None:
    done = template("--set", value)
    assert done.returncode != 0
    assert named in done.stderr


def test_the_seeds_are_the_policy_and_the_chosen_groups_of_profiles() -> None:
    """Sandbox profiles are off by default; what is seeded parses as the objects that the operator applies."""
    data = of_kind(objects(), "ConfigMap")[0]["data"]
    seeded = [yaml.safe_load(text) for text in data.values()]
    assert {item["kind"] for item in seeded} == {"FleetPolicy", "HardwareProfile"}
    assert not [name for name in data if name.startswith("sandbox-")]
    assert json.loads(json.dumps(next(i for i in seeded if i["kind"] == "FleetPolicy")["spec"])) == {
        "accuracy": {"gate": "Required", "goldenSets": [{"builtin": "core"}], "reference": {"onUnavailable": "SelfConsistency"}}
    }
    assert {name.split("-")[0] for name in of_kind(objects(*MATRIX["no CRDs"]), "ConfigMap")[0]["data"]} == {"fleetpolicy", "nvidia"}
