"""The real decision behind the real clock and board, closed over the real placer: a whole model in one process, minutes in milliseconds.

Replicas here come up a while after they are asked for and count what they are sent; load is Poisson with a fixed seed. What is held: a
steady load comes to rest and is told nothing more, a step is followed, an outage and a restart take nothing away.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from polyfleet.inputs import Inputs
from polyfleet.scaling.look import Readings
from polyfleet.scaling.runner import Autoscaler
from polyfleet.scaling.stuck import stamp
from polyfleet.state import Condition, Observed, PodState

from autoscaling.season import BIN_S, DAY_BINS, Season, Trial, pack
from autoscaling.types import Sample
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.forces import KEY, aimed, child_of, scaled
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES

START = 1_795_593_600.0  # b.NOW
LOADS_S = 30.0
PER_S = 200 / 64  # requests/s of one replica: 200 output tokens/s at 64 per request, as the sandbox's profiles state
CHILD = child_of(aimed(scaled(), 1), "sandbox-ppu", 1)


@dataclass
class Replica:
    made: float
    arrived: int = 0


@dataclass
class World:
    """`load`: requests per second over all replicas."""

    load: float
    low: int = 1
    high: int = 12
    now: float = START
    size: int = 1
    dark: bool = False  # no page is answered
    loads_s: float = LOADS_S
    status: dict[str, Any] = field(default_factory=dict)
    pods: dict[str, Replica] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)  # the newest of each, whatever its age
    marks: list[str] = field(default_factory=list)
    told: list[float] = field(default_factory=list)  # when something was told to the cycle
    history: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random, self.made = random.Random(7), 0
        self.start()
        self._resize(self.size)
        for each in self.pods.values():
            each.made = START - 3600

    def start(self) -> None:
        """A new operator: nothing in memory."""
        self.scaler = Autoscaler(lambda: self.now, self.marks.append, None, poll=self.poll)
        self.done: Done | None = None

    def _resize(self, size: int) -> None:
        while len(self.pods) < size:
            self.made += 1
            self.pods[f"p{self.made:03d}"] = Replica(self.now)
        for name in sorted(self.pods)[size:]:
            del self.pods[name]

    def serving(self) -> list[str]:
        return [name for name, each in self.pods.items() if self.now >= each.made + self.loads_s]

    async def poll(self, inputs: Inputs, now: float) -> Readings:
        if self.dark:
            return Readings(self.samples, {f"uid-{name}": "no answer" for name in self.pods})
        for name in self.serving():
            n = float(self.pods[name].arrived)
            self.samples[f"uid-{name}"] = Sample(now, n, n, 2.0, 0.0, n * 128, n * 64, kv_used=0.3)
        return Readings(dict(self.samples))

    def pod(self, name: str) -> PodState:
        up = name in self.serving()
        made = stamp(self.pods[name].made)
        found = b.replica(CHILD, name, node="ppu-0", serving=up, created=made)
        return replace(found, conditions={**found.conditions, "PodScheduled": Condition("PodScheduled", "True", last_transition=made)})

    def observed(self) -> Observed:
        model = scaled({"scaling": {"minReplicas": self.low, "maxReplicas": self.high}, "placement": {"profiles": ["sandbox-ppu"]}})
        child = replace(CHILD, replicas=len(self.pods), spec={**CHILD.spec, "replicas": len(self.pods)})
        pods = tuple(self.pod(name) for name in sorted(self.pods))
        return b.observed(
            models=[replace(model, status=self.status)],
            profiles=PROFILES,
            pools=POOLS,
            nodes=(H100, A3, PPU),
            deployments=(child,),
            pods=pods,
        )

    def turn(self) -> None:
        """A cycle, as the operator makes one when it is woken."""
        seen = self.scaler.view(self.observed())
        done = cycle(seen, now=stamp(self.now))
        self.status = dict(done.status("ModelDeployment", "m"))
        self._resize(int(self.status["desiredReplicas"]))
        self.scaler.update(self.observed(), cycle(self.scaler.view(self.observed()), now=stamp(self.now)).inputs, done.plan)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / 10)):
            self.now += 10
            up = self.serving()
            for name in up:
                mean = 10 * self.load / len(up)
                self.pods[name].arrived += max(0, round(self.random.gauss(mean, math.sqrt(mean))))  # as good as Poisson at these means
            before = len(self.marks)
            asyncio.run(self.scaler.tick())
            woken = len(self.marks) > before
            if woken:
                self.told.append(self.now)
            if woken or any(self.now - each.made in (self.loads_s, self.loads_s + 10) for each in self.pods.values()):
                self.turn()
            self.history.append(len(self.pods))
            force = self.scaler.board.forces().get(KEY)
            self.reasons.append(str(force.demand.reason) if force is not None else "")


def test_a_steady_load_comes_to_rest_and_is_told_nothing_more() -> None:
    """Five replicas' worth of requests: after half an hour another one passes without a word to the cycle."""
    world = World(load=5 * PER_S, size=2)
    world.turn()
    world.run(1800)
    rest = len(world.history)
    world.run(1800)
    assert [at - START for at in world.told if at > START + 1800] == []
    assert len(set(world.history[rest:])) == 1
    assert world.history[-1] >= 5


