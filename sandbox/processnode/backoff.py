"""Delays between restarts and between image pulls, as the kubelet counts them.

The first restart comes at once. Each restart then doubles the delay that the next one has to wait, counted from the moment the
container ended, from 10 s up to 5 min; a container that ran for more than twice the maximum starts over. (Kubernetes
documentation, "Pod Lifecycle", container restarts.) Pure: time is an argument.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from sandbox.processnode import timestamps

INITIAL_SECONDS = 10.0
MAXIMUM_SECONDS = 300.0


@dataclass(frozen=True)
class Backoff:
    """The delay that applies to the next try, and when it was last raised."""

    delay_seconds: float = 0.0
    raised_at: datetime | None = None

    def remaining_seconds(self, ended_at: datetime, now: datetime) -> float:
        """How long the next try still has to wait after a run that ended at ``ended_at``."""
        if self._expired(ended_at):
            return 0.0
        return max(0.0, self.delay_seconds - (now - ended_at).total_seconds())

    def raised(self, ended_at: datetime, now: datetime) -> Self:
        """The state after another try was made."""
        if self.raised_at is None or self._expired(ended_at):
            return replace(self, delay_seconds=INITIAL_SECONDS, raised_at=now)
        return replace(self, delay_seconds=min(self.delay_seconds * 2, MAXIMUM_SECONDS), raised_at=now)

    def _expired(self, ended_at: datetime) -> bool:
        return self.raised_at is not None and (ended_at - self.raised_at).total_seconds() > 2 * MAXIMUM_SECONDS

    def to_json(self) -> dict[str, Any]:
        """For the state directory."""
        return {"delaySeconds": self.delay_seconds, "raisedAt": timestamps.micros(self.raised_at) if self.raised_at else None}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From the state directory."""
        return cls(float(data["delaySeconds"]), timestamps.parse(data["raisedAt"]) if data["raisedAt"] else None)
