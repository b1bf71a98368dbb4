"""When a live object already says what we want: what the API server adds, drops or rewrites is no difference."""

from __future__ import annotations

from typing import Any

import pytest
from polyfleet.compare import covers, digest


@pytest.mark.parametrize(
    ("live", "want", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),  # the server added a default
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"a": None}, True),  # null means "not given"
        ({}, {"a": {}}, True),  # the server drops empty objects and lists where they mean nothing
        ({}, {"a": []}, True),
        ({}, {"a": {"b": ""}}, False),
        ({}, {"a": ""}, True),
        ({}, {"a": 0}, True),
        ({}, {"a": False}, True),
        ({"a": True}, {"a": False}, False),
        ({"a": 1}, {"a": True}, False),
        ({"limits": {"nvidia.com/gpu": "2"}}, {"limits": {"nvidia.com/gpu": 2}}, True),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, True),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1G"}}, False),
        ([{"name": "a", "added": 1}], [{"name": "a"}], True),
        ([{"name": "a"}, {"name": "b"}], [{"name": "a"}], False),
        (["a", "b"], ["b", "a"], False),  # order matters in a list of arguments
        ("8000", 8000, True),
        ("text", "other", False),
        ({"a": {"b": 1}}, {"a": "text"}, False),
        ({"a": "text"}, {"a": {"b": 1}}, False),
        ({"a": "text"}, {"a": ["text"]}, False),
    ],
)
def test_covers(live: Any, want: Any, same: bool) -> None:
    """Every wanted field must be there with that value; more may be there."""
    assert covers(live, want) is same


def test_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    """Equal JSON values have one digest; a changed value has another."""
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})
