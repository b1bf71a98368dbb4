"""placement: which replicas of which model run on which node, by an integer program. Pure: no clock, no I/O.

Entry point: `plan(snapshot, demand, warm=..., effort=...) -> (Plan, Warm)`. `check` recounts a plan in plain integers without the planner's code.
"""

from placement.check import check
from placement.engine import plan
from placement.jsonform import plan_from_json, to_json
from placement.snapshot import normalised
from placement.types import *  # noqa: F403
from placement.types import DEFAULT, Effort

__all__ = ["DEFAULT", "Effort", "check", "normalised", "plan", "plan_from_json", "to_json"]
