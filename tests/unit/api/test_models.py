"""The models: the seven lines, defaults, nulls, spelling, types and their parsers."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.api import (
    API_VERSION,
    BY_NAME,
    KINDS,
    FleetPolicySpec,
    HardwareProfileSpec,
    ModelDeploymentSpec,
    ModelDeploymentStatus,
    ObjectError,
    conditions,
    parse_object,
)
from polyfleet.api.types import SchemaError, StatusModel, decimal, duration_seconds, format_decimal, quantity_bytes
from pydantic import ValidationError

ROOT = Path(__file__).parents[3]
SEVEN_LINES = {"model": {"uri": "hf://Qwen/Qwen3-32B"}}


def deployment(**fields: Any) -> dict[str, Any]:
    return {**SEVEN_LINES, **fields}


def test_seven_lines_get_the_documented_defaults() -> None:
    """The schema defaults of the shortest object are those that the interface lists."""
    spec = ModelDeploymentSpec.parse(SEVEN_LINES)
    assert (spec.workload.input_tokens, spec.workload.output_tokens) == (1024, 256)
    assert (spec.slo.class_, spec.slo.percentile) == ("Standard", 95)
    assert (spec.priority, spec.drain_timeout, spec.suspend, spec.paused) == (0, "5m", False, False)
    assert (spec.placement.objective, spec.placement.sharing) == ("Inherit", "Exclusive")
    assert spec.runtime.engine == "auto"
    assert spec.accuracy.gate == "Inherit"
    rollout = spec.rollout
    assert (rollout.approval, rollout.steps, rollout.max_surge, rollout.max_unavailable) == ("Automatic", (100,), "25%", 0)
    assert (rollout.allow_downtime, rollout.auto_rollback, rollout.progress_deadline) == (False, True, "30m")
    assert spec.replicas is None
    assert spec.scaling is None


def test_accuracy_numbers_have_no_default() -> None:
    """A default number would keep `level` from acting: in the policy only words are filled in."""
    accuracy = FleetPolicySpec().accuracy
    assert (accuracy.gate, accuracy.level, accuracy.overrides) == ("Required", "Standard", "Any")
    assert {k: v for k, v in accuracy.dump().items() if v not in ([], {})} == {"gate": "Required", "level": "Standard", "overrides": "Any"}


def test_null_is_absence() -> None:
    """A null in a file is dropped as the API server does it, and a default applies in its place."""
    assert ModelDeploymentSpec.parse(deployment(slo=None, replicas=None)) == ModelDeploymentSpec.parse(SEVEN_LINES)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": "2"}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"drainTimeout": "1d"}, "drainTimeout"),
        ({"placement": {"maxHourlyCost": 90}}, "maxHourlyCost"),
        ({"placement": {"maxHourlyCost": "-1"}}, "maxHourlyCost"),
        ({"placement": {"max_hourly_cost": "1"}}, "max_hourly_cost"),
        ({"model": {"uri": "https://x"}}, "model.uri"),
        ({"rollout": {"maxSurge": "101%"}}, "maxSurge"),
        ({"slo": {"class": "Gold"}}, "slo.class"),
        ({"accuracy": {"acknowledgeRisk": "short"}}, "acknowledgeRisk"),
    ],
)
def test_wrong_values_are_refused_with_their_field(fields: dict[str, Any], part: str) -> None:
    """Unknown fields, wrong types, floats for money, days as durations: the message names the field in the API's spelling."""
    with pytest.raises(ObjectError, match=re.escape(part)):
        parse_object({"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "m"}, "spec": deployment(**fields)})


def test_round_trip_keeps_the_api_spelling() -> None:
    """Units and keywords are spelled as the API spells them, both ways."""
    raw = {"slo": {"class": "Batch", "e2eLatency": "2s"}, "accuracy": {"noiseKL": "0.1", "topK": 20}}
    assert ModelDeploymentSpec.parse(deployment(**raw)).dump_set() == deployment(**raw)
    profile = yaml.safe_load((ROOT / "hwprofiles/shipped/huawei-910c-752.yaml").read_text())["spec"]
    assert HardwareProfileSpec.parse(profile).dump_set() == profile


def test_status_of_a_newer_version_is_readable() -> None:
    """The operator may meet a status that a newer version wrote; what it does not know is skipped."""
    assert ModelDeploymentStatus.parse({"replicas": 1, "fromTheFuture": 1}).replicas == 1
    assert issubclass(ModelDeploymentStatus, StatusModel)


def test_unknown_kind_names_the_known_ones() -> None:
    """An object of another project with the same kind is refused, with the list of ours."""
    with pytest.raises(ObjectError, match="AcceleratorPool, AccuracyReport, FleetPolicy"):
        parse_object({"apiVersion": "airunway.ai/v1", "kind": "ModelDeployment", "spec": {}})


@pytest.mark.parametrize(("text", "value"), [("64Gi", 64 * 2**30), ("46068Mi", 46068 * 2**20), ("1.5Ki", 1536), ("7", 7)])
def test_quantities(text: str, value: int) -> None:
    """Binary quantities become bytes."""
    assert quantity_bytes(text) == value


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("250ms", 0.25), ("1h30m", 5400), ("720h", 2_592_000)])
def test_durations(text: str, value: float) -> None:
    """Durations become seconds."""
    assert duration_seconds(text) == value


