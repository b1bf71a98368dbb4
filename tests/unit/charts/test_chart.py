"""The chart as files: its policy, the sandbox's own, and the operator's rights. helm itself runs in `make verify` and end to end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from polyfleet.activator.settings import load
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.clearance.sense import fault
from polyfleet.clearance.settings import CORE, golden, settings

from accuracy.policy import Policy, effective
from tools.chart_values import ChartValues
from tools.paths import ROOT

CHART = ROOT / "charts/polyfleet"
SEVEN_LINES = ModelDeploymentSpec.model_validate({"model": {"uri": "hf://Qwen/Qwen3-32B"}})


def values(*paths: Path) -> ChartValues:
    """As helm merges them: maps key by key, everything else as a whole."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merge(merged, yaml.safe_load(path.read_text()))
    return ChartValues.model_validate(merged)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merge(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in over.items()}
    return {**base, **both}


def policy_of(spec: FleetPolicySpec) -> Policy:
    assert fault(spec) == ""
    return effective(settings(spec, SEVEN_LINES))


def test_the_shipped_policy_requires_the_gate_and_works_without_a_named_reference() -> None:
    """Interface 3.7: gate Required, level Standard's numbers (alpha .01, rho 2 %, 600), the built-in set, self-consistency at first."""
    spec = values(CHART / "values.yaml").policy
    assert spec.accuracy.gate == "Required"
    policy = policy_of(spec)
    assert (policy.level, policy.alpha, policy.beta, policy.bad_prompt_rate, policy.max_prompts) == ("Standard", 0.01, 0.05, 0.02, 600)
    assert (policy.on_unavailable, policy.reference_profile) == ("SelfConsistency", "")
    assert golden(spec, SEVEN_LINES, "default") == (CORE,)


def test_the_sandbox_asks_few_prompts_and_no_wider_margins() -> None:
    """5 % at alpha .05 takes 68 clean prompts (accuracy/README.md); the margins are those of an undeclared pair."""
    spec = values(CHART / "values.yaml", ROOT / "sandbox/policy.yaml").policy
    policy = policy_of(spec)
    assert spec.accuracy.gate == "Required"
    assert (policy.level, policy.alpha, policy.bad_prompt_rate) == ("Quick", 0.05, 0.05)
    assert 68 <= policy.max_prompts <= 100
    assert policy.margins == Policy().margins


def _rules(text: str) -> list[dict[str, Any]]:
    """The list items of RBAC rules in a template, without what helm fills in."""
    plain = re.sub(r"\{\{-?.*?-?\}\}", "", text, flags=re.S)
    return [rule for document in plain.split("---") for rule in _lists(yaml.safe_load(document))]


def _lists(document: Any) -> list[dict[str, Any]]:
    found = document.get("rules") if isinstance(document, dict) else document
    return [rule for rule in found or [] if isinstance(rule, dict) and "verbs" in rule]


def test_the_operator_may_do_what_the_gate_needs_and_no_more() -> None:
    """ConfigMaps: golden sets are read, records and reports written; nothing is listed or deleted. Secrets: none."""
    text = (CHART / "templates/_helpers.tpl").read_text()
    block = re.search(r'define "polyfleet.namespacedRules" -\}\}\n(.*?)\{\{- end', text, re.S)
    assert block is not None
    rights = {(group, what): set(rule["verbs"]) for rule in _rules(block[1]) for group in rule["apiGroups"] for what in rule["resources"]}
    assert rights["", "configmaps"] == {"get", "create", "patch"}
    assert rights["polyfleet.io", "accuracyreports"] == {"list", "watch", "create", "patch", "delete"}
    assert rights["polyfleet.io", "accuracyreports/status"] == {"patch"}
    assert ("", "secrets") not in rights


def test_overriding_a_verdict_is_a_right_of_its_own() -> None:
    """Interface 3.9: rights on accuracyreports are granted apart from rights on models."""
    documents = (CHART / "templates/roles-users.yaml").read_text().split("---\n")
    writers = [d for d in documents if "accuracyreports" in d and "patch" in d]
    (one,) = writers
    assert "-accuracy-override" in one
    assert "aggregate-to" not in one
    assert "modeldeployments" not in one


def test_the_activators_limits_are_those_of_its_program() -> None:
    """As the chart's template hands them over."""
    shipped = values(CHART / "values.yaml").activator
    limits = shipped.limits
    given = {"HOLD": shipped.maxHoldSeconds, "REQUESTS": limits.requests, "MIB": limits.mebibytes, "BODY_MIB": limits.bodyMebibytes}
    given |= {"MODEL_REQUESTS": limits.modelRequests, "MODEL_MIB": limits.modelMebibytes}
    template = (CHART / "templates/activator.yaml").read_text()
    assert set(re.findall(r"POLYFLEET_ACTIVATOR_(\w+)", template)) == given.keys()
    assert load({f"POLYFLEET_ACTIVATOR_{name}": str(value) for name, value in given.items()}) == load({})
