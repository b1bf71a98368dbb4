"""The generated CRDs: sizes, determinism, and the traps of generating a structural schema."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from polyfleet.api import BY_NAME, KINDS, Kind

from tests.unit.api.samples import full_status
from tools import gen_crds, gen_reference
from tools.paths import ROOT

Schema = dict[str, Any]


def nodes(schema: Schema, where: str) -> Iterator[tuple[str, Schema]]:
    yield where, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{where}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{where}.{key}")


@cache
def all_nodes() -> list[tuple[str, Schema]]:
    return [item for kind in KINDS for item in nodes(gen_crds.root_schema(kind), kind.name)]


def test_sizes_stay_small() -> None:
    """All six fit 128 KB of compact JSON and each 64 KB: client-side apply and Helm releases can carry them."""
    sizes = gen_crds.sizes()
    assert len(sizes) == 6
    assert sum(sizes.values()) <= 131_072
    assert max(sizes.values()) <= 65_536


def test_stored_files_are_the_generated_ones() -> None:
    """crds/ and docs/reference are what the models say (make gen)."""
    for name, text in gen_crds.generate().items():
        assert (ROOT / "crds" / name).read_text(encoding="utf-8") == text, f"{name}: run make gen"
    for name, text in gen_reference.generate().items():
        assert (ROOT / "docs/reference" / name).read_text(encoding="utf-8") == text, f"{name}: run make gen"


def test_another_hash_seed_gives_the_same_bytes() -> None:
    """A fresh interpreter with another hash seed writes the same bytes: no set order leaks into the output."""
    program = (
        "import hashlib; from tools import gen_crds; print(hashlib.sha256(''.join(gen_crds.generate().values()).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}, cwd=ROOT,
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1


def test_no_null_and_no_union_is_left() -> None:
    """No nullable, null default, anyOf, reference or title remains, and no object has both properties and additionalProperties."""
    for where, node in all_nodes():
        assert not {"nullable", "anyOf", "allOf", "$ref", "title", "const", "patternProperties", "propertyNames"} & set(node), where
        assert node.get("default", 0) is not None, where
        assert not ("properties" in node and "additionalProperties" in node), where


def test_everything_is_bounded() -> None:
    """Every string and list has an upper bound: the API server refuses rules of unbounded cost."""
    for where, node in all_nodes():
        if where.count(".") < 2 or (".metadata" in where and where.endswith((".metadata.name",))):
            continue
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, where
        if node.get("type") == "array":
            assert "maxItems" in node, where
        if "additionalProperties" in node:
            assert "maxProperties" in node, where


def test_numbers_are_never_floats() -> None:
    """Money, rates and ratios are decimal strings."""
    assert {node.get("type") for _, node in all_nodes()} == {"object", "array", "string", "integer", "boolean", None}


def test_only_the_pod_template_is_open() -> None:
    """podTemplate.spec is the only subtree that the schema does not know."""
    assert [where for where, node in all_nodes() if node.get("x-kubernetes-preserve-unknown-fields")] == [
        "ModelDeployment.spec.podTemplate.spec"
    ]


def test_parents_of_defaults_have_a_default() -> None:
    """A default below an object that is not required and has no default of its own would never apply: such parents say {}."""
    spec = gen_crds.root_schema(BY_NAME["ModelDeployment"])["properties"]["spec"]["properties"]
    for name in ("workload", "slo", "placement", "runtime", "accuracy", "rollout"):
        assert spec[name]["default"] == {}, name
    policy = gen_crds.root_schema(BY_NAME["FleetPolicy"])["properties"]["spec"]
    assert policy["default"] == {}
    assert policy["properties"]["accuracy"]["default"] == {}


def test_conditions_merge_by_type() -> None:
    """Conditions are a list map, so server-side apply owns single conditions."""
    for kind in KINDS:
        node = gen_crds.root_schema(kind)["properties"]["status"]["properties"]["conditions"]
        assert node["x-kubernetes-list-type"] == "map"
        assert node["x-kubernetes-list-map-keys"] == ["type"]
        assert {"type", "status", "reason", "message", "lastTransitionTime"} == set(node["items"]["required"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_columns_and_names(kind: Kind) -> None:
    """Each CRD has its short name, the category and a status subresource, Age as the last normal column; only mdep scales."""
    spec = gen_crds.crd(kind)["spec"]
    version = spec["versions"][0]
    assert spec["names"]["categories"] == ["polyfleet"]
    assert spec["names"]["shortNames"] == [kind.short]
    assert version["subresources"]["status"] == {}
    assert ("scale" in version["subresources"]) == (kind.name == "ModelDeployment")
    assert [column["name"] for column in version["additionalPrinterColumns"] if "priority" not in column][-1] == "Age"


def test_every_public_field_is_described() -> None:
    """Each field of a spec and a status has words for the reference docs."""
    for where, node in all_nodes():
        last = where.rsplit(".", 1)[-1]
        if where.count(".") >= 2 and last not in ("items", "additionalProperties") and not where.endswith("metadata.name"):
            assert node.get("description"), where


def test_interface_status_fields_exist() -> None:
    """The fields that the interface shows in status are in the schema, candidates and weights included."""
    status = full_status("ModelDeployment")
    assert {"pool", "profile", "variant", "replicas", "readyReplicas", "candidates", "devicesPerReplica", "tokensPerSecond",
            "hourlyCost", "weightPercent", "evidence", "reason"} <= set(status["placements"][0])  # fmt: skip
    assert {"replicas", "queuePosition", "reasons"} == set(status["shortfall"])
    pool = full_status("AcceleratorPool")
    assert {"capacity", "allocatable", "used", "free", "largestFree", "withdrawn", "stranded", "reserved"} == set(pool["devices"])


def test_yaml_reads_back_equal() -> None:
    """The YAML text says what the object says; words such as `None` and `y` stay strings."""
    for kind, text in zip(KINDS, gen_crds.generate().values(), strict=True):
        assert yaml.safe_load(text) == gen_crds.crd(kind)
