"""The chart's installation: what frees a release that a killed helm left behind."""

from __future__ import annotations

import pytest

from sandbox import install


@pytest.mark.parametrize(
    ("status", "command"),
    [
        ("pending-install", "uninstall"),
        ("uninstalling", "uninstall"),
        ("pending-upgrade", "rollback"),
        ("pending-rollback", "rollback"),
        ("deployed", ""),
        ("failed", ""),  # helm upgrade goes on from a failed revision by itself
        ("", ""),
    ],
)
def test_only_an_unfinished_release_is_touched(status: str, command: str) -> None:
    """helm refuses to upgrade a release in a pending state: "another operation is in progress"."""
    found = install.remedy(status)
    assert (found[0] if found else "") == command
    assert not found or "polyfleet" in found
