"""The CRDs on the real API server: every rule once accepted and once refused with its message, defaults, pruning, subresources."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.api import API_VERSION, BY_NAME, KINDS, Kind

from tests.unit.api.samples import full_spec, full_status, wrap
from tools.paths import ROOT

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.control
NAMESPACE = "crd-rules"
RISK = "Scores nothing that users see, rerun on Monday"


@pytest.fixture(scope="module")
def crds(kubectl: Kubectl) -> Iterator[Kubectl]:
    """kubectl against a server with all six CRDs and a namespace of this module's own."""
    files = [argument for path in sorted((ROOT / "crds").glob("*.yaml")) for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    names = [f"crd/{kind.crd_name}" for kind in KINDS]
    # Not --for=condition: that fails on a CRD so fresh that its conditions are still null.
    kubectl("wait", '--for=jsonpath={.status.conditions[?(@.type=="Established")].status}=True', *names, "--timeout=60s", check=True)
    kubectl("create", "namespace", NAMESPACE, check=True)
    try:
        yield kubectl
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def mdep(**fields: Any) -> dict[str, Any]:
    spec = {"model": {"uri": "hf://Qwen/Qwen3-32B"}, **fields}
    return wrap(BY_NAME["ModelDeployment"], "rule", spec, NAMESPACE)


def scaling(**fields: Any) -> dict[str, Any]:
    return mdep(scaling={"maxReplicas": 4, **fields})


def hwp(**fields: Any) -> dict[str, Any]:
    spec = {
        "vendor": "v",
        "family": "f",
        "unit": {"kind": "die", "perNode": 16, "memory": "64Gi"},
        "resources": [{"name": "example.com/dev"}],
        "allocation": {"sizes": [1, 2, 4, 16], "alignTo": 2},
        **fields,
    }
    return wrap(BY_NAME["HardwareProfile"], "rule", spec)


def entry(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "engine": "vllm", "evidence": "Published", "source": "s", "date": "2026-11", **fields}


def apool(**fields: Any) -> dict[str, Any]:
    return wrap(BY_NAME["AcceleratorPool"], "rule", {"profile": "p", **fields})


def fpol(name: str = "default", **fields: Any) -> dict[str, Any]:
    return wrap(BY_NAME["FleetPolicy"], name, fields)


BOTH = "use replicas for a fixed size and scaling for autoscaling; both only with scaling.mode Advise or External"
EXTERNAL = "scaling.mode External needs a first value in replicas"
VENDORS = "spread.minVendors needs at least as many replicas"
ZERO = "minReplicas 0 needs a scaleToZero block, and the block needs minReplicas 0"
TARGET = "every metric but Work needs targetPerReplica"
FALLBACK = "fallback.replicas must not exceed maxReplicas"
MATCH = "match needs vendors or profiles"
TENSOR = "set tensor for one size or tensorChoices for a choice, not both"
GATE = "turning the gate off needs acknowledgeRisk: a sentence that says why"
SPREAD = {"spread": {"minVendors": 3}}
# (case, object, message of the refusal or None if accepted)
CASES: list[tuple[str, dict[str, Any], str | None]] = [
    ("replicas-alone", mdep(replicas=3), None),
    ("replicas-and-advise", mdep(replicas=3, scaling={"maxReplicas": 4, "mode": "Advise"}), None),
    ("replicas-and-auto", mdep(replicas=3, scaling={"maxReplicas": 4}), BOTH),
    ("external-with-replicas", mdep(replicas=1, scaling={"maxReplicas": 4, "mode": "External"}), None),
    ("external-without-replicas", scaling(mode="External"), EXTERNAL),
    ("vendors-within-max", mdep(placement=SPREAD, scaling={"maxReplicas": 3}), None),
    ("vendors-within-replicas", mdep(placement=SPREAD, replicas=3), None),
    ("vendors-over-max", mdep(placement=SPREAD, scaling={"maxReplicas": 2}), VENDORS),
    ("vendors-over-replicas", mdep(placement=SPREAD, replicas=2), VENDORS),
    ("vendors-over-one", mdep(placement={"spread": {"minVendors": 2}}), VENDORS),
    ("min-equals-max", scaling(minReplicas=4), None),
    ("min-over-max", scaling(minReplicas=5), "minReplicas must not exceed maxReplicas"),
    ("zero-with-block", scaling(minReplicas=0, scaleToZero={}), None),
    ("zero-without-block", scaling(minReplicas=0), ZERO),
    ("block-without-zero", scaling(minReplicas=1, scaleToZero={}), ZERO),
    ("metric-with-target", scaling(metric="InFlight", targetPerReplica="8"), None),
    ("metric-without-target", scaling(metric="InFlight"), TARGET),
    ("fallback-at-max", scaling(fallback={"replicas": 4}), None),
    ("fallback-over-max", scaling(fallback={"replicas": 5}), FALLBACK),
    ("idle-ten-minutes", scaling(minReplicas=0, scaleToZero={"idleAfter": "10m"}), None),
    ("idle-too-short", scaling(minReplicas=0, scaleToZero={"idleAfter": "9m59s"}), "idleAfter must be at least 10m"),
    ("variant-by-vendor", mdep(variants=[{"name": "a", "match": {"vendors": ["huawei"]}}]), None),
    ("variant-by-profile", mdep(variants=[{"name": "a", "match": {"profiles": ["p"]}}]), None),
    ("variant-without-match", mdep(variants=[{"name": "a", "match": {}}]), MATCH),
    ("variant-with-empty-match", mdep(variants=[{"name": "a", "match": {"vendors": []}}]), MATCH),
    ("variant-twice", mdep(variants=[{"name": "a", "match": {"vendors": ["v"]}}] * 2), "Duplicate value"),
    ("profiles-disjoint", mdep(placement={"profiles": ["a"], "excludeProfiles": ["b"]}), None),
    ("profiles-overlap", mdep(placement={"profiles": ["a"], "excludeProfiles": ["a"]}), "a profile is both allowed and excluded"),
    ("tensor-choices", mdep(runtime={"parallelism": {"tensorChoices": [1, 2]}}), None),
    ("tensor-and-choices", mdep(runtime={"parallelism": {"tensor": 2, "tensorChoices": [1, 2]}}), TENSOR),
    ("gate-off-with-reason", mdep(accuracy={"gate": "Disabled", "acknowledgeRisk": RISK}), None),
    ("gate-off", mdep(accuracy={"gate": "Disabled"}), GATE),
    ("gate-off-20-characters", mdep(accuracy={"gate": "Disabled", "acknowledgeRisk": "x" * 20}), None),
    ("gate-off-19-characters", mdep(accuracy={"gate": "Disabled", "acknowledgeRisk": "x" * 19}), "at least 20 chars"),
    ("gate-off-512-characters", mdep(accuracy={"gate": "Disabled", "acknowledgeRisk": "x" * 512}), None),
    ("gate-off-513-characters", mdep(accuracy={"gate": "Disabled", "acknowledgeRisk": "x" * 513}), "may not be more than 512"),
    ("golden-builtin", mdep(accuracy={"goldenSets": [{"builtin": "core"}]}), None),
    ("golden-neither", mdep(accuracy={"goldenSets": [{}]}), "a golden set is either builtin or a configMap"),
    *((f"uri-{scheme}", mdep(model={"uri": f"{scheme}://a/b"}), None) for scheme in ("hf", "ms", "pvc", "s3", "oss", "obs", "oci")),
    ("uri-https", mdep(model={"uri": "https://a/b"}), "spec.model.uri in body should match"),
    ("uri-empty", mdep(model={"uri": "hf://"}), "spec.model.uri in body should match"),
    ("sizes-aligned", hwp(), None),
    ("size-odd", hwp(allocation={"sizes": [1, 3], "alignTo": 2}), "every size above 1 must be a multiple of allocation.alignTo"),
    ("align-odd", hwp(allocation={"sizes": [1], "alignTo": 3}), "allocation.alignTo must divide unit.perNode"),
    ("size-over-node", hwp(allocation={"sizes": [32]}), "no size may exceed unit.perNode"),
    ("slice", hwp(unit={"kind": "slice", "memory": "8Gi"}, allocation={"sizes": [1]}), None),
    ("slice-of-two", hwp(unit={"kind": "slice", "memory": "8Gi"}, allocation={"sizes": [1, 2]}), "a slice profile has sizes [1]"),
    ("entry-fits", hwp(throughput=[entry(precision="bf16", parallelism={"tensor": 4})], dtypes={"bf16": "Native"}), None),
    ("entry-over-two-nodes", hwp(throughput=[entry(parallelism={"tensor": 8, "data": 4, "span": 2})]), None),
    ("entry-size-not-allowed", hwp(throughput=[entry(parallelism={"tensor": 3})]), "needs devices per node"),
    (
        "entry-unsupported",
        hwp(throughput=[entry(precision="fp8")], dtypes={"fp8": "Unsupported"}),
        "a throughput entry names a precision that dtypes marks Unsupported",
    ),
    ("entry-unknown-precision", hwp(throughput=[entry(precision="fp8")], dtypes={"bf16": "Native"}), None),
    ("match-labels", hwp(match=[{"labels": {"k": ["v"]}}]), None),
    ("match-nothing", hwp(match=[{"unitsPerNode": 8}]), "a match entry needs labels or labelPatterns"),
    ("reserve-within-limit", apool(limits={"devices": 4}, reserve={"devices": 4}), None),
    ("reserve-without-limit", apool(reserve={"devices": 4}), None),
    ("reserve-over-limit", apool(limits={"devices": 4}, reserve={"devices": 5}), "reserve.devices must not exceed limits.devices"),
    ("policy-default", fpol(), None),
    ("policy-other-name", fpol("team"), "there is one FleetPolicy and its name is default"),
]


Create = Callable[[dict[str, Any]], "tuple[int, Any]"]


@pytest.fixture(scope="module")
def create(crds: Kubectl, apiserver: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Create]:
    """Strict dry-run creation over one kept connection, as kubectl does it: a process per case would cost more than the cases."""
    config = yaml.safe_load(apiserver.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    folder = tmp_path_factory.mktemp("client")

    def file(source: dict[str, str], field: str) -> str:
        if field in source:
            return source[field]
        path = folder / field
        path.write_bytes(base64.b64decode(source[f"{field}-data"]))
        path.chmod(0o600)
        return str(path)

    context = ssl.create_default_context(cafile=file(cluster, "certificate-authority"))
    context.load_cert_chain(file(user, "client-certificate"), file(user, "client-key"))
    connection = http.client.HTTPSConnection(cluster["server"].removeprefix("https://"), context=context, timeout=60)

    def call(value: dict[str, Any]) -> tuple[int, Any]:
        kind = BY_NAME[value["kind"]]
        scope = f"namespaces/{NAMESPACE}/" if kind.namespaced else ""
        path = f"/apis/{API_VERSION}/{scope}{kind.plural}?dryRun=All&fieldValidation=Strict"
        connection.request("POST", path, json.dumps(value), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    try:
        yield call
    finally:
        connection.close()


def created(create: Create, value: dict[str, Any]) -> Any:
    status, answer = create(value)
    assert status == 201, answer["message"]
    return answer["spec"]


@pytest.mark.parametrize(("value", "message"), [pytest.param(value, message, id=name) for name, value, message in CASES])
def test_rule(create: Create, value: dict[str, Any], message: str | None) -> None:
    """The object is accepted, or refused with exactly the words of its rule."""
    status, answer = create(value)
    if message is None:
        assert status == 201, answer["message"]
    else:
        assert status == 422
        assert message in answer["message"]


def test_every_rule_is_refused_once() -> None:
    """Each rule of the schemas has a refusing case here or is a rule about changes, which the tests below refuse."""

    def messages(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for rule in schema.get("x-kubernetes-validations", ()):
            yield rule["message"], rule["rule"]
        for child in [*schema.get("properties", {}).values(), *(schema[k] for k in ("items", "additionalProperties") if k in schema)]:
            yield from messages(child)

    from tools.gen_crds import root_schema

    refused = [message for _, _, message in CASES if message]
    for kind in KINDS:
        for message, rule in messages(root_schema(kind)):
            assert "oldSelf" in rule or any(word in message for word in refused), message


def test_defaults_appear(create: Create) -> None:
    """The seven lines are stored with the documented defaults, and no accuracy number among them."""
    spec = created(create, mdep())
    assert spec["workload"] == {"inputTokens": 1024, "outputTokens": 256}
    assert spec["slo"] == {"class": "Standard", "percentile": 95}
    assert spec["placement"] == {"objective": "Inherit", "sharing": "Exclusive"}
    assert spec["runtime"] == {"engine": "auto"}
    assert spec["accuracy"] == {"gate": "Inherit"}
    assert spec["rollout"] == {
        "approval": "Automatic",
        "steps": [100],
        "maxSurge": "25%",
        "maxUnavailable": 0,
        "allowDowntime": False,
        "autoRollback": True,
        "progressDeadline": "30m",
    }
    assert (spec["drainTimeout"], spec["priority"], spec["suspend"], spec["paused"]) == ("5m", 0, False, False)
    assert "replicas" not in spec


def test_policy_defaults_appear(create: Create) -> None:
    """A FleetPolicy with an empty spec gets the fleet's defaults; of the accuracy gate only words."""
    spec = created(create, fpol())
    assert spec["accuracy"] == {"overrides": "Any", "gate": "Required", "level": "Standard"}
    assert spec["stability"]["minSavingPercent"] == "5"
    assert [item["name"] for item in spec["scaling"]["classes"]] == ["Strict", "Standard", "Batch"]
    assert spec["solver"] == {"timeLimit": "10s", "relativeGap": "0.01"}


def test_null_is_dropped_and_defaulted(create: Create) -> None:
    """A shipped file may write null for an unknown quantity; a null in place of a default gets the default."""
    spec = created(create, hwp(bandwidthTBps=None))
    assert "bandwidthTBps" not in spec
    assert created(create, mdep(slo=None))["slo"]["class"] == "Standard"


def test_unknown_field_is_refused_under_strict_and_pruned_otherwise(crds: Kubectl, create: Create) -> None:
    """A typo is an error where validation is strict (kubectl's default), and never stored where it is not."""
    typo = mdep(replica=3)
    status, answer = create(typo)
    assert status == 400
    assert 'unknown field "spec.replica"' in answer["message"]
    loose = crds("create", "--validate=ignore", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(typo), check=True)
    assert "replica" not in json.loads(loose.stdout)["spec"]


def _apply(kubectl: Kubectl, value: dict[str, Any]) -> dict[str, Any]:
    done = kubectl("apply", "--server-side", "--force-conflicts", "-o", "json", "-f", "-", stdin=json.dumps(value), check=True)
    return dict(json.loads(done.stdout))


def _spec(kind: str) -> Any:
    """Every field of a spec, made to satisfy the rules."""
    spec = full_spec(kind)
    if kind == "ModelDeployment":
        spec["scaling"].update(mode="Advise", minReplicas=0, maxReplicas=4)
        spec["scaling"]["scaleToZero"]["idleAfter"] = "10m"
        spec["placement"]["excludeProfiles"] = ["other"]
        for runtime in (spec["runtime"], spec["variants"][0]["runtime"]):
            del runtime["parallelism"]["tensor"]
    if kind in ("ModelDeployment", "FleetPolicy"):
        del spec["accuracy"]["goldenSets"][0]["builtin"]
    return spec


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_is_read_back(crds: Kubectl, kind: Kind) -> None:
    """An object with every field of the models, status included, comes back whole: nothing that polyfleet writes is pruned."""
    name = "default" if kind.name == "FleetPolicy" else "every-field"
    value = wrap(kind, name, _spec(kind.name), NAMESPACE)
    where = ("-n", NAMESPACE) if kind.namespaced else ()
    try:
        stored = _apply(crds, value)
        assert stored["spec"] == value["spec"]
        status = full_status(kind.name)
        done = crds(
            "patch", kind.crd_name, name, *where, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}), "-o", "json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == status
        listed = crds("get", kind.short, name, *where, check=True).stdout.splitlines()[0].split()
        assert listed == ["NAME", *(column.name.upper() for column in kind.columns if not column.wide)]
    finally:
        crds("delete", kind.crd_name, name, *where, "--ignore-not-found")


def test_category_lists_all_kinds(crds: Kubectl) -> None:
    """`kubectl get polyfleet` knows all six kinds."""
    names = crds("api-resources", "--categories=polyfleet", "-o", "name", check=True).stdout.split()
    assert sorted(names) == sorted(kind.crd_name for kind in KINDS)


def test_scale_subresource(crds: Kubectl) -> None:
    """kubectl scale writes spec.replicas of a fixed size; in mode Auto the rule refuses the write in its own words."""
    fixed, auto = mdep(replicas=1), scaling()
    fixed["metadata"]["name"], auto["metadata"]["name"] = "fixed", "auto"
    try:
        _apply(crds, fixed)
        _apply(crds, auto)
        crds("scale", "modeldeployments.polyfleet.io/fixed", "-n", NAMESPACE, "--replicas=3", check=True)
        status = {"status": {"replicas": 2, "selector": "polyfleet.io/deployment=fixed"}}
        crds("patch", "mdep", "fixed", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps(status), check=True)
        path = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/modeldeployments/fixed/scale"
        scale = json.loads(crds("get", "--raw", path, check=True).stdout)
        assert scale["spec"] == {"replicas": 3}
        assert scale["status"] == {"replicas": 2, "selector": "polyfleet.io/deployment=fixed"}
        refused = crds("patch", "mdep", "auto", "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": {"replicas": 3}}))
        assert refused.returncode != 0
        assert BOTH in refused.stderr
    finally:
        crds("delete", "mdep", "fixed", "auto", "-n", NAMESPACE, "--ignore-not-found")


def _try_patch(kubectl: Kubectl, kind: str, name: str, spec: dict[str, Any], *where: str) -> str:
    """Standard error of the change, "" if it was accepted."""
    done = kubectl("patch", kind, name, *where, "--type=merge", "-p", json.dumps({"spec": spec}))
    return done.stderr if done.returncode else ""


PLAN = {
    "trigger": "LoadChanged",
    "inputsDigest": "sha256:0000",
    "assignments": [
        {"deployment": "llm/m", "pool": "p", "variant": "default", "engine": "vllm", "devicesPerReplica": 2, "replicas": 3}
    ],
    "approval": "Pending",
}  # fmt: skip


def test_plan_is_immutable_but_for_its_approval(crds: Kubectl) -> None:
    """What was proposed is what is applied: content cannot change or vanish, approval moves once, away from Pending."""
    try:
        _apply(crds, wrap(BY_NAME["PlacementPlan"], "plan-a", PLAN))
        changed = copy.deepcopy(PLAN["assignments"])
        assert isinstance(changed, list)
        changed[0]["replicas"] = 4
        for field, value in (("assignments", changed), ("trigger", "Manual"), ("inputsDigest", "sha256:1"), ("truncated", True)):
            assert f"{field} of a plan cannot change; only approval can" in _try_patch(crds, "pplan", "plan-a", {field: value}), field
        assert _try_patch(crds, "pplan", "plan-a", {"approval": "Approved"}) == ""
        for back in ("Pending", "Rejected"):
            assert "approval moves only away from Pending" in _try_patch(crds, "pplan", "plan-a", {"approval": back})
    finally:
        crds("delete", "pplan", "plan-a", "--ignore-not-found")


def test_plan_of_the_largest_size_is_accepted(crds: Kubectl) -> None:
    """2,000 node entries in one plan pass the rules within the server's cost limits, also on update."""
    plan = copy.deepcopy(PLAN)
    assert isinstance(plan["assignments"], list)
    plan["assignments"][0]["nodes"] = [{"name": f"node-{i:04}", "replicas": 1} for i in range(2000)]
    try:
        _apply(crds, wrap(BY_NAME["PlacementPlan"], "plan-large", plan))
        assert _try_patch(crds, "pplan", "plan-large", {"approval": "Approved"}) == ""
    finally:
        crds("delete", "pplan", "plan-large", "--ignore-not-found")


REPORT: dict[str, Any] = {
    "deployment": "m",
    "candidate": {"profile": "p", "variant": "default", "engine": "vllm"},
    "reference": {"profile": "r"},
    "fingerprint": {"profile": "p", "weights": "sha256:0000"},
    "policyDigest": "sha256:0000",
}


def test_report_is_immutable_but_for_the_override(crds: Kubectl) -> None:
    """A verdict holds for one fingerprint; a human may only add, change and remove the override, with a reason of 20 characters."""
    where = ("-n", NAMESPACE)
    try:
        _apply(crds, wrap(BY_NAME["AccuracyReport"], "report-a", REPORT, NAMESPACE))
        for field, value in (
            ("deployment", "n"),
            ("candidate", {"engine": "sglang"}),
            ("reference", {"profile": "s"}),
            ("fingerprint", {"driver": "1"}),
            ("policyDigest", "sha256:1"),
        ):
            refused = _try_patch(crds, "accr", "report-a", {field: value}, *where)
            assert f"{field} of a report cannot change; only override can" in refused, field
        override = {"verdict": "Promote", "by": "ana", "reason": "checked by hand on 200 prompts"}
        assert _try_patch(crds, "accr", "report-a", {"override": override}, *where) == ""
        assert "at least 20 chars" in _try_patch(crds, "accr", "report-a", {"override": {"reason": "ok"}}, *where)
        assert _try_patch(crds, "accr", "report-a", {"override": None}, *where) == ""
    finally:
        crds("delete", "accr", "report-a", *where, "--ignore-not-found")


def test_shipped_profiles_are_accepted_by_the_server(crds: Kubectl) -> None:
    """All shipped files pass the schema and the rules with strict field validation."""
    folder: Path = ROOT / "hwprofiles/shipped"
    crds("create", "--dry-run=server", "-f", str(folder), check=True)


def test_conditions_are_owned_one_by_one(crds: Kubectl) -> None:
    """Two field managers may each own one condition of a status without taking the other's away."""
    value = mdep(replicas=1)
    value["metadata"]["name"] = "two-writers"
    base = {"status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-11-24T10:00:00Z"}
    try:
        _apply(crds, value)
        for manager, kind in (("one", "Placed"), ("two", "Ready")):
            part = {k: value[k] for k in ("apiVersion", "kind", "metadata")} | {"status": {"conditions": [{"type": kind, **base}]}}
            crds(
                "apply",
                "--server-side",
                "--subresource=status",
                f"--field-manager={manager}",
                "-f",
                "-",
                stdin=json.dumps(part),
                check=True,
            )
        stored = json.loads(crds("get", "mdep", "two-writers", "-n", NAMESPACE, "-o", "json", check=True).stdout)
        assert [item["type"] for item in stored["status"]["conditions"]] == ["Placed", "Ready"]
    finally:
        crds("delete", "mdep", "two-writers", "-n", NAMESPACE, "--ignore-not-found")
