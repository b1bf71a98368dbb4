"""What statuses and events of other objects say of the plans of one cycle."""

from __future__ import annotations

from dataclasses import dataclass

from hwprofiles.schema import format_decimal

_NO_GAP = 5e-7  # a smaller one is what the solvers' arithmetic leaves


@dataclass(frozen=True, slots=True)
class Told:
    name: str = ""  # the plan in force
    outcome: str = ""
    gap_percent: str = ""
    asks: str = ""  # the plan that waits for a person
    rejected: bool = False  # ... who said no
    changes: str = ""  # of the plan that waits
    waiting: frozenset[str] = frozenset()  # models that it would change

    @property
    def wish(self) -> str:
        """What a person can do about the plan that waits."""
        if self.rejected:
            return f"{self.asks} ({self.changes}) was rejected; change the spec, or set spec.approval: Automatic: kubectl edit fpol default"
        return f"{self.asks} ({self.changes}) {ask(self.asks)}"


NOTHING = Told()


def ask(name: str) -> str:
    patch = '{"spec":{"approval":"Approved"}}'
    return f"waits for its approval: kubectl patch pplan {name} --type merge -p '{patch}' (or Rejected)"


def gap_text(gap: float | None) -> str:
    """Percent; "" if no bound is known."""
    if gap is None:
        return ""
    return "0.0" if gap < _NO_GAP else format_decimal(max(0.01, round(gap * 100, 2)), 2)
