"""The shipped `autoscaling.decide.decide` as a policy of the replay: views in, `Look`s out, and the demand turned into a size.

It sees what the operator would: the counters that engines publish, states and ages of replicas, the P90 of cold starts; never the output
of an unfinished request. `gateway` adds the counters of a gateway in front, which knows a prompt when it arrives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaling import seasonal
from autoscaling.decide import decide
from autoscaling.memory import Memory, learned, restore
from autoscaling.replay.fleet import Seen, View
from autoscaling.replay.harness import SPREAD
from autoscaling.replay.loads import COSTS
from autoscaling.season import Season
from autoscaling.types import Demand, Direction, Look, Replica, ReplicaState, Settings, Slo

EPOCH_S = 1_700_000_000.0  # when a replay begins, by the policy's clock
GOALS = {"conv3": Slo(2.0, None, 98.5), "ramp10h": Slo(2.0, None, 98.5), "series14": Slo(2.0, None, 98.0), "code1": Slo(10.0, None, 95.0)}
P90 = 1.0 - SPREAD + 0.9 * 2.0 * SPREAD  # of a uniform cold start, over its mean


@dataclass(slots=True)
class Shipped:
    """One model. `learned_before`: what an earlier run learned (`after`), as the operator would read it back; None = no knowledge.
    `began`: the clock at the start of the load, s since 1970. `share`: so much of what it asks for is given, which is how its hours at
    another attainment are found. `starts`: mean cold start of each option, s; none = `cold_start_s` for the one there is."""

    slo: Slo
    cold_start_s: float
    gateway: bool = False
    learned_before: str | None = None
    began: float = EPOCH_S
    tick_s: float = 10.0
    share: float = 1.0
    starts: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    message: str = ""
    memory: Memory | None = None
    season: Season = field(default_factory=Season)  # of the days that were replayed
    reasons: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.learned_before is not None:
            self.memory = restore(json.loads(self.learned_before), self.began)

    def __call__(self, view: View) -> int:
        demand = self.demand(view)
        size = math.ceil(demand.work_per_s * self.share - 1e-9)
        if not demand.may_shrink:
            size = max(size, view.size)
        return min(max(size, demand.min_replicas), demand.max_replicas)

    def demand(self, view: View) -> Demand:
        look = seasonal.given(self.season, self.look(view))
        decision = decide(self.memory, look)
        if not isinstance(decision.memory, Memory):
            raise TypeError(f"decide returned a memory of {type(decision.memory).__name__}")
        self.memory = decision.memory
        demand = decision.demand
        self.season = seasonal.fed(self.season, look, demand)
        self.reason, self.message = f"{demand.direction}/{demand.reason}", demand.message
        if demand.direction is not Direction.HOLD:
            self.reasons[self.reason] = self.reasons.get(self.reason, 0) + 1
        return demand

    def look(self, view: View) -> Look:
        now = self.began + view.now
        starts = {name: P90 * seconds for name, seconds in self.starts or (("reference", self.cold_start_s),)}
        speeds = {seen.option.speed for seen in view.replicas}
        return Look(
            now,
            "replay/model",
            Settings(min_replicas=view.least, max_replicas=view.most, slo=self.slo, tick_s=self.tick_s),
            COSTS,
            tuple(self._replica(seen, starts) for seen in view.replicas),
            view.gateway if self.gateway else None,
            start_s=tuple(sorted(starts.items())),
            smallest_stop=min(speeds) if len(speeds) > 1 else None,
        )

    def _replica(self, seen: Seen, starts: Mapping[str, float]) -> Replica:
        due = seen.created + starts.get(seen.option.name, P90 * self.cold_start_s)
        return Replica(
            seen.id,
            seen.option.name,
            seen.state,
            seen.option.speed,
            self.began + seen.since,
            self.began + due if seen.state is ReplicaState.LOADING else None,
            seen.sample,
            seen.failed,
            seen.option.hourly_cost,
        )

    def after(self) -> str:
        """What it has learned, as it would be written."""
        return json.dumps(learned(self.memory)) if self.memory is not None else "{}"
