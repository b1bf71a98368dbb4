"""One wrong object never stops the others: it is told why, it is held, and every other model goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polyfleet import naming, workloads
from polyfleet import prepare as stage
from polyfleet.actions import Refusal
from polyfleet.decide import act, prepare, report
from polyfleet.state import CustomState
from polyfleet.status import model

import placement
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import H100, POOLS, PPU, PROFILES, children, look

GOOD = b.model("good")


def beside_a_good_one(bad: CustomState) -> Done:
    return cycle(b.observed(models=[bad, GOOD], profiles=PROFILES, pools=POOLS, nodes=[H100, PPU]))


def assert_only_the_bad_one_is_held(done: Done, reason: str, *parts: str) -> None:
    status = done.status("ModelDeployment", "bad")
    word, told, message = b.condition(status, "Accepted")
    assert (word, told) == ("False", reason)
    for part in parts:
        assert part in message
    assert b.condition(status, "Ready")[:2] == ("False", reason)
    assert {m["metadata"]["labels"][naming.DEPLOYMENT] for m in b.applied(done.actions, "Deployment")} == {"good"}
    assert b.condition(done.status("ModelDeployment", "good"), "Accepted")[0] == "True"


# ---- podTemplate: the one open subtree

SPEC = "spec.podTemplate.spec"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "containers is a text": ({"containers": "engine"}, f"{SPEC}.containers: engine is not a list"),
    "containers is a mapping": ({"containers": {"name": "engine"}}, f"{SPEC}.containers"),
    "a container is a text": ({"containers": ["engine"]}, f"{SPEC}.containers[0]: engine is not a mapping"),
    "a name is a list": ({"containers": [{"name": ["engine"]}]}, f"{SPEC}.containers[0].name"),
    "a name is a mapping": ({"initContainers": [{"name": {}}]}, f"{SPEC}.initContainers[0].name"),
    "no name": ({"containers": [{"image": "i"}]}, "the engine's container is named engine"),
    "resources is a text": ({"containers": [{"name": "engine", "resources": "x"}]}, f"{SPEC}.containers[engine].resources: x"),
    "limits is a list": ({"containers": [{"name": "engine", "resources": {"limits": ["x"]}}]}, "resources.limits"),
    "env is a mapping": ({"containers": [{"name": "engine", "env": {"A": "1"}}]}, f"{SPEC}.containers[engine].env"),
    "env of texts": ({"containers": [{"name": "engine", "env": ["a"]}]}, f"{SPEC}.containers[engine].env[0]: a is not a mapping"),
    "volumes is a mapping": ({"volumes": {}}, f"{SPEC}.volumes"),
    "tolerations is a text": ({"tolerations": "all"}, f"{SPEC}.tolerations: all is not a list"),
    "a mount path is a number": (
        {"containers": [{"name": "engine", "volumeMounts": [{"mountPath": 1}]}]},
        "volumeMounts[0].mountPath: 1 is not a text",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_pod_template_of_the_wrong_shape(case: str) -> None:
    """Accepted=False names the field, the value and what it should be."""
    spec, part = WRONG[case]
    assert_only_the_bad_one_is_held(beside_a_good_one(b.model("bad", {"podTemplate": {"spec": spec}})), "PodTemplateInvalid", part)


def env(name: str, **value: Any) -> dict[str, Any]:
    return {"env": [{"name": name, **value}]}


def asks(part: str, name: str) -> dict[str, Any]:
    return {"resources": {part: {name: "1"}}}


DEVICES: dict[str, tuple[dict[str, Any], str]] = {
    "visible devices of the engine": ({"name": "engine", **env("CUDA_VISIBLE_DEVICES", value="0")}, "CUDA_VISIBLE_DEVICES"),
    "all devices for a sidecar": ({"name": "side", "image": "i", **env("NVIDIA_VISIBLE_DEVICES", value="all")}, "NVIDIA_VISIBLE_DEVICES"),
    "visible devices from a ConfigMap": (
        {"name": "engine", **env("ASCEND_VISIBLE_DEVICES", valueFrom={"configMapKeyRef": {"name": "c", "key": "k"}})},
        "ASCEND_VISIBLE_DEVICES",
    ),
    "a sidecar with a device": ({"name": "side", "image": "i", **asks("limits", b.H100)}, f"[side].resources.limits: {b.H100}"),
    "an engine with a device of another vendor": ({"name": "engine", **asks("requests", b.ASCEND)}, b.ASCEND),
    "another size by hand": ({"name": "engine", **asks("limits", b.PPU)}, "spec.runtime.parallelism"),
    "memory of a device": ({"name": "side", "image": "i", **asks("limits", "nvidia.com/gpumem")}, "nvidia.com/gpumem"),
    "a slice of a device": ({"name": "side", "image": "i", **asks("limits", "nvidia.com/mig-1g.10gb")}, "nvidia.com/mig-1g.10gb"),
}


@pytest.mark.parametrize("field", ["containers", "initContainers"])
@pytest.mark.parametrize("case", DEVICES)
def test_a_pod_holds_no_more_devices_than_the_plan_counted(case: str, field: str) -> None:
    """S1: neither ids by hand nor a second request get in by the escape hatch."""
    container, part = DEVICES[case]
    bad = b.model("bad", {"podTemplate": {"spec": {field: [container]}}})
    assert_only_the_bad_one_is_held(beside_a_good_one(bad), "PodTemplateInvalid", part)


def test_what_is_no_device_may_be_asked_for() -> None:
    """Memory, a network card, and the scheduler's own annotation of the visible devices."""
    own = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['huawei.com/Ascend910']"}}}
    engine = {"name": "engine", "resources": {"limits": {"memory": "8Gi", "rdma/hca": "1"}}, **env("ASCEND_VISIBLE_DEVICES", **own)}
    done = look(b.model("m", {"podTemplate": {"spec": {"containers": [engine]}}}))
    assert b.condition(done.status("ModelDeployment", "m"), "Accepted")[0] == "True"
    assert len(b.sizes(done.actions)) == 1


