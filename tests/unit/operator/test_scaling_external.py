"""The objects with which KEDA or an HPA follows polyfleet's number, and the command that prints them.

Field names and the meaning of each are KEDA's (keda.sh/v1alpha1, `fallback.behavior`, `ignoreNullValues`) and autoscaling/v2's.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.api import ModelDeploymentSpec
from polyfleet.cli.program import call
from polyfleet.scaling import external


def spec(**scaling: Any) -> ModelDeploymentSpec:
    given = {"minReplicas": 2, "maxReplicas": 16, "mode": "External", **scaling}
    return ModelDeploymentSpec.model_validate({"model": {"uri": "hf://polyfleet/byte-tiny"}, "replicas": 2, "scaling": given})


def test_a_scaled_object_takes_a_missing_number_for_an_error_and_never_for_zero() -> None:
    found = external.keda("llm", "m", spec(), "http://prom:9090")
    assert (found["apiVersion"], found["kind"], found["metadata"]) == (
        "keda.sh/v1alpha1",
        "ScaledObject",
        {"name": "m", "namespace": "llm"},
    )
    body = found["spec"]
    assert body["scaleTargetRef"] == {"apiVersion": "polyfleet.io/v1alpha1", "kind": "ModelDeployment", "name": "m"}
    assert (body["minReplicaCount"], body["maxReplicaCount"]) == (2, 16)
    assert body["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}
    (trigger,) = body["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metricType"] == "AverageValue"  # KEDA's fallback works with this kind only
    assert trigger["metadata"] == {
        "serverAddress": "http://prom:9090",
        "query": 'max(polyfleet_desired_replicas{namespace="llm",model="m"})',
        "threshold": "1",
        "ignoreNullValues": "false",
    }


def test_the_models_own_fallback_is_handed_on() -> None:
    found = external.keda("llm", "m", spec(fallback={"replicas": 5, "failureThreshold": 7, "behavior": "Static"}))
    assert found["spec"]["fallback"] == {"failureThreshold": 7, "replicas": 5, "behavior": "static"}


def test_an_hpa_asks_for_the_number_itself_without_tolerance() -> None:
    body = external.hpa("llm", "m", spec())["spec"]
    (metric,) = body["metrics"]
    assert metric["external"]["metric"] == {
        "name": "polyfleet_desired_replicas",
        "selector": {"matchLabels": {"namespace": "llm", "model": "m"}},
    }
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    # The controller leaves the size alone within 10 % by default: 20 would never become 21.
    assert {side: rules["tolerance"] for side, rules in body["behavior"].items()} == {"scaleUp": "0", "scaleDown": "0"}
    assert {rules["stabilizationWindowSeconds"] for rules in body["behavior"].values()} == {0}


def test_an_hpa_does_not_go_to_zero_and_a_scaled_object_does() -> None:
    sleeping = spec(minReplicas=0, scaleToZero={})
    assert external.hpa("llm", "m", sleeping)["spec"]["minReplicas"] == 1
    assert external.keda("llm", "m", sleeping)["spec"]["minReplicaCount"] == 0
    assert external.keda("llm", "m", sleeping)["spec"]["fallback"]["replicas"] == 1


# ---- the command


def ask(tmp_path: Path, scaling: dict[str, Any] | None, *arguments: str) -> tuple[int, str, str]:
    body: dict[str, Any] = {"model": {"uri": "hf://Qwen/Qwen3-32B"}, "replicas": 2}
    if scaling is not None:
        body["scaling"] = scaling
    manifest = {
        "apiVersion": "polyfleet.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "mine", "namespace": "llm"},
        "spec": body,
    }
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    code = call(["scaler", "mdep/mine", *arguments, "--snapshot", "demo", "-f", str(path)], out, err)
    return code, out.getvalue(), err.getvalue()


OUTSIDE = {"minReplicas": 2, "maxReplicas": 16, "mode": "External"}


@pytest.mark.parametrize(("kind", "made"), [("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")])
def test_the_command_prints_one_object_and_nothing_else(tmp_path: Path, kind: str, made: str) -> None:
    code, out, err = ask(tmp_path, OUTSIDE, "--kind", kind)
    assert code == 0, err
    found = yaml.safe_load(out)
    assert (found["kind"], found["metadata"]["name"]) == (made, "mine")


def test_the_command_names_the_prometheus_it_was_given(tmp_path: Path) -> None:
    _, out, err = ask(tmp_path, OUTSIDE, "--kind", "keda", "--prometheus", "http://mine:9090")
    assert yaml.safe_load(out)["spec"]["triggers"][0]["metadata"]["serverAddress"] == "http://mine:9090"
    assert err == ""


@pytest.mark.parametrize("scaling", [None, {"minReplicas": 1, "maxReplicas": 4, "mode": "Advise"}])
def test_a_model_that_nobody_else_scales_gets_no_scaler(tmp_path: Path, scaling: dict[str, Any] | None) -> None:
    code, out, err = ask(tmp_path, scaling, "--kind", "keda")
    assert (code, out) == (1, "")
    assert "External" in err
    assert "edit mdep mine" in err


def test_prometheus_and_an_hpa_do_not_go_together(tmp_path: Path) -> None:
    code, _, err = ask(tmp_path, OUTSIDE, "--kind", "hpa", "--prometheus", "http://mine:9090")
    assert code == 64
    assert "--prometheus" in err