def test_a_step_is_followed_at_once_and_what_was_asked_for_stays_asked_for_while_it_loads() -> None:
    """OC-045, OC-046: twice the load; replicas need 30 s, and nothing is asked for again or taken back meanwhile."""
    world = World(load=3 * PER_S, size=5)
    world.turn()
    world.run(900)
    before = world.history[-1]
    world.load *= 2
    world.run(300)
    after = world.history[-30:]
    assert max(after[:6]) >= 6 > before - 3
    assert all(later >= earlier for earlier, later in pairwise(after))


def test_an_outage_takes_nothing_away_however_long_it_is() -> None:
    """Not one page is answered for a quarter of an hour; the load goes on."""
    world = World(load=4 * PER_S, size=6)
    world.turn()
    world.run(900)
    before = world.history[-1]
    world.dark = True
    world.run(900)
    assert min(world.history[-90:]) >= before
    rows = {row["type"]: row for row in world.status["conditions"]}
    assert (rows["MetricsAvailable"]["status"], rows["MetricsAvailable"]["reason"]) == ("False", "MetricsStale")
    world.dark = False
    world.run(170)  # the first window of 180 s is not full yet
    assert min(world.history[-17:]) >= before


def test_a_restart_in_mid_ramp_takes_nothing_away_in_the_first_window() -> None:
    world = World(load=2 * PER_S, size=4)
    world.turn()
    world.run(600)
    world.load = 6 * PER_S
    for _ in range(12):
        world.run(10)
        if world.history[-1] > 4:
            break
    asked = world.history[-1]
    assert asked >= 6  # and those are still loading
    world.start()
    world.load = 1 * PER_S
    world.turn()
    world.run(170)
    assert min(world.history[-17:]) >= asked
    world.run(600)
    assert world.history[-1] < asked


def test_a_daily_rise_is_met_by_replicas_that_serve_before_it() -> None:
    """2 work/s, and 7 from 8:30 on every day of a week: the horizon is 15 s (the profile states a start of 5 s, and a tick), so the
    tick at 8:29:50 asks for replicas, and they serve at 8:30."""
    today = int(START // BIN_S)  # 8:00 is bin 48 of the day
    week = pack(7.0 if (today + place) % DAY_BINS >= 51 else 2.0 for place in range(7 * DAY_BINS))
    sizes = []
    for earlier in (week, b""):
        world = World(load=2 * PER_S, size=4, loads_s=10.0)
        world.turn()
        entry = world.scaler.board.entries[KEY]
        entry.season = Season(today - len(earlier) // 8, earlier, trial=Trial(1.0, 2.0, 200.0), of="Work")
        world.run(1780)  # 8:29:40
        assert world.history[-1] == 4
        world.run(20)
        sizes.append((world.history[-1], "Season" in world.reasons))
        assert len(world.serving()) == world.history[-1]
    assert sizes[0][0] >= 7
    assert sizes[0][1]
    assert sizes[1][0] == 4
    assert not sizes[1][1]
