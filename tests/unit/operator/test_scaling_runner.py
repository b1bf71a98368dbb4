"""The autoscaler's clock: what it polls, decides, learns and keeps, with a scripted poll and decision and a hand-moved clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from polyfleet.errors import ApiError
from polyfleet.inputs import Inputs
from polyfleet.scaling.look import Readings
from polyfleet.scaling.runner import READ_AGAIN_S, SEASON_S, WRITE_S, Autoscaler
from polyfleet.scaling.settings import TICK_S, ZERO_TICK_S
from polyfleet.scaling.store import Learned
from polyfleet.state import CustomState, Observed

from autoscaling.decide import decide
from autoscaling.memory import Memory
from autoscaling.season import BIN_S, DAY_BINS, Season, Trial, pack, restored, stored
from autoscaling.types import Decision, Direction, Gateway, Look, MetricState, ReplicaState, Sample, Why
from autoscaling.windows import Windows
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.forces import KEY, aimed, child_of, demand, scaled
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES

MODEL = aimed(scaled(), 2)
CHILD = child_of(MODEL, "sandbox-ppu", 2)
T0 = 1_795_593_600.0  # b.NOW


def seen(*models: CustomState, pods: int = 2) -> Observed:
    mine = tuple(b.replica(CHILD, f"p{i}", node="ppu-0", serving=True) for i in range(pods))
    return b.observed(models=models or [MODEL], profiles=PROFILES, pools=POOLS, nodes=(H100, A3, PPU), deployments=(CHILD,), pods=mine)


@dataclass
class Kept:
    """A store in memory, or one that cannot be read."""

    held: dict[str, Learned] = field(default_factory=dict)
    broken: bool = False
    refuses: bool = False
    reads: int = 0
    writes: int = 0

    async def read(self, state: CustomState) -> Learned | None:
        self.reads += 1
        if self.broken:
            raise ApiError(500, "", "etcd is away")
        return self.held.get(state.key)

    async def write(self, state: CustomState, found: Learned) -> bool:
        self.writes += 1
        if self.refuses:
            return False
        self.held[state.key] = found
        return True


@dataclass
class Room:
    """An autoscaler and everything around it."""

    store: Kept | None = None
    now: float = T0
    work: float = 2.0
    kappa: float = 1.0
    metrics: MetricState = MetricState.VALUE
    fails: bool = False
    readings: Readings = field(default_factory=Readings)
    marks: list[str] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    memories: list[Memory | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scaler = Autoscaler(lambda: self.now, self.marks.append, self.store, poll=self.poll, decide=self.decide)  # type: ignore[arg-type]

    async def poll(self, inputs: Inputs, now: float) -> Readings:
        return self.readings

    def decide(self, memory: Memory | None, look: Look) -> Decision:
        self.looks.append(look)
        self.memories.append(memory)
        if self.fails:
            raise RuntimeError("a bug")
        found = Memory(Windows(look.now), kappas=(("o", self.kappa),))
        return Decision(demand(self.work, model=look.model, metrics=self.metrics), found, learned_changed=True)

    def update(self, observed: Observed | None = None, sizes: Any = None) -> None:
        found = observed if observed is not None else seen()
        done = cycle(self.scaler.view(found))
        self.scaler.update(found, done.inputs, done.plan, sizes if sizes is not None else {("llm", CHILD.name): 2})

    def tick(self, after: float = TICK_S) -> None:
        self.now += after
        asyncio.run(self.scaler.tick())


def test_before_the_first_cycle_there_is_nothing_to_do() -> None:
    room = Room()
    room.tick()
    assert (room.looks, room.marks, room.scaler.board.forces()) == ([], [], {})


def test_a_tick_decides_and_wakes_the_cycle_only_when_something_came_out() -> None:
    room = Room()
    room.update()
    room.tick()
    assert room.marks == ["load"]
    for _ in range(20):
        room.tick()
    assert room.marks == ["load"]
    room.work = 3.0
    room.tick()
    assert room.marks == ["load", "load"]
    assert room.scaler.view(seen()).scaling[KEY].demand.work_per_s == 3.0


def test_the_look_has_every_replica_with_its_newest_reading() -> None:
    room = Room()
    room.readings = Readings({"uid-p0": Sample(T0 - 5, finished=7.0)}, {"uid-p1": "refused"})
    room.update()
    room.tick()
    (look,) = room.looks
    found = {r.id: r for r in look.replicas}
    assert found["uid-p0"].sample == Sample(T0 - 5, finished=7.0)
    assert (found["uid-p1"].sample, found["uid-p1"].failed) == (None, "refused")
    assert {(r.state, r.work_per_s, r.hourly_cost) for r in look.replicas} == {(ReplicaState.READY, 1.0, 0.9)}
    assert (look.settings.min_replicas, look.settings.max_replicas, look.stock_known) == (1, 8, True)


@pytest.mark.parametrize(
    ("running", "aimed_at", "most", "shrinks"),
    [
        (9, 8, 9, False),  # a move at the maximum: the new one is there, the old one is still to go
        (12, 8, 12, False),  # a rollout with a surge of four
        (9, 9, 8, True),  # nine were aimed at, and the maximum was lowered to eight
        (8, 8, 8, False),
        (9, None, 8, True),  # nothing is known of what was aimed at
    ],
)
def test_what_a_move_brings_beyond_the_maximum_is_no_surplus(running: int, aimed_at: int | None, most: int, shrinks: bool) -> None:
    """maxReplicas is 8. The decision that is told has the spec's maximum either way."""
    room, model = Room(), scaled() if aimed_at is None else aimed(scaled(), aimed_at)
    room.update(seen(model, pods=running))
    room.tick()
    (look,) = room.looks
    assert look.settings.max_replicas == most
    found = decide(None, look)
    assert ((found.demand.direction, found.demand.reason) == (Direction.DOWN, Why.MAXIMUM)) is shrinks
    room.scaler.decide = decide
    room.tick()
    assert room.scaler.view(seen()).scaling[KEY].demand.max_replicas == 8


