"""Prefill and decode of a split deployment: two demands, made to fit each other (§4.4).

Each role is decided on its own. Here the ratio of their work is brought into the range that the profile allows, by raising the one that is
short and never by lowering the other; both reach zero together, so that 0 : n never exists; and where one may not shrink because its load
is not known, neither may the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from autoscaling.types import Demand, Direction, Slice, Why

_LEAST = 1e-9  # work/s of a role that is needed at all: one replica


@dataclass(frozen=True, slots=True)
class Ratio:
    """Allowed prefill work over decode work, both ends included."""

    lowest: float = 0.0
    highest: float = inf

    def __post_init__(self) -> None:
        if not 0.0 <= self.lowest <= self.highest or self.highest == 0.0 or self.lowest == inf:
            raise ValueError(
                f"ratio: [{self.lowest!r}, {self.highest!r}] is no range; 0 <= lowest <= highest, highest above 0, lowest finite"
            )


def repair(prefill: Demand, decode: Demand, ratio: Ratio) -> tuple[Demand, Demand]:
    """Both demands, fitting each other. Raises ValueError if they are not of the two roles of one model."""
    if (prefill.role, decode.role) != (Slice.PREFILL, Slice.DECODE) or prefill.model != decode.model:
        found = f"{prefill.model}/{prefill.role.value!r} and {decode.model}/{decode.role.value!r}"
        raise ValueError(f"roles: {found} are not the prefill and the decode of one model")
    if _sleeps(prefill) and _sleeps(decode):
        return prefill, decode
    p, d = max(prefill.work_per_s, _LEAST), max(decode.work_per_s, _LEAST)
    if p < ratio.lowest * d:
        p = ratio.lowest * d
    elif p > ratio.highest * d:
        d = p / ratio.highest
    return _raised(prefill, p, decode), _raised(decode, d, prefill)


def _sleeps(demand: Demand) -> bool:
    return demand.work_per_s <= 0.0 and demand.min_replicas == 0


def _raised(demand: Demand, work: float, other: Demand) -> Demand:
    """At least this work and one replica; it shrinks only if the other may shrink as well, or has nothing left to give."""
    holds = not other.may_shrink and other.direction is Direction.HOLD and other.reason in _DOUBT
    up = work > max(demand.work_per_s, _LEAST) * (1.0 + 1e-9)
    message = f"{demand.message}; {work:.3g} work/s to fit the {other.role.value} role" if up else demand.message
    return replace(
        demand,
        work_per_s=max(work, demand.work_per_s),
        min_replicas=max(1, demand.min_replicas),
        may_shrink=demand.may_shrink and not holds,
        message=message,
    )


_DOUBT = frozenset({Why.UNKNOWN_LOAD, Why.FALLBACK, Why.TOO_FEW_FRESH, Why.UNKNOWN_STOCK, Why.FIRST_WINDOW})
