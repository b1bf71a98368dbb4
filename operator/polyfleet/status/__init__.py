"""What the operator says: statuses of all kinds and events, as pure functions of what was observed, the plan and the time."""

from polyfleet.status.report import report

__all__ = ["report"]
