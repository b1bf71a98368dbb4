"""Two writers of one size: told by name, and not fought (OC-044)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from polyfleet import parse
from polyfleet.decide import act, prepare, report
from polyfleet.scaling.conflicts import MOST, WINDOW_S, Conflicts
from polyfleet.state import DeploymentState, Observed, ScalerState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.forces import KEY, aimed, child_of, condition, force, scaled
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES, replace_size

MODEL = aimed(scaled(), 2)
CHILD = child_of(MODEL, "sandbox-ppu", 2)
THEIRS = ("llm", CHILD.name)


def hpa(name: str = "mine", target: tuple[str, str] = ("Deployment", CHILD.name), made_by: str = "", namespace: str = "llm") -> ScalerState:
    return ScalerState(namespace, name, f"uid-{name}", "1", target, made_by)


def seen(child: DeploymentState = CHILD, *scalers: ScalerState, pods: int = 2) -> Observed:
    mine = tuple(b.replica(child, f"p{i}", node="ppu-0", serving=True) for i in range(pods))
    found = b.observed(models=[MODEL], profiles=PROFILES, pools=POOLS, nodes=(H100, A3, PPU), deployments=(child,), pods=mine)
    return replace(found, scalers=scalers, scaling={KEY: force(2.0)})


def done(*given: ScalerState, child: DeploymentState = CHILD, pods: int = 2) -> Done:
    return cycle(seen(child, *given, pods=pods))


def test_an_hpa_on_a_child_is_named_in_the_cycle_that_sees_it() -> None:
    found = done(hpa())
    assert condition(found, "ScalingActive")[:2] == ("False", "ConflictingScaler")
    assert f"HorizontalPodAutoscaler mine scales Deployment {CHILD.name}" in condition(found, "ScalingActive")[2]
    assert [e.type for e in found.report.events if e.reason == "ConflictingScaler"] == ["Warning"]


def test_kedas_own_hpa_is_told_as_kedas() -> None:
    found = done(hpa("keda-hpa-mine", made_by="ScaledObject mine"))
    assert "keda-hpa-mine (ScaledObject mine)" in condition(found, "ScalingActive")[2]


@pytest.mark.parametrize(
    "other",
    [
        hpa(target=("StatefulSet", CHILD.name)),
        hpa(target=("ModelDeployment", "m")),
        hpa(target=("Deployment", "other")),
        hpa(namespace="elsewhere"),
    ],
)
def test_an_hpa_on_something_else_is_nothing_to_us(other: ScalerState) -> None:
    assert condition(done(other), "ScalingActive")[0] == "True"


@pytest.mark.parametrize("size", [1, 5])
def test_the_sizes_that_it_writes_are_kept_in_both_directions(size: int) -> None:
    """It lowered the child to one while both pods still stand, or raised it to five."""
    assert b.sizes(done(hpa(), child=replace_size(CHILD, size)).actions) == {CHILD.name: size}


def test_a_fixed_size_is_not_fought_for_either() -> None:
    model = b.model("m", {"replicas": 2})
    observed = replace(seen(replace_size(CHILD, 5), hpa()), model_deployments=(model,), scaling={})
    found = cycle(observed)
    assert b.sizes(found.actions) == {CHILD.name: 5}
    assert condition(found, "ScalingActive")[:2] == ("False", "ConflictingScaler")


def test_an_hpa_as_the_api_server_sends_it() -> None:
    metadata = {
        "name": "keda-hpa-x", "namespace": "llm", "uid": "u", "resourceVersion": "7",
        "ownerReferences": [{"kind": "ScaledObject", "name": "x", "uid": "o", "apiVersion": "keda.sh/v1alpha1"}],
    }  # fmt: skip
    raw = {"metadata": metadata, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "m-1"}}}
    assert parse.scaler(raw) == ScalerState("llm", "keda-hpa-x", "u", "7", ("Deployment", "m-1"), "ScaledObject x")
    assert parse.scaler({"metadata": {**metadata, "ownerReferences": None}}).target == ("", "")


# ---- somebody who leaves no object behind


def edits(conflicts: Conflicts, sizes: list[int], at: float, every: float = 10.0) -> str:
    """What is said after these sizes were found one after another, each of them repaired to two in between."""
    said = ""
    for number, size in enumerate(sizes):
        observed = seen(replace_size(CHILD, size))
        inputs = prepare(observed, now=b.NOW)
        said = conflicts.of(inputs.models[KEY], observed, at + number * every)
        conflicts.decided(observed, {THEIRS: 2}, {KEY}, inputs)
    return said


def test_one_edit_is_drift_and_the_third_is_another_scaler() -> None:
    conflicts = Conflicts()
    assert edits(conflicts, [2, 5], 0.0) == ""
    assert edits(conflicts, [2, 5, 2], 100.0) == ""
    said = edits(conflicts, [5], 200.0)
    assert f"{MOST} such edits" in said
    assert "was set to 5 replicas, 2 are wanted" in said


def test_edits_far_apart_are_drift_each() -> None:
    conflicts = Conflicts()
    for number in range(2 * MOST):
        assert edits(conflicts, [2, 5], number * WINDOW_S) == ""


def test_what_a_known_hpa_wrote_does_not_count_once_it_is_gone() -> None:
    conflicts = Conflicts()
    observed = seen(replace_size(CHILD, 5), hpa())
    inputs = prepare(observed, now=b.NOW)
    for number in range(2 * MOST):
        assert conflicts.of(inputs.models[KEY], observed, float(number)) == ""
        conflicts.decided(observed, {THEIRS: 2 + number % 2}, {KEY}, inputs)
    assert edits(conflicts, [2], 100.0) == ""


def test_a_failed_write_proves_no_edit() -> None:
    """Nobody knows which size the API server holds, so a size that differs is nobody's fault."""
    conflicts = Conflicts()
    for number in range(2 * MOST):
        observed = seen(replace_size(CHILD, 3 + number % 2))
        inputs = prepare(observed, now=b.NOW)
        assert conflicts.of(inputs.models[KEY], observed, float(number)) == ""
        conflicts.decided(observed, None, {KEY}, inputs)


def test_the_pure_stages_take_a_conflict_of_the_autoscalers_own_finding() -> None:
    observed = replace(seen(replace_size(CHILD, 4)), scaling={KEY: replace(force(2.0), conflict="somebody writes")})
    inputs = prepare(observed, now=b.NOW)
    from polyfleet.hold import hold_plan

    plan = hold_plan(inputs.snapshot, inputs.demand, "held")
    assert b.sizes(act(observed, inputs, plan, now=b.NOW)) == {CHILD.name: 4}
    (status,) = [item.status for item in report(observed, inputs, plan, now=b.NOW).statuses if item.kind == "ModelDeployment"]
    assert b.condition(status, "ScalingActive") == ("False", "ConflictingScaler", "somebody writes")