def test_a_model_of_fixed_size_is_not_looked_at() -> None:
    room = Room()
    room.update(seen(b.model("m", {"replicas": 2})))
    room.tick()
    assert room.looks == []
    assert room.scaler.board.forces() == {}


def test_a_decision_that_fails_holds_its_model_and_no_other() -> None:
    other = replace(aimed(scaled(), 1), name="n", uid="uid-n")
    room = Room()
    room.update(seen(MODEL, other))
    room.tick()
    assert set(room.scaler.board.forces()) == {KEY, "llm/n"}
    before = room.scaler.board.forces()[KEY]
    good = room.scaler.decide

    def half(memory: Memory | None, look: Look) -> Decision:
        if look.model == KEY:
            raise RuntimeError("a bug")
        return good(memory, look)

    room.scaler.decide, room.work = half, 5.0
    room.tick()
    assert room.scaler.board.forces()[KEY] is before
    assert room.scaler.board.forces()["llm/n"].demand.work_per_s == 5.0


@pytest.mark.parametrize(("pods", "seconds"), [(2, TICK_S), (0, ZERO_TICK_S)])
def test_somebody_may_be_waiting_at_zero(pods: int, seconds: float) -> None:
    room = Room()
    room.update(seen(pods=pods))
    assert room.scaler.pause() == seconds


def test_one_that_sleeps_does_not_double_what_reading_the_others_costs() -> None:
    """One with two replicas, one at zero: every 5 s for who waits, every 10 s for the load."""
    room = Room()
    polls: list[float] = []
    knocks: list[float] = []

    async def poll(inputs: Inputs, now: float) -> Readings:
        polls.append(now - T0)
        return Readings(failed={"p0": "away"})

    async def knock(inputs: Inputs, now: float) -> Readings:
        knocks.append(now - T0)
        return Readings(gateways={"llm/n": Gateway(now, None, waiting=1.0)})

    room.scaler.poll, room.scaler.knock = poll, knock
    room.update(seen(MODEL, replace(aimed(scaled(), 0), name="n", uid="uid-n")))
    for _ in range(4):
        room.tick(ZERO_TICK_S)
    assert (polls, knocks) == ([5.0, 15.0], [10.0, 20.0])
    assert [(look.model, look.now - T0) for look in room.looks] == [
        ("llm/m", 5.0), ("llm/n", 5.0), ("llm/n", 10.0), ("llm/m", 15.0), ("llm/n", 15.0), ("llm/n", 20.0),
    ]  # fmt: skip
    assert [look.gateway is not None for look in room.looks] == [False, False, True, False, False, True]


