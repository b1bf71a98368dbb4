"""What `plan -f` says of the numbers of an edited profile: what planning leaves out of it, what it doubts, and what the edit has cured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec
from hwprofiles.trust import Fault, trusted
from polyfleet.state import CustomState

LEFT_OUT, USED, FIXED = "leftOut", "used", "fixed"
_SAID = {LEFT_OUT: "left out", USED: "used, but", FIXED: "no longer at fault, it was"}


@dataclass(frozen=True, slots=True)
class ProfileFault:
    profile: str
    field: str  # from `spec` on
    reason: str
    message: str
    state: str  # leftOut | used | fixed

    @property
    def text(self) -> str:
        return f"hwp/{self.profile}: {self.field} {_SAID[self.state]}: {self.reason}: {self.message}"


def compared(laid: frozenset[str], before: Iterable[CustomState], after: Iterable[Fault], today: str) -> tuple[ProfileFault, ...]:
    """The faults of the profiles that `-f` changed, those that it put into other profiles, and those that are gone. `before`: the profiles
    as they were observed; `after`: the faults with the files laid over."""
    if not laid:
        return ()
    old = {_about(fault): fault for fault in trusted(_parsed(before), today=today).faults}
    now = {_about(fault): fault for fault in after}
    told = [_told(fault, LEFT_OUT if fault.ignored else USED) for key, fault in now.items() if fault.profile in laid or key not in old]
    return (*told, *(_told(fault, FIXED) for key, fault in old.items() if key not in now))


def _told(fault: Fault, state: str) -> ProfileFault:
    return ProfileFault(fault.profile, f"spec.{fault.field}", fault.reason, fault.message, state)


def _about(fault: Fault) -> tuple[str, str, str]:
    """What it is about, without its numbers."""
    return fault.profile, fault.field, fault.reason


def _parsed(states: Iterable[CustomState]) -> dict[str, HardwareProfileSpec]:
    found = {}
    for state in states:
        try:
            found[state.name] = HardwareProfileSpec.parse(state.spec)
        except ValidationError:
            continue  # it had no part in planning, so nothing of it was judged
    return found
