"""PlacementPlan objects as they are in the cluster: their order, which is in force, what to call the next one, which may go.

An object without our annotation was not written by the operator; it is never acted on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from polyfleet import naming
from polyfleet.plans import entries
from polyfleet.plans.entries import Entry
from polyfleet.state import CustomState

HISTORY = 20
DIGEST = f"{naming.GROUP}/assignments-digest"
_NAME = re.compile(r"pplan-([0-9]{6,})")

PROPOSED, APPLYING, APPLIED, SUPERSEDED, REJECTED, ABANDONED = (
    "Proposed", "Applying", "Applied", "Superseded", "Rejected", "Abandoned",
)  # fmt: skip
NOT_NEEDED, PENDING, APPROVED = "NotNeeded", "Pending", "Approved"
CONDITION = "Applied"
BEGUN_REASONS = ("InProgress", "PartRefused")


@dataclass(frozen=True, slots=True)
class Stored:
    state: CustomState
    number: int
    approval: str
    phase: str  # status.state; Proposed while there is no status yet
    digest: str
    inputs: str
    entries: tuple[Entry, ...]
    truncated: bool

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def condition(self) -> tuple[str, str, str]:
        """(status, reason, lastTransitionTime) of the condition Applied."""
        rows = self.state.status.get("conditions") or ()
        row: Mapping[str, Any] = next((item for item in rows if item.get("type") == CONDITION), {})
        return str(row.get("status") or ""), str(row.get("reason") or ""), str(row.get("lastTransitionTime") or "")

    @property
    def begun(self) -> bool:
        """Something of it was done, whatever became of it since."""
        status, reason, _ = self.condition
        return self.phase in (APPLYING, APPLIED) or status == "True" or reason in BEGUN_REASONS

    @property
    def moves(self) -> int:
        return int((self.state.status.get("changes") or {}).get("move") or 0)


def number_of(name: str) -> int | None:
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def name_of(number: int) -> str:
    return f"pplan-{number:06d}"


def read(plans: Iterable[CustomState]) -> tuple[Stored, ...]:
    """Ours, oldest first."""
    found: list[Stored] = []
    for state in plans:
        number, sign = number_of(state.name), state.annotations.get(DIGEST)
        if number is None or not sign or state.deleting:
            continue
        try:
            rows = entries.parse(state.spec.get("assignments") or ())
        except (KeyError, TypeError, ValueError):
            continue  # not readable: never acted on, and it takes no name away (`next_name`)
        found.append(
            Stored(
                state=state,
                number=number,
                approval=str(state.spec.get("approval") or NOT_NEEDED),
                phase=str(state.status.get("state") or PROPOSED),
                digest=sign,
                inputs=str(state.spec.get("inputsDigest") or ""),
                entries=rows,
                truncated=bool(state.spec.get("truncated")),
            )
        )
    return tuple(sorted(found, key=lambda item: item.number))


def next_name(plans: Iterable[CustomState]) -> str:
    return name_of(max((number for state in plans if (number := number_of(state.name)) is not None), default=0) + 1)


def in_force(stored: Iterable[Stored]) -> Stored | None:
    """The newest that was begun."""
    return next((item for item in reversed(tuple(stored)) if item.phase in (APPLYING, APPLIED)), None)


def outdated(stored: tuple[Stored, ...], room: int = 0) -> tuple[Stored, ...]:
    """The oldest beyond the history of 20, `room` more of them for plans to come; never the newest and never the one in force."""
    protected = {item.name for item in (in_force(stored), stored[-1] if stored else None) if item is not None}
    free = [item for item in stored if item.name not in protected]
    return tuple(free[: max(0, min(len(free), len(stored) - HISTORY + room))])
