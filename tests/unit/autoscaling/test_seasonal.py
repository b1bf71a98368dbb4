"""What feeds the prior of earlier days and what a look is given of it, beside the real decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaling.replay.harness import run
from autoscaling.replay.loads import make
from autoscaling.replay.shipped import Shipped
from autoscaling.season import DAY_BINS, Season, Trial, pack
from autoscaling.seasonal import fed, given, measure
from autoscaling.types import Look, MetricState, Replica, SleepRule, Slo, Why
from tests.unit.autoscaling.scene import COSTS, Scene, settings, steady

DAY = 86_400.0
WON = Trial(challenger=1.0, holder=2.0, weight=200.0)
# Four days of 2 work/s, and of 9 from 10:00 to 12:00 (bins 60 to 71).
WEEK = Season(packed=pack((9.0 if 60 <= place < 72 else 2.0) for _ in range(4) for place in range(DAY_BINS)), trial=WON, of="Work")


def look(second: float, start_s: float = 240.0, **more: object) -> Look:
    return Look(4 * DAY + second, "a/m", settings(**more), COSTS, (), start_s=(("o", start_s),))


def test_a_look_is_given_what_comes_until_a_new_replica_serves():
    # A cold start of 240 s and a tick of 10 s: at 9:55:49 it would serve at 9:59:59, a second later at 10:00.
    assert given(WEEK, look(35_749.0)).season == 2.0
    assert given(WEEK, look(35_750.0)).season == 9.0
    assert given(WEEK, look(43_199.0)).season == 9.0
    assert given(WEEK, look(43_200.0)).season == 2.0


def test_without_a_prior_the_look_is_the_same():
    plain = look(36_000.0)
    for season in (Season(of="Work"), replace(WEEK, trial=Trial()), replace(WEEK, of="InFlight/4")):
        assert given(season, plain) is plain
    assert given(WEEK, look(36_000.0, 1e9)).season == 9.0  # a horizon longer than a day is a day


def test_what_is_not_known_feeds_nothing():
    scene = steady()
    demand = scene.said[-1]
    season = Season(of="Work")
    assert fed(season, look(0.0), demand).level == demand.now_work
    for state in (MetricState.UNKNOWN, MetricState.FALLBACK, MetricState.RECOVERING):
        assert fed(season, look(0.0), replace(demand, metrics=state)) is season
    assert fed(season, look(0.0), replace(demand, now_work=None)) is season


def test_a_load_that_nobody_can_read_leaves_a_hole():
    """Half an hour without a page: the decision goes on with the level of before, the bins of that time stay unknown."""
    scene, season = steady(), Season()

    def tick(silent: bool = False) -> None:
        nonlocal season
        seen: list[Look] = []

        def gone(replica: Replica) -> Replica:
            return replace(replica, sample=None, failed="no answer") if silent else replica

        def caught(what: Look) -> Look:
            seen.append(what)
            return given(season, what)

        demand = scene.tick(5.5, gone, look=caught)
        season = fed(season, seen[0], demand)

    for _ in range(180):
        tick()
    for _ in range(180):
        tick(silent=True)
        assert scene.said[-1].now_work is not None
    for _ in range(240):
        tick()
    bins = season.bins
    assert None in bins
    assert [value for value in bins if value is not None] == pytest.approx([5.5] * (len(bins) - bins.count(None)), rel=0.02)
    # 1,800 s hold two whole bins at least; the first poll or two of the silence still stand on the readings before.
    assert 2 <= bins.count(None) - (bins[0] is None) <= 4


def test_another_measure_begins_a_new_history():
    demand = steady().said[-1]
    assert (measure(settings()), measure(settings(metric="InFlight", target_per_replica=8.0))) == ("Work", "InFlight/8")
    assert measure(settings(metric="InFlight")) == "Work"  # a metric without a target is not followed
    later = fed(WEEK, look(60.0, metric="InFlight", target_per_replica=8.0), demand)
    assert (later.of, later.bins, later.trial) == ("InFlight/8", (), Trial())
    assert fed(WEEK, look(60.0), demand).bins == WEEK.bins


def test_a_floor_that_knows_the_morning_is_there_before_it():
    """2 work/s, and 9 from 10:00 on: with the prior nine replicas serve at 10:00, without it they are asked for then."""

    def morning(season: Season) -> list[tuple[float, int]]:
        scene = Scene(count=4, cold=120.0)
        scene.now = 4 * DAY + 34_200.0  # 9:30
        for pod in scene.pods:
            pod.since = pod.ready_at = scene.now - 1000.0
        found = []
        while scene.now < 4 * DAY + 36_600.0:
            scene.tick(9.0 if scene.now >= 4 * DAY + 36_000.0 else 2.0, look=lambda what: given(season, what))
            found.append((scene.now - 4 * DAY, sum(pod.state == "Ready" for pod in scene.pods)))
        return found

    with_, without = morning(WEEK), morning(Season(of="Work"))
    assert dict(with_)[36_000.0] >= 9
    assert dict(without)[36_000.0] <= 4
    assert max(size for at, size in with_ if at < 35_700.0) <= 4  # not an hour early: it is given one cold start ahead


def test_a_morning_to_come_is_no_burst_that_is_too_fast():
    """What earlier days ask for is no claim about bursts: `Degraded` would say that this load cannot be followed."""
    scene = steady()
    for _ in range(6):
        demand = scene.tick(5.5, look=lambda what: replace(what, season=30.0))
        assert demand.too_fast == ""
    assert demand.floor_work == 30.0
    assert scene.said[-6].reason is Why.SEASON


def test_a_morning_comes_in_an_outage_too_and_is_named():
    scene = steady(hold_unknown_s=60.0)
    for _ in range(10):
        demand = scene.tick(5.5, lambda r: replace(r, sample=None, failed="no answer"), look=lambda what: replace(what, season=30.0))
    assert scene.size == 30
    assert Why.SEASON in {said.reason for said in scene.said[-10:]}
    assert demand.metrics is MetricState.UNKNOWN
    assert not demand.may_shrink


def test_who_sleeps_is_up_before_the_morning_and_does_not_sleep_in_it():
    """At zero since nobody came; at this time of earlier days three replicas were needed, so three are there, and stay while that holds."""
    scene = Scene(count=1, settings=settings(0, 20, sleep=SleepRule(600.0)), gateway=True)
    scene.run(0.5, 300.0)
    scene.run(0.0, 1200.0)
    assert scene.size == 0
    demand = scene.tick(0.0, look=lambda what: replace(what, season=0.04))
    assert (scene.size, demand.reason) == (0, Why.IDLE)  # a twenty-fifth of a replica wakes nobody
    demand = scene.tick(0.0, look=lambda what: replace(what, season=2.5))
    assert (scene.size, demand.reason) == (3, Why.SEASON)
    for _ in range(120):
        scene.tick(0.0, look=lambda what: replace(what, season=2.5))
        assert scene.size == 3
    scene.run(0.0, 900.0)
    assert scene.size == 0


def test_a_replay_uses_the_earlier_days_as_the_operator_does():
    """A quarter of a replica's load at 10:00 of the fifth day, when four days had 9 work/s: nine replicas are asked for."""
    of = make("quiet", [0.5 + k for k in range(120)], [400] * 120, [100] * 120)
    policy = Shipped(Slo(2.0, None, 98.5), 120.0, began=4 * DAY + 36_000.0, season=WEEK)
    run(of, policy, cold_start_s=120.0, seed=0)
    assert policy.reasons == {"Up/Season": 1}
    assert policy.memory is not None
    assert policy.memory.held == 9.0
    assert policy.season.level is not None