def test_decimals_are_exact() -> None:
    """Money is never a float: 2.20 stays 2.20."""
    assert decimal("2.20") * 3 == Decimal("6.60")
    assert format_decimal(61.2) == "61.20"
    assert format_decimal(Decimal("0.05"), 1) in ("0.0", "0.1")


@pytest.mark.parametrize(("parser", "bad"), [(quantity_bytes, "64GB"), (duration_seconds, "7d"), (duration_seconds, ""), (decimal, "1e3")])
def test_parsers_say_what_they_want(parser: Any, bad: str) -> None:
    """A value of the wrong form is an error with an example of the right one."""
    with pytest.raises(SchemaError, match="for example"):
        parser(bad)


def test_models_are_frozen() -> None:
    """No stage of a cycle can change what another one reads."""
    with pytest.raises(ValidationError):
        ModelDeploymentSpec.parse(SEVEN_LINES).replicas = 3


def test_names_of_the_kinds() -> None:
    """Kinds, plurals, short names and scopes are those of the interface."""
    assert [(k.name, k.plural, k.short, k.namespaced) for k in KINDS] == [
        ("ModelDeployment", "modeldeployments", "mdep", True),
        ("HardwareProfile", "hardwareprofiles", "hwp", False),
        ("AcceleratorPool", "acceleratorpools", "apool", False),
        ("FleetPolicy", "fleetpolicies", "fpol", False),
        ("PlacementPlan", "placementplans", "pplan", False),
        ("AccuracyReport", "accuracyreports", "accr", True),
    ]


def test_ready_rows_and_placed_reasons_keep_their_order() -> None:
    """Precedence is order: Ready takes the first row that is not True, shortfalls the first reason of Placed."""
    assert [row.value for row in conditions.MODEL_ROWS] == [
        "Accepted",
        "ProfilesResolved",
        "Placed",
        "WorkloadsReady",
        "HardwareVerified",
        "AccuracyVerified",
        "RouteReady",
    ]
    order = conditions.PLACED
    assert order.index("NeverFits") < order.index("BudgetExceeded") < order.index("DevicesUnavailable") < order.index("SolverTimeout")


def test_reasons_are_camel_case_and_unique() -> None:
    """Reasons and events are CamelCase words, each once in its table."""
    tables: list[tuple[str, ...]] = [*conditions.MODEL_REASONS.values(), *conditions.POOL_REASONS.values(), conditions.EVENTS]
    for words in tables:
        assert len(words) == len(set(words))
        assert all(re.fullmatch(r"[A-Z][A-Za-z]+", word) for word in words), words


def _documents() -> list[Any]:
    found: list[Any] = []
    for path in sorted([*(ROOT / "examples").rglob("*.yaml"), *(ROOT / "hwprofiles/shipped").glob("*.yaml")]):
        found += [(f"{path.name}", item) for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    for path in sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), ROOT / "README.md"]):
        for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M) if path.exists() else ():
            found += [(f"{path.name}", item) for item in yaml.safe_load_all(block)]
    ours = [(where, item) for where, item in found if isinstance(item, dict) and item.get("kind") in BY_NAME]
    return [pytest.param(item, id=f"{where}-{item['metadata']['name']}") for where, item in ours]


@pytest.mark.parametrize("document", _documents())
def test_published_yaml_parses(document: dict[str, Any]) -> None:
    """Every object of ours in examples, docs, the README and the shipped files fits its model."""
    parse_object(document)
