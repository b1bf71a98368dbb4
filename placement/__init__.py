"""placement: which replicas of which model run on which node, by an integer program. Pure: no clock, no I/O.

Entry point: `plan(snapshot, demand, warm=..., effort=...) -> (Plan, Warm)`. `check` recounts a plan in plain integers without the
planner's code. `placement.snapshot` holds `normalised`, `to_json` and `from_json` of snapshots; `to_json` here writes a plan.
"""

from placement.check import check
from placement.engine import plan, solver_health
from placement.jsonform import plan_from_json, to_json
from placement.types import (
    DEFAULT,
    Assignment,
    Cell,
    Demand,
    Effort,
    Model,
    ModelDemand,
    Node,
    Option,
    Outcome,
    PlacementError,
    Plan,
    Policy,
    PoolFree,
    Reason,
    Replica,
    ReplicaState,
    Shortfall,
    ShortfallReason,
    Snapshot,
    Start,
    Stock,
    Warm,
    Why,
)

__all__ = [
    "DEFAULT",
    "Assignment",
    "Cell",
    "Demand",
    "Effort",
    "Model",
    "ModelDemand",
    "Node",
    "Option",
    "Outcome",
    "PlacementError",
    "Plan",
    "Policy",
    "PoolFree",
    "Reason",
    "Replica",
    "ReplicaState",
    "Shortfall",
    "ShortfallReason",
    "Snapshot",
    "Start",
    "Stock",
    "Warm",
    "Why",
    "check",
    "plan",
    "plan_from_json",
    "solver_health",
    "to_json",
]