@pytest.mark.parametrize(("part", "key"), [("labels", naming.DRAINING), ("annotations", naming.PLANNED_NODE)])
def test_a_pod_template_does_not_say_where_a_pod_is(part: str, key: str) -> None:
    """Labels and annotations that mean a place or a state to the operator are its own."""
    bad = b.model("bad", {"podTemplate": {"metadata": {part: {key: "x"}}}})
    assert_only_the_bad_one_is_held(beside_a_good_one(bad), "PodTemplateInvalid", key)


KEYS = ["name", "a", "limits", "env", "mountPath"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "engine", "x", "1"]),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(KEYS), part, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "containers", "initContainers", "volumes", "tolerations", "hostAliases", "imagePullSecrets", "topologySpreadConstraints",
    "affinity", "securityContext", "nodeSelector", "unheardOf",
]  # fmt: skip
INSIDE = ["env", "envFrom", "ports", "resources", "volumeMounts", "args", "securityContext", "lifecycle"]
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["engine", "side"])}, optional=dict.fromkeys(INSIDE, JSON)), max_size=2
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3), CONTAINERS | JSON)
def test_no_pod_template_stops_the_fleet(spec: dict[str, Any], containers: Any) -> None:
    """Whatever stands in the open subtree: the other model is planned, and what is accepted asks for one device and no more."""
    bad = b.model("bad", {"podTemplate": {"spec": {"containers": containers, **spec}}})
    done = beside_a_good_one(bad)
    found = {m["metadata"]["labels"][naming.DEPLOYMENT]: m for m in b.applied(done.actions, "Deployment")}
    assert "good" in found
    view = done.inputs.models["llm/bad"]
    assert not view.failed, view.accepted
    if view.accepted is None:
        pod = found["bad"]["spec"]["template"]["spec"]
        assert pod["schedulingGates"] == [{"name": naming.GATE}]
        limits = [item.get("resources", {}).get("limits", {}) for item in pod["containers"]]
        assert sum(int(part.get(name, 0)) for part in limits for name in (b.H100, b.PPU)) == 1


# ---- a failure of the program itself


def test_a_defect_in_rendering_holds_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails while one model is looked at becomes its Accepted=False with the error's words."""
    whole = stage._render_all

    def broken(built: Any, parsed: Any, spec: Any, resolution: Any) -> Any:
        if parsed.name == "bad":
            raise RuntimeError("boom")
        return whole(built, parsed, spec, resolution)

    monkeypatch.setattr(stage, "_render_all", broken)
    done = beside_a_good_one(b.model("bad"))
    assert_only_the_bad_one_is_held(done, "InvalidSpec", "RuntimeError: boom", "other objects are not affected")
    assert done.report.summary["failed"] == 1


def test_a_defect_in_acting_or_reporting_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """No act of the one model, all acts of the other; `failed` tells `report`, which says it on the object."""
    whole = workloads.decide

    def broken(inputs: Any, plan: Any, view: Any, slots: Any, **more: Any) -> Any:
        if view.state.name == "bad":
            raise RuntimeError("boom")
        return whole(inputs, plan, view, slots, **more)

    monkeypatch.setattr(workloads, "decide", broken)
    done = beside_a_good_one(b.model("bad"))
    assert [(item.kind, item.name, item.status) for item in done.actions.failed] == [("ModelDeployment", "bad", 0)]
    assert {m["metadata"]["name"] for m in b.applied(done.actions, "Service")} == {"good"}
    told = report(done.observed, done.inputs, done.plan, now=b.NOW, refusals=done.actions.failed)
    status = next(item.status for item in told.statuses if item.name == "bad")
    assert b.condition(status, "Accepted")[:2] == ("False", "InvalidSpec")
    assert told.summary["failed"] == 1


