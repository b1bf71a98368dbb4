"""Profiles drawn from the schema, and shipped ones with a value spoilt: nothing raises, or the error names the field."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polyfleet.api.kinds import BY_NAME
from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec, legal_sizes, match_node, validate
from hwprofiles.explain import explain
from hwprofiles.schema import SchemaError, quantity_bytes
from hwprofiles.shipped_profiles import load_objects, load_shipped, parse_profile, read_objects
from hwprofiles.trust import trusted
from tools.gen_crds import root_schema

TODAY = "2026-11-28"
RAW = load_objects()
SHIPPED = load_shipped()
HEAD = "apiVersion: polyfleet.io/v1alpha1\nkind: HardwareProfile\n"


def drawn(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit one node of the structural schema; lists and maps are short."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    kind = node.get("type")
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        low, high = node.get("minimum", 0), node.get("maximum", 10**6)
        return st.one_of(st.sampled_from([low, high]), st.integers(low, min(high, low + 20)))
    if kind == "string":
        longest = node.get("maxLength", 20)
        if "pattern" in node:
            return st.from_regex(node["pattern"], fullmatch=True).filter(lambda text: len(text) <= longest)
        return st.text(min_size=node.get("minLength", 0), max_size=min(longest, 12))
    if kind == "array":
        return st.lists(drawn(node["items"]), min_size=node.get("minItems", 0), max_size=max(2, node.get("minItems", 0)))
    if "additionalProperties" in node:
        # The server does not check the keys of a map; see test_a_bad_key_of_a_map_is_named for the others.
        return st.dictionaries(st.sampled_from(["bf16", "fp8", "vllm"]), drawn(node["additionalProperties"]), max_size=2)
    required = set(node.get("required", ()))
    fields = {name: drawn(child) for name, child in node["properties"].items()}
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in required},
        optional={name: value for name, value in fields.items() if name not in required},
    )


def known(raw: Any) -> Any:
    """Every second throughput entry is of a model whose shape is known, so that it is held against the roofline."""
    entries = raw.get("throughput", [])
    for index, entry in enumerate(entries[::2]):
        entry["model"] = MODELS[(index + len(entries)) % len(MODELS)]
    return raw


MODELS = ("Qwen/Qwen3-32B", "deepseek-ai/DeepSeek-R1", "HuggingFaceTB/SmolLM2-135M-Instruct")
SPECS = drawn(root_schema(BY_NAME["HardwareProfile"])["properties"]["spec"]).map(known)
# Without shrinking: a failing profile is printed whole, and shrinking one takes minutes.
FAST = (Phase.explicit, Phase.reuse, Phase.generate)
SLOW = settings(max_examples=50, deadline=None, phases=FAST, suppress_health_check=list(HealthCheck))


def parsed(raw: Any) -> HardwareProfileSpec | None:
    """The spec, or None where it is refused; a refusal must name a field."""
    try:
        return HardwareProfileSpec.parse(raw)
    except ValidationError as error:
        sentences = explain(error, "spec")
        assert sentences
        assert all(sentence.startswith("spec") and ": " in sentence for sentence in sentences)
        return None


def used(specs: dict[str, HardwareProfileSpec]) -> None:
    """Everything that the operator does with profiles that it could parse."""
    for spec in specs.values():
        for finding in validate(spec, today=TODAY):
            assert finding.field
            assert finding.message
        for scheduler in ("default", "volcano", "hami"):
            assert all(size >= 1 for size in legal_sizes(spec, scheduler))
        labels = {key: values[0] for entry in spec.match for key, values in (entry.labels or {}).items() if values}
        match_node(specs, labels, {alias.name: 8 for alias in spec.resources})
    once = trusted(specs, today=TODAY)
    assert set(once.specs) == set(specs)
    assert list(once.faults) == sorted(once.faults)
    # What is left has nothing more to leave out; only what cannot be taken out is named again.
    again = trusted(once.specs, today=TODAY)
    left = [fault for fault in again.faults if fault.ignored and not fault.field.startswith(("match[", "provenance["))]
    assert not left
    assert again.specs == once.specs


@SLOW
@given(SPECS, SPECS)
def test_a_drawn_profile_is_used_or_refused_by_field(one: Any, two: Any) -> None:
    """What the schema allows parses, survives a round trip unchanged, and never makes validation, trust or matching raise."""
    specs = {name: spec for name, raw in (("a", one), ("b", two)) if (spec := parsed(raw)) is not None}
    assert len(specs) == 2, "the schema of the API server and the model disagree"
    for spec in specs.values():
        assert HardwareProfileSpec.parse(spec.dump()) == spec
        assert HardwareProfileSpec.parse(spec.dump_set()) == spec
    used(specs)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


LEAVES = [(name, path) for name in sorted(RAW) for path in leaves(RAW[name]["spec"])]
SPOILT: list[Any] = [
    2.2, -1, "-1", math.nan, math.inf, "64GB", "64G", "1Ei", "1e3", "0x10", "１２", "", " ", True, None, {}, [], {"a": None}, [None],
    10**30, "2026-13-45", "2999-01-01", "0", "999999999999", "a" * 5000, "\x00", b"x", ["a", {"b": [None, {}]}],
]  # fmt: skip


@settings(max_examples=200, deadline=None, phases=FAST)
@given(st.sampled_from(LEAVES), st.sampled_from(SPOILT))
def test_a_spoilt_value_is_used_or_refused_by_field(where: tuple[str, tuple[Any, ...]], value: Any) -> None:
    """One leaf of a shipped profile replaced: the rest still stands, or the error names this leaf or what holds it."""
    name, path = where
    raw = copy.deepcopy(RAW[name]["spec"])
    target: Any = raw
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    try:
        spec = HardwareProfileSpec.parse(raw)
    except ValidationError as error:
        field = "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
        named = [sentence.partition(": ")[0] for sentence in explain(error, "spec")]
        assert any(field.startswith(part) or part.startswith(field) for part in named), (field, named)
        return
    used({**SHIPPED, name: spec})


def source(**change: str) -> dict[str, Any]:
    return {"provenance": [{"fields": ["unit"], "evidence": "Published", "source": "s", "date": "2026-11", **change}]}


@pytest.mark.parametrize(
    ("change", "field", "part"),
    [
        ({"cost": {"perDeviceHour": 2.2}}, "spec.cost.perDeviceHour", 'write it in quotes: "2.2"'),
        ({"cost": {"perDeviceHour": "-1"}}, "spec.cost.perDeviceHour", "non-negative decimal"),
        ({"cost": {"perDeviceHour": math.nan}}, "spec.cost.perDeviceHour", "left out"),
        ({"cost": {"perDeviceHour": "2,20"}}, "spec.cost.perDeviceHour", "2,20"),
        ({"cost": {"perDeviceHour": "1", "currency": "dollars"}}, "spec.cost.currency", "dollars"),
        ({"unit": {"kind": "card", "memory": "64GB"}}, "spec.unit.memory", "64Gi"),
        ({"unit": {"kind": "card", "memory": "1Ei"}}, "spec.unit.memory", "not Ei"),
        ({"unit": {"kind": "card", "memory": 68719476736}}, "spec.unit.memory", "string"),
        ({"unit": {"kind": "card", "memory": "4000m"}}, "spec.unit.memory", "4000m"),
        ({"unit": {"kind": "gpu", "memory": "64Gi"}}, "spec.unit.kind", "'card', 'die' or 'slice'"),
        ({"allocation": {"sizes": [1.5]}}, "spec.allocation.sizes[0]", "integer"),
        ({"allocation": {"sizes": [0]}}, "spec.allocation.sizes[0]", "greater than or equal to 1"),
        ({"allocation": {"sizes": ["2"]}}, "spec.allocation.sizes[0]", "integer"),
        ({"bandwidthTBps": 1.6}, "spec.bandwidthTBps", "1.6"),
        ({"bandwidthTbps": "1.6"}, "spec.bandwidthTbps", "unknown field"),
        (source(evidence="Guessed", source="s", date="2026-11"), "spec.provenance[0].evidence", "Measured"),
        (source(evidence="Published", source="s", date="11/2026"), "spec.provenance[0].date", "YYYY-MM"),
        (source(evidence="Published", source="", date="2026-11"), "spec.provenance[0].source", "at least 1"),
        ({"match": [{"labels": {"a": [None]}}]}, "spec.match[0].labels.a[0]", "string"),
        ({"unit": None}, "spec.unit", "missing"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_field_and_form(change: dict[str, Any], field: str, part: str) -> None:
    """Prices as floats, wrong and huge units, negative and not-a-number, unknown words: field, value and what is allowed (OC-086)."""
    with pytest.raises(SchemaError) as error:
        parse_profile("p", {"spec": {**RAW["nvidia-h100-sxm"]["spec"], **change}})
    text = str(error.value)
    assert text.startswith("HardwareProfile p: ")
    assert f"{field}: " in text
    assert part in text


@pytest.mark.parametrize(
    "text", ["1Ei", "4000m", "4k", "64G", "64GB", "64gi", "1e3Gi", "-1Gi", "+1Gi", "", " 64Gi", "64 Gi", "NaN", "inf", "1.0000Gi", "٣Gi"]
)
def test_memory_in_other_units_is_refused(text: str) -> None:
    """No factor of a thousand in either direction: what is not a binary quantity is no quantity (OC-085, OC-086)."""
    with pytest.raises(SchemaError, match="64Gi"):
        quantity_bytes(text)


def test_memory_by_value() -> None:
    """The same memory in three spellings, and the largest that the pattern allows: positive and exact, far above any node."""
    assert quantity_bytes("64Gi") == quantity_bytes("65536Mi") == quantity_bytes("68719476736") == 64 << 30
    assert quantity_bytes("46068Mi") == 48_305_799_168
    assert quantity_bytes("999999999999Ti") == 999_999_999_999 << 40 > 1 << 60


def profile(name: str) -> str:
    spec = "{vendor: v, family: f, unit: {kind: card, memory: 1Gi}, resources: [{name: a.example/b}], allocation: {sizes: [1]}}"
    return f"{HEAD}metadata: {{name: {name}}}\nspec: {spec}\n"


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ([("a.yaml", profile("p")), ("b.yaml", profile("p"))], ["b.yaml", "p is defined twice", "a.yaml"]),
        ([("a.yaml", profile("p") + "---\n" + profile("p"))], ["a.yaml", "p is defined twice"]),
        ([("a.yaml", f"{HEAD}metadata: {{name: p}}\nspec: {{vendor: v}}\nspec: {{vendor: w}}\n")], ["a.yaml", "'spec' is given twice"]),
        ([("a.yaml", f"{HEAD}metadata: {{name: p, name: q}}\n")], ["a.yaml", "'name' is given twice"]),
        ([("a.yaml", f"{HEAD}metadata: {{name: 7}}\n")], ["a.yaml", "metadata.name"]),
        ([("a.yaml", f"{HEAD}metadata: p\n")], ["a.yaml", "metadata.name"]),
        ([("a.yaml", "- 1\n")], ["a.yaml", "HardwareProfile"]),
        ([("a.yaml", "a: 2026-13-45\n")], ["a.yaml"]),
        ([("a.yaml", "a: !!python/object/apply:os.getcwd []\n")], ["a.yaml", "not YAML"]),
        ([("a.yaml", "a: \x00\n")], ["a.yaml", "not YAML"]),
    ],
)  # fmt: skip
def test_bad_folders_are_refused_by_file(files: list[tuple[str, str]], parts: list[str]) -> None:
    """Two profiles of one name, a key twice, no name, something else: the file is named, and nothing of the folder is used."""
    with pytest.raises(SchemaError) as error:
        read_objects(files)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize("date", ["2026-11-24", "2026-11"])
def test_an_unquoted_date_is_the_text_that_it_looks_like(date: str) -> None:
    """kubectl takes it so, and so does a profile of a file; one that no calendar has is refused by its field."""
    more = "sizes: [1]}, provenance: [{fields: [unit], evidence: Published, source: s, date: DATE}]"
    text = profile("p").replace("sizes: [1]}", more)
    assert parse_profile("p", read_objects([("a.yaml", text.replace("DATE", date))])["p"]).provenance[0].date == date
    with pytest.raises(SchemaError, match=r"spec.provenance\[0\].date: .*2026-13-45"):
        parse_profile("p", read_objects([("a.yaml", text.replace("DATE", "2026-13-45"))])["p"])


@pytest.mark.parametrize(
    ("block", "key"),
    [("peakTflops", "b f16"), ("engines", "v/llm"), ("dtypes", "-"), ("derate", ""), ("dtypes", "é"), ("engines", "a" * 64)],
)
def test_a_bad_key_of_a_map_is_named(block: str, key: str) -> None:
    """The API server does not check the keys of a map, so our own reading does, and says which."""
    value: Any = {"peakTflops": "1", "engines": {}, "derate": {}, "dtypes": "Native"}[block]
    with pytest.raises(SchemaError, match=f"spec.{block}"):
        parse_profile("p", {"spec": {**RAW["nvidia-h100-sxm"]["spec"], block: {key: value}}})