# ---- learned state


def test_what_was_learned_is_written_once_in_five_minutes_and_only_when_it_moved_by_five_percent() -> None:
    store = Kept()
    room = Room(store)
    room.update()
    room.tick()
    assert store.writes == 1
    for _ in range(100):
        room.tick()
    assert store.writes == 1  # nothing moved
    room.kappa = 1.04
    room.tick(WRITE_S)
    assert store.writes == 1
    room.kappa = 1.2
    room.tick()
    assert store.writes == 2
    room.kappa = 1.4
    room.tick()
    assert store.writes == 2  # within five minutes
    room.tick(WRITE_S)
    assert store.writes == 3


def test_a_write_that_is_refused_is_not_tried_at_every_tick() -> None:
    store = Kept(refuses=True)
    room = Room(store)
    room.update()
    for _ in range(10):
        room.tick()
    assert store.writes == 1
    room.tick(WRITE_S)
    assert store.writes == 2


def test_the_next_operator_begins_with_what_was_learned_and_its_unit() -> None:
    store = Kept()
    room = Room(store, kappa=1.3)
    room.update()
    room.tick()
    again = Room(store)
    again.update()
    again.tick()
    (memory,) = again.memories
    assert memory is not None
    assert dict(memory.kappas) == {"o": 1.3}
    assert again.scaler.view(seen()).scaling[KEY].reference == store.held[KEY].unit


def test_nothing_is_decided_while_it_cannot_be_read() -> None:
    """A read that fails is not "nothing was learned": deciding on that would forget it for good."""
    store = Kept(broken=True)
    room = Room(store)
    room.update()
    room.tick()
    room.tick()
    assert (store.reads, room.looks) == (1, [])
    store.broken = False
    room.tick(READ_AGAIN_S)
    assert (store.reads, len(room.looks)) == (2, 1)


def test_learned_state_of_another_version_is_no_knowledge() -> None:
    store = Kept({KEY: Learned({"version": 99}, [], None)})
    room = Room(store)
    room.update()
    room.tick()
    assert room.memories == [None]


# ---- earlier days

