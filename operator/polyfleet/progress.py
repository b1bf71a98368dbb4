"""Revisions that make no progress, as values: what was found now, and what `status.rolledBack` keeps of it.

A revision that was given up is written into the status before anything of it is taken away, so that a restarted operator does not try it
again. The entry lasts as long as that revision is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyfleet.state import CustomState

MOST = 16  # entries that a status keeps
DEADLINE = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A wanted revision of one profile that is not tried again."""

    profile: str
    variant: str
    revision: str
    reason: str  # why it was given up, in words
    at: str  # RFC 3339

    def row(self) -> Mapping[str, str]:
        return {"profile": self.profile, "variant": self.variant, "revision": self.revision, "reason": self.reason, "at": self.at}


@dataclass(frozen=True, slots=True)
class Late:
    """Replicas of a wanted revision that do not come up; `due`: when that is too long, RFC 3339."""

    profile: str
    variant: str
    revision: str
    due: str
    over: bool  # it is too long
    text: str  # what the youngest of them says of itself


def stored(state: CustomState) -> tuple[RolledBack, ...]:
    """Of one ModelDeployment. A row that cannot be read is none."""
    rows = (row for row in state.status.get("rolledBack") or () if isinstance(row, Mapping))
    found = (RolledBack(*(str(row.get(name) or "") for name in ("profile", "variant", "revision", "reason", "at"))) for row in rows)
    return tuple(item for item in found if item.profile and item.revision)
