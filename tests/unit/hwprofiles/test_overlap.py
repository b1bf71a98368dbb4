"""Profiles that would fight over a node: found from the words of their match entries, by the matcher itself."""

from __future__ import annotations

from typing import Any

import pytest

from hwprofiles import HardwareProfileSpec, MatchReason, load_shipped, match_node
from hwprofiles.overlap import Overlap, overlaps

DEVICE = "example.com/dev"


def minimal(*match: dict[str, Any], resource: str = DEVICE, own: str = "") -> HardwareProfileSpec:
    return HardwareProfileSpec.parse(
        {
            "vendor": "v",
            "family": "f",
            "unit": {"kind": "card", "memory": "1Gi"},
            "resources": [{"name": name} for name in (resource, own) if name],
            "allocation": {"sizes": [1]},
            "match": list(match),
        }
    )


def test_the_shipped_profiles_do_not_overlap() -> None:
    assert overlaps(load_shipped()) == ()


@pytest.mark.parametrize(
    ("one", "two", "labels"),
    [
        ({"labels": {"p": ["A", "B"]}}, {"labels": {"p": ["B", "C"]}}, {"p": "B"}),
        ({"labels": {"p": ["A"], "q": ["1", "2"]}}, {"labels": {"p": ["A", "B"], "q": ["2"]}}, {"p": "A", "q": "2"}),
        ({"labelPatterns": {"p": "(A|B)"}}, {"labels": {"p": ["B"]}}, {"p": "B"}),
        ({"labelPatterns": {"p": r"X\.1|Y"}}, {"labelPatterns": {"p": r"Z|X\.1"}}, {"p": "X.1"}),
        ({"labelPatterns": {"p": "B.*"}}, {"labels": {"p": ["B-long"]}}, {"p": "B-long"}),
        ({"labels": {"p": ["A"]}}, {"labels": {"p": ["A"]}, "notLabels": {"q": []}}, {"p": "A"}),
        ({"labelPatterns": {"p": "X(-1|-2)?"}}, {"labelPatterns": {"p": "(X|Y)-(2|3)"}}, {"p": "X-2"}),
        ({"labelPatterns": {"p": "X(-SHARED|-MIG-.+)?"}}, {"labelPatterns": {"p": "X.*"}}, {"p": "X"}),
        # None of these:
        ({"labels": {"p": ["A"]}}, {"labels": {"p": ["B"]}}, None),
        ({"labels": {"p": ["A"]}}, {"labels": {"p": ["A"], "q": ["1"]}}, None),  # more specific
        ({"labels": {"p": ["A"]}}, {"labels": {"p": ["A"]}, "notLabels": {"p": ["A"]}}, None),  # never holds
        ({"labels": {"p": ["A"]}, "unitsPerNode": 8}, {"labels": {"p": ["A"]}, "unitsPerNode": 4}, None),  # told apart by the count
        ({"labelPatterns": {"p": "A+"}}, {"labelPatterns": {"p": "A*"}}, None),  # no word of either says a value
        ({"labelPatterns": {"p": "("}}, {"labels": {"p": ["A"]}}, None),
    ],
)
def test_by_hand(one: dict[str, Any], two: dict[str, Any], labels: dict[str, str] | None) -> None:
    """Whatever is reported is what the matcher says of such a node."""
    profiles = {"a": minimal({"labels": {"other": ["x"]}}, one), "b": minimal(two)}
    found = overlaps(profiles)
    assert found == ((Overlap(("a", "b"), (1, 0), tuple(sorted(labels.items())), DEVICE),) if labels is not None else ())
    if labels is not None:
        units = one.get("unitsPerNode", 1)
        assert match_node(profiles, labels, {DEVICE: units}).reason is MatchReason.AMBIGUOUS


def test_another_resource_tells_them_apart() -> None:
    """The node advertises what only one of them knows."""
    match = {"labels": {"p": ["A"]}}
    assert overlaps({"a": minimal(match), "b": minimal(match, resource="example.com/else")}) == ()


def test_a_shared_resource_is_no_overlap_where_each_has_one_of_its_own() -> None:
    """As with HAMi, whose nodes carry one label and the chip in the resource name; with one that has none, it loses its nodes."""
    match = {"labels": {"p": ["A"]}}
    assert overlaps({"a": minimal(match, own="example.com/a"), "b": minimal(match, own="example.com/b")}) == ()
    assert [found.resource for found in overlaps({"a": minimal(match, own="example.com/a"), "b": minimal(match)})] == [DEVICE]


def test_three_are_one_finding() -> None:
    match = {"labels": {"p": ["A"]}}
    (found,) = overlaps({name: minimal(match) for name in "abc"})
    assert found.profiles == ("a", "b", "c")
