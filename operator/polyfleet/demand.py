"""How many replicas each model wants, and the placer's Demand for it.

`replicas: n` is exactly n. Without any size it is one. `scaling` in mode Auto is the business of `scaling.sizes`.
"""

from __future__ import annotations

from collections.abc import Iterable

from placement.types import Demand, Model, ModelDemand
from polyfleet.api import ModelDeploymentSpec


def target(spec: ModelDeploymentSpec, running: int) -> int:
    if spec.suspend:
        return 0
    scaling = spec.scaling
    if scaling is None:
        return spec.replicas if spec.replicas is not None else 1
    if scaling.mode == "External" and spec.replicas is not None:
        return min(max(spec.replicas, scaling.min_replicas), scaling.max_replicas)
    if scaling.mode == "Advise":
        # Advice changes nothing: the stated size, else what runs.
        return spec.replicas if spec.replicas is not None else max(running, scaling.min_replicas, 1)
    return max(scaling.min_replicas, 1)


def demand(models: Iterable[Model], asked: Iterable[ModelDemand | None] = ()) -> Demand:
    """What each of these models is to carry: as asked, else nothing: of a fixed size the placer covers the number of replicas."""
    known = {item.model: item for item in asked if item is not None}
    fixed = (ModelDemand(model.name, work_per_s=0.0, may_shrink=True, reason="FixedSize") for model in models)
    return Demand(tuple(known.get(item.model, item) for item in fixed))
