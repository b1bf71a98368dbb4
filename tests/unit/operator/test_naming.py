"""Names and labels: legal for Kubernetes, stable, and never two things under one name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polyfleet import naming

DNS_1035 = re.compile(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")  # what a Service name must be
LABEL = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")
OBJECT_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?", fullmatch=True)


def test_short_names_stay_readable() -> None:
    """A name that is legal as it is is used as it is."""
    assert naming.service_name("smol") == "smol"
    assert naming.label_value("qwen3-32b") == "qwen3-32b"


@pytest.mark.parametrize("name", ["3b-model", "a.b", "x" * 64, "9"])
def test_illegal_service_names_become_legal(name: str) -> None:
    """An object name may begin with a digit, have dots and 253 characters; a Service name may not."""
    assert DNS_1035.match(naming.service_name(name))


def test_oc_087_long_names_with_a_common_prefix_stay_apart() -> None:
    """OC-087: two 100-character names that share 80 characters give different label values, and the annotation has the whole name."""
    one, two = "a" * 80 + "b" * 20, "a" * 80 + "c" * 20
    assert naming.label_value(one) != naming.label_value(two)
    assert naming.service_name(one) != naming.service_name(two)
    labels, annotations = naming.labels_and_annotations({naming.DEPLOYMENT: one})
    assert len(labels[naming.DEPLOYMENT]) <= 63
    assert annotations == {naming.DEPLOYMENT: one}


@given(OBJECT_NAMES)
def test_every_object_name_gives_legal_names(name: str) -> None:
    """Service and child names are DNS-1035 labels, label values are label values."""
    assert DNS_1035.match(naming.service_name(name))
    assert LABEL.match(naming.label_value(name))
    assert DNS_1035.match(naming.child_name(name, "pool", "default", "vllm", 8, "00000000", "11111111"))


BASE = ("smol", "h100-a", "default", "vllm", 2, "7f3a91c2", "00000000")
OTHERS = ("other", "h100-b", "w8a8", "sglang", 4, "90aa17c3", "11111111")


@pytest.mark.parametrize("part", range(7))
def test_every_part_of_a_childs_purpose_is_in_its_name(part: int) -> None:
    """Children that differ in any one thing have different names."""
    changed = [*BASE]
    changed[part] = OTHERS[part]
    assert naming.child_name(*BASE) != naming.child_name(*changed)  # type: ignore[arg-type]


def test_hashes_do_not_depend_on_the_order_of_keys() -> None:
    """The same value gives the same hash whatever order a dictionary was filled in; the value is eight hexadecimal digits."""
    assert naming.short_hash({"a": 1, "b": [2]}) == naming.short_hash({"b": [2], "a": 1})
    assert re.fullmatch(r"[0-9a-f]{8}", naming.short_hash("x"))
