"""Shared by the tests of scaling: what the autoscaler says of a model, written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet.scaling.force import Force, Told
from polyfleet.state import CustomState, DeploymentState, NodeState, PodState

from autoscaling.types import Demand, Direction, MetricState, Slice, Why
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES

SINCE = "2026-11-25T07:50:00Z"
KEY = "llm/m"
AUTO: dict[str, Any] = {"scaling": {"minReplicas": 1, "maxReplicas": 8}}


def demand(work: float = 1.0, *, low: int = 1, high: int = 8, shrink: bool = False, **more: Any) -> Demand:
    given: dict[str, Any] = {
        "model": KEY, "role": Slice.WHOLE, "work_per_s": work, "bucket_work": (), "min_replicas": low, "max_replicas": high,
        "may_shrink": shrink, "kv_floor": 0.0, "direction": Direction.HOLD, "reason": Why.WITHIN_BAND, "message": "all is well",
        "metrics": MetricState.VALUE, "now_work": work, "high_work": work, "floor_work": 0.0, "ready_work": work, "pending_work": 0.0,
        "backlog_work": 0.0, "horizon_s": 30.0,
    }  # fmt: skip
    return Demand(**{**given, **more})


def force(work: float = 1.0, *, told: Told | None = None, exhausted: Any = (), starts: Any = (), **more: Any) -> Force:
    found = demand(work, **more)
    said = told or Told(str(found.direction), str(found.reason), found.message, SINCE)
    return Force(found, SINCE, said, found.metrics, found.message, exhausted=exhausted, starts=starts)


def scaled(spec: dict[str, Any] | None = None, **more: Any) -> CustomState:
    return b.model("m", {**AUTO, **(spec or {})}, **more)


def look(
    model: CustomState,
    said: Force | None,
    *,
    nodes: tuple[NodeState, ...] = (H100, A3, PPU),
    deployments: tuple[DeploymentState, ...] = (),
    pods: tuple[PodState, ...] = (),
    profiles: tuple[CustomState, ...] = PROFILES,
    now: str = b.NOW,
    **more: Any,
) -> Done:
    observed = b.observed(models=[model], profiles=profiles, pools=POOLS, nodes=nodes, deployments=deployments, pods=pods, **more)
    return cycle(replace(observed, scaling={model.key: said} if said is not None else {}), now=now)


def aimed(model: CustomState, size: int, **more: Any) -> CustomState:
    """As the status says after the last plan aimed at `size` replicas."""
    return replace(model, status={**model.status, "desiredReplicas": size, **more})


def child_of(model: CustomState, profile: str, size: int = 0) -> DeploymentState:
    """The model's child on one profile with that many replicas, as the API server would hold it."""
    alone = replace(model, spec={**model.spec, "placement": {"profiles": [profile]}})
    alone = replace(
        alone, spec={key: value for key, value in alone.spec.items() if key not in ("scaling", "replicas", "paused", "suspend")}
    )
    (manifest,) = b.applied(look(alone, None).actions, "Deployment")
    return b.child(manifest, replicas=size)


def condition(done: Done, kind: str, name: str = "m") -> tuple[str, str, str]:
    return b.condition(done.status("ModelDeployment", name), kind)