def test_a_status_that_cannot_be_built_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told before stays, but Accepted says that the operator failed; the other model has its status."""
    whole = model.placements

    def broken(inputs: Any, plan: Any, view: Any, *rest: Any) -> Any:
        if view.state.name == "bad":
            raise RuntimeError("boom")
        return whole(inputs, plan, view, *rest)

    monkeypatch.setattr(model, "placements", broken)
    done = beside_a_good_one(b.model("bad", status={"readyReplicas": 2, "url": "http://bad"}))
    status = done.status("ModelDeployment", "bad")
    assert (status["readyReplicas"], b.condition(status, "Accepted")[:2]) == (2, ("False", "InvalidSpec"))
    assert b.condition(status, "Ready")[0] == "False"
    assert b.condition(done.status("ModelDeployment", "good"), "Accepted")[0] == "True"


# ---- what the API server refuses


def refused(*refusals: Refusal, **more: Any) -> dict[str, Any]:
    observed = b.observed(models=[b.model("m", more or None)], profiles=PROFILES, pools=POOLS, nodes=[PPU])
    inputs = prepare(observed)
    plan, _ = placement.plan(inputs.snapshot, inputs.demand)
    (name,) = b.sizes(act(observed, inputs, plan))
    given = [replace(item, name=name) if item.kind == "Deployment" else item for item in refusals]
    told = report(observed, inputs, plan, now=b.NOW, refusals=given)
    return dict(next(item.status for item in told.statuses if item.kind == "ModelDeployment"))


WORDS = 'Deployment.apps "m-x" is invalid: spec.template.spec.priority: Forbidden: must not be set'
TEMPLATE: dict[str, Any] = {"podTemplate": {"spec": {"priority": 7}}}


@pytest.mark.parametrize("code", [400, 422])
def test_a_refused_pod_template_is_not_accepted(code: int) -> None:
    """The dry run is the write itself: the server's words stand in Accepted, and in Ready."""
    status = refused(Refusal("Deployment", "llm", "", code, WORDS), **TEMPLATE)
    word, reason, message = b.condition(status, "Accepted")
    assert (word, reason) == ("False", "PodTemplateInvalid")
    assert WORDS in message
    assert b.condition(status, "Ready")[1] == "PodTemplateInvalid"
    assert b.condition(status, "Placed")[0] == "True"


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "Deployment"])
def test_a_refused_child_without_a_pod_template_is_an_invalid_spec(kind: str) -> None:
    """Nobody wrote a podTemplate, so it is not blamed."""
    status = refused(Refusal(kind, "llm", "m", 422, "no such thing"))
    assert b.condition(status, "Accepted")[:2] == ("False", "InvalidSpec")
    assert "no such thing" in b.condition(status, "Accepted")[2]


@pytest.mark.parametrize("kind", ["Service", "Deployment"])
def test_what_is_forbidden_is_no_fault_of_the_spec(kind: str) -> None:
    """Quota, Pod Security, a policy, rights: WorkloadsReady=False (AdmissionRejected) with the words."""
    status = refused(Refusal(kind, "llm", "m", 403, "exceeded quota: q1"))
    assert b.condition(status, "Accepted")[0] == "True"
    word, reason, message = b.condition(status, "WorkloadsReady")
    assert (word, reason) == ("False", "AdmissionRejected")
    assert "exceeded quota: q1" in message


def test_refusals_of_others_are_not_ours() -> None:
    """Another namespace, another name, another kind."""
    others = [
        Refusal("Service", "other", "m", 422, "x"),
        Refusal("Service", "llm", "n", 422, "x"),
        Refusal("Pod", "llm", "m", 422, "x"),
    ]
    assert refused(*others) == refused()


def test_long_words_are_shortened() -> None:
    """A condition is read in a terminal."""
    message = b.condition(refused(Refusal("Deployment", "llm", "", 422, "word " * 1000), **TEMPLATE), "Accepted")[2]
    assert len(message) < 600
    assert message.endswith('..."')


def test_a_pool_that_cannot_be_created_is_told_on_its_profile() -> None:
    """The pool has no object that could say it."""
    observed = b.observed(profiles=PROFILES, nodes=[PPU])
    done = cycle(observed)
    told = report(observed, done.inputs, done.plan, now=b.NOW, refusals=[Refusal("AcceleratorPool", "", "sandbox-ppu", 403, "no right")])
    statuses = {item.name: item.status for item in told.statuses if item.kind == "HardwareProfile"}
    assert "no right" in b.condition(statuses["sandbox-ppu"], "Discovered")[2]
    assert "no right" not in naming.canonical(statuses["sandbox-nvidia"])


def test_a_model_that_runs_keeps_running_while_its_new_pod_is_refused() -> None:
    """The new child is refused; the old replica serves, is not drained, and Promoted says that the new revision is not there."""
    old = children(b.model("m"))["sandbox-ppu"]
    pod = b.replica(old, "pod-1", node="ppu-0", serving=True)
    done = look(b.model("m", TEMPLATE), deployments=(old,), pods=(pod,))
    assert b.sizes(done.actions)[old.name] == 1
    assert [patch.kind for patch in done.actions.pod_patches] == []
    status = done.status("ModelDeployment", "m")
    assert b.condition(status, "Promoted")[:2] == ("False", "RolloutInProgress")
    assert b.condition(status, "Available")[0] == "True"