DAY = 86_400.0
TODAY = int(T0 // BIN_S)  # 8:00: bin 48 of the day
# Four days until a moment ago: 2 work/s, and 9 from 8:10 to 10:00.
EARLIER = Season(
    TODAY - 4 * DAY_BINS,
    pack(9.0 if 49 <= (TODAY + place) % DAY_BINS < 60 else 2.0 for place in range(4 * DAY_BINS)),
    trial=Trial(challenger=1.0, holder=2.0, weight=200.0),
    of="Work",
)
GOOD = {"version": 1, "at": 0.0, "kappas": {"o": 1.25}}


def season_of(room: Room) -> Season:
    return room.scaler.board.entries[KEY].season


def test_the_measured_load_is_filed_and_an_unknown_one_is_not() -> None:
    room = Room(work=3.0)
    room.update()
    for _ in range(70):
        room.tick()
    room.metrics = MetricState.UNKNOWN  # `now_work` still is the level of before
    for _ in range(120):
        room.tick()
    room.metrics, room.work = MetricState.VALUE, 5.0
    for _ in range(130):
        room.tick()
    # 10 s ticks from 8:00: 8:00 to 8:10 and 100 s of the next bin, then 20 min of silence, from 8:31:50 on 5 work/s.
    assert (season_of(room).begin, season_of(room).bins) == (TODAY, (3.0, None, None, 5.0, 5.0))


def test_a_look_has_the_work_of_earlier_days_one_cold_start_ahead() -> None:
    room = Room(Kept({KEY: Learned(GOOD, [], None, stored(EARLIER))}))
    room.update()
    for _ in range(62):
        room.tick()
    given = {look.now - T0: look.season for look in room.looks}
    # The sandbox's profiles state a cold start of 5 s; with a tick of 10 s that is 15 s before 8:10, which is 600 s from here.
    assert {value for at, value in given.items() if at < 585.0} == {2.0}
    assert {value for at, value in given.items() if at >= 585.0} == {9.0}


def test_a_restart_keeps_what_was_filed() -> None:
    store = Kept({KEY: Learned(GOOD, [], None, stored(EARLIER))})
    room = Room(store, work=9.0, kappa=1.25)
    room.update()
    for _ in range(400):
        room.tick()
    filed = season_of(room).bins
    assert filed[:-6] == EARLIER.bins
    assert filed[-6:] == (9.0,) * 6
    room.kappa = 1.5  # something else is worth writing, and the season goes along
    room.tick()
    again = Room(store, now=room.now)
    again.update()
    again.tick()
    assert season_of(again).bins[: len(filed)] == filed
    assert season_of(again).trial.wins


@pytest.mark.parametrize("size", [0, 2])
def test_a_restart_leaves_asleep_what_slept(size: int) -> None:
    """What is remembered is the load of before it slept; by itself it would wake every model at every restart."""
    room = Room(Kept({KEY: Learned(GOOD, [], None, None)}))
    room.update(seen(aimed(scaled(), size), pods=size))
    room.tick()
    (memory,) = room.memories
    assert memory is not None
    assert memory.asleep is (size == 0)


@pytest.mark.parametrize(
    "bad",
    [
        "a text", {}, {**stored(EARLIER), "version": 9}, {**stored(EARLIER), "bins": [1.0, "x"]}, {**stored(EARLIER), "begin": 10**400},
        {**stored(EARLIER), "trial": [0.0, float("inf"), 1.0]},
    ],
)  # fmt: skip
def test_a_season_that_cannot_be_read_is_none_and_costs_nothing_else(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    room = Room(Kept({KEY: Learned(GOOD, [], None, bad)}))
    room.update()
    room.tick()
    (memory,) = room.memories
    assert memory is not None
    assert dict(memory.kappas) == {"o": 1.25}
    assert room.looks[0].season is None
    assert [row.message for row in caplog.records] == ["what was stored of a model's earlier days is of no use; they are learned anew"]


def test_another_metric_makes_the_stored_days_void() -> None:
    room = Room(Kept({KEY: Learned(GOOD, [], None, stored(replace(EARLIER, of="InFlight/8")))}))
    room.update()
    room.tick()
    assert room.looks[0].season is None
    assert (season_of(room).of, season_of(room).bins) == ("Work", ())


def test_a_constant_load_writes_nothing_for_days() -> None:
    store = Kept()
    room = Room(store)
    room.update()
    room.tick()
    assert store.writes == 1
    for _ in range(2 * 1440):
        room.tick(60.0)
    assert store.writes == 1
    assert len(season_of(room).bins) == 2 * DAY_BINS


def test_a_load_that_moves_is_written_once_an_hour_at_most() -> None:
    store = Kept()
    room = Room(store)
    room.update()
    wrote: list[float] = []
    for minute in range(600):
        room.work = 2.0 + 6.0 * (minute // 10 % 2)  # 2 and 8 work/s, ten minutes each
        before = store.writes
        room.tick(60.0)
        if store.writes > before:
            wrote.append(room.now)
    assert [later - earlier for earlier, later in pairwise(wrote)] == [SEASON_S] * 9
    season = restored(store.held[KEY].season)
    assert season.bins == season_of(room).bins[: len(season.bins)]
    assert len(season.bins) >= 54


def test_a_season_that_could_not_be_written_is_tried_again_an_hour_later() -> None:
    store = Kept(refuses=True)
    room = Room(store, kappa=1.0)
    room.update()
    room.tick()
    for minute in range(130):
        room.work = 2.0 + 6.0 * (minute // 10 % 2)
        room.tick(60.0)
    assert store.held == {}
    store.refuses = False
    for _ in range(70):
        room.tick(60.0)
    assert len(restored(store.held[KEY].season).bins) >= 12
