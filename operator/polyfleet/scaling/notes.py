"""Events of scaling: one per decision and per cause, told in the cycle in which the status changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoscaling.types import MetricState
from polyfleet.inputs import Inputs, ModelView
from polyfleet.scaling import board, rows, sizes, spill

Note = tuple[str, str, str]  # Normal or Warning, reason, message


def of_model(inputs: Inputs, view: ModelView, status: Mapping[str, Any]) -> list[Note]:
    """`status`: what this cycle says of the model; the stored one tells what was said before."""
    conflict = [("Warning", rows.CONFLICT, view.conflict)] if view.conflict else []
    if view.spec is None or view.spec.scaling is None:
        return [*conflict]
    return [*_scaled(view, status), *_held(view, status), *_metrics(view), *_spill(inputs, view), *conflict]


def _scaled(view: ModelView, status: Mapping[str, Any]) -> list[Note]:
    before, after = view.state.status.get("desiredReplicas"), status.get("desiredReplicas")
    told = view.force.told if view.force is not None else None
    if not isinstance(before, int) or not isinstance(after, int) or before == after or not sizes.automatic(view.spec) or told is None:
        return []
    # Suspended by a person: the last decision was about a load, and none is made while it lasts.
    suspended = view.spec is not None and view.spec.suspend
    why = "spec.suspend is true" if suspended else f"{told.reason}: {told.text} (decided at {told.at})"
    return [("Normal", "ScaledUp" if after > before else "ScaledDown", f"from {before} to {after} replicas: {why}")]


def _held(view: ModelView, status: Mapping[str, Any]) -> list[Note]:
    told = view.force.told if view.force is not None else None
    if told is None or told.first or told.reason not in board.OBSTACLES or not sizes.automatic(view.spec):
        return []
    return [("Normal", "ScalingHeld", f"{told.reason}: {told.text} (since {told.at})")]


def _metrics(view: ModelView) -> list[Note]:
    force = view.force
    if force is None or force.metrics is not MetricState.FALLBACK:
        return []
    return [("Warning", rows.FALLBACK, force.metrics_text)]


def _spill(inputs: Inputs, view: ModelView) -> list[Note]:
    found, before = spill.over(inputs, view), spill.told(view)
    if found is not None:
        return [
            (
                "Warning",
                "SpillOver",
                f"{', '.join(sorted({to for (_, to), _ in found.replicas}))} serves instead of {found.preferred}: no room",
            )
        ]
    if before and view.bounds is not None:
        return [("Normal", "SpillOverEnded", "every replica runs on the preferred hardware again")]
    return []
