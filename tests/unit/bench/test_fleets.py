"""The seeded fleets against the figures published with them, and the referee of fleet plans against plans made wrong by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from bench.placement import fragmentation, loop
from bench.placement.__main__ import main
from bench.placement.baselines import Fleet, greedy
from bench.placement.counter import Count, device_equivalents, recount, shares
from bench.placement.instances import fleet_named, snapshot_of
from bench.placement.room import Room
from placement.types import (
    Assignment,
    Cell,
    Demand,
    Model,
    ModelDemand,
    Node,
    Option,
    Outcome,
    Plan,
    Policy,
    Quota,
    Replica,
    Shortfall,
    Snapshot,
    Spread,
    Start,
)

KEYS = {
    "cost", "placed", "services", "bound", "gap_percent", "cpu_seconds", "bound_cpu_seconds", "peak_mb", "outcome",
    "unmet_percent", "bind_failures", "first_incumbent_seconds",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "cells", "free", "chunks"),
    [
        ("tiny", 28, 9, 74, None),
        ("small_loose", 403, 15, 717, (352, 170, 79, 35, 13)),
        ("small_scarce", 403, 15, 717, (352, 170, 79, 35, 13)),
        ("mid_loose", 4_162, 15, 5_958, (2_904, 1_367, 633, 308, 151)),
        ("large_loose", 6_536, 48, 64_242, (31_378, 14_943, 6_946, 3_391, 1_683)),
    ],
)
def test_instances_have_the_published_figures(name: str, options: int, cells: int, free: int, chunks: tuple[int, ...] | None) -> None:
    """Options, cells, free devices and free chunks of 2 to 32 devices at seed 0."""
    fleet = fleet_named(name)
    assert (len(fleet.option_model), len(fleet.cell_type), fleet.free) == (options, cells, free)
    if chunks is not None:
        assert tuple(fleet.chunks(s) for s in (2, 4, 8, 16, 32)) == chunks


def test_need_of_mid_loose() -> None:
    """5,756 device-equivalents at t = 1, from the arrays and again from the snapshot."""
    fleet = fleet_named("mid_loose")
    assert round(fleet.need()) == 5_756
    assert round(sum(device_equivalents(*snapshot_of(fleet)).values())) == 5_756


def test_openb_has_the_published_figures() -> None:
    """1,213 nodes with 6,212 devices, half taken: free chunks of 1, 2, 4 and 8."""
    fleet = fleet_named("openb_loose")
    assert (len(fleet.node_size), int(fleet.node_size.sum())) == (1_213, 6_212)
    assert tuple(fleet.chunks(s) for s in (1, 2, 4, 8)) == (3_106, 1_452, 583, 148)


def test_greedy_baseline_gives_the_published_figures() -> None:
    """mid_loose, seed 0: 7,594 per hour, 0 / 0.13 / 4.0 % unmet (critical, standard, best effort)."""
    got = greedy(Fleet(*snapshot_of(fleet_named("mid_loose"))))
    assert round(got.cost) == 7_594
    assert [round(x, 2) for x in got.unmet_percent.values()] == [0.0, 0.13, 4.04]


def test_snapshot_carries_the_rules() -> None:
    """Critical models are spread strictly with at least 2 replicas; replicas above the node take whole nodes; seeds differ."""
    snapshot, demand = snapshot_of(fleet_named("small_loose"))
    critical = [m for m in snapshot.models if m.priority == 1000]
    assert critical
    assert all(m.spread is Spread.STRICT and m.max_domain_share_percent == 50 and m.min_replicas == 2 for m in critical)
    per_node = {c.profile: c.per_node for c in snapshot.cells}
    assert all(o.span * (per_node[o.profile] or 0) == o.devices for o in snapshot.options if o.span > 1)
    assert any(o.span > 1 for o in snapshot.options)
    assert len(demand.models) == len(snapshot.models)
    assert snapshot_of(fleet_named("small_loose", 1))[0] != snapshot


# ---- the referee

CELLS = (
    Cell("a", "a", "a", "v", (1, 2, 4), per_node=4, cost_per_device_hour=1.0, failure_domain="z1"),
    Cell("b", "b", "a", "v", (1, 2, 4), per_node=4, cost_per_device_hour=2.0, failure_domain="z2"),
)
NODES = (Node("a1", "a", 4, 4, 1), Node("a2", "a", 4, 4, 0), Node("b1", "b", 4, 4, 0), Node("b2", "b", 4, 4, 0))
OPTIONS = (
    Option("m|2", "m", "a", "v", "d", "e", 2, bucket_work=(1.0, 2.0)),
    Option("m|4", "m", "a", "v", "d", "e", 4, bucket_work=(4.0, 1.0)),
    Option("m|8", "m", "a", "v", "d", "e", 8, span=2, bucket_work=(8.0, 8.0)),
)
MODEL = Model("m", 1000, 2, 9, tenant="t", spread=Spread.STRICT)
SNAPSHOT = Snapshot(CELLS, NODES, (MODEL,), OPTIONS, (), Policy(quotas=(Quota("t", 12),)))
DEMAND = Demand((ModelDemand("m", 3.0, (1.0, 2.0)),))


def planned(*places: tuple[str, str, str], short: tuple[Shortfall, ...] = (), **changes: object) -> Plan:
    """A plan of starts at (option, cell, node)."""
    starts = tuple(Start("m", o, c, n) for o, c, n in places)
    target = tuple(Assignment("m", o, c, n, 1) for o, c, n in places)
    plan = Plan(target, (), (), starts, short, (), Outcome.FEASIBLE, "x", 0.0, 0.0, None, None)
    return replace(plan, **changes)  # type: ignore[arg-type]


def count(*places: tuple[str, str, str], snapshot: Snapshot = SNAPSHOT, short: tuple[Shortfall, ...] = ()) -> Count:
    return recount(snapshot, DEMAND, planned(*places, short=short))


GOOD = (("m|2", "a", "a1"), ("m|2", "b", "b1"))


def test_referee_accepts_a_good_plan_and_counts_it() -> None:
    """Two replicas of 2: 2 * 1 + 2 * 2 = 6 per hour; loads 1/1 + 2/2 = 2 replicas are served whole."""
    got = count(*GOOD)
    assert got.faults == ()
    assert (got.cost, got.served, got.unmet_percent, got.bind_failures, got.over_allocated) == (6.0, {"m": 1.0}, {1000: 0.0}, 0, 0)


@pytest.mark.parametrize(
    ("places", "fault"),
    [
        ((("m|4", "a", "a1"), ("m|4", "b", "b1")), "a1: more devices than it has"),
        ((("m|2", "b", "a1"), ("m|2", "b", "b1")), "on a1 of a, planned in b"),
        ((("m|2", "a", "a1"), ("m|2", "a", "a2")), "2 of 2 replicas in one failure domain"),
        ((("m|4", "a", "a2"), ("m|4", "b", "b1"), ("m|4", "b", "b2"), ("m|2", "a", "a1")), "quota of t: 14 devices, allowed 12"),
        ((("m|2", "a", "nowhere"), ("m|2", "b", "b1")), "not 1 nodes of the fleet"),
        ((("m|8", "a", "a1,a2"), ("m|2", "b", "b1")), "takes a part of a1"),
        ((("m|8", "b", "b1"), ("m|2", "a", "a1")), "not 2 nodes of the fleet"),
        ((("m|2", "a", "a1"),), "1 replicas below the minimum, not reported"),
        ((("m|2", "a", "a1"),), "50.000 % unmet, reported 0.000 %"),
    ],
)
def test_referee_catches(places: tuple[tuple[str, str, str], ...], fault: str) -> None:
    """Each kind of wrong plan is named."""
    got = count(*places)
    assert any(fault in f for f in got.faults), got.faults


def test_referee_counts_starts_that_do_not_fit() -> None:
    """Two starts of 2 on a node with 3 free: one of them has no place."""
    assert count(("m|2", "a", "a1"), ("m|2", "a", "a1")).bind_failures == 1


def test_referee_sees_the_moment_of_change() -> None:
    """A start may use a replica's devices only if it waits for that replica, and only if that replica goes."""
    running = replace(SNAPSHOT, replicas=(Replica("old", "m", "m|4", "b1", 4),))
    at_once = planned(*GOOD, stop=("old",))
    assert any("b1: more devices" in f for f in recount(running, DEMAND, at_once).faults)
    waits = replace(at_once, starts=(at_once.starts[0], replace(at_once.starts[1], after=("old",))))
    assert recount(running, DEMAND, waits).faults == ()
    stays = replace(waits, stop=(), keep=("old",), assignments=(*waits.assignments, Assignment("m", "m|4", "b", "b1", 1)))
    assert any("does not leave" in f for f in recount(running, DEMAND, stays).faults)


def test_shares_route_buckets_to_what_serves_them_best() -> None:
    """Loads (1, 2). One m|2 (1, 2) and one m|4 (4, 1): bucket 1 costs 1/4 of m|4, whose other 3/4 take 0.75 of bucket 2, m|2 takes the
    rest 1.25 of its 2: all served. Half of that fleet, m|4 alone, needs 1/4 + 2 = 2.25 replicas: 1/2.25."""
    options = {o.id: o for o in OPTIONS}
    assert shares(options, {"m": (1.0, 2.0)}, {"m": {"m|2": 1, "m|4": 1}}) == {"m": 1.0}
    assert shares(options, {"m": (1.0, 2.0)}, {"m": {"m|4": 1}})["m"] == pytest.approx(1 / 2.25)
    # Loads (4, 4): all of bucket 1 on m|4 leaves nothing there, m|2 serves 2 of 4. Both buckets at share p:
    # m|4 takes p of bucket 1 (p * 4/4) and (1 - p) * 1 of bucket 2, m|2 takes 2 of it: 4p = 2 + 1 - p, p = 0.6.
    assert shares(options, {"m": (4.0, 4.0)}, {"m": {"m|2": 1, "m|4": 1}})["m"] == pytest.approx(0.6)
    assert shares(options, {"m": (4.0, 4.0)}, {"m": {}}) == {"m": 0.0}


def test_room_of_the_baselines_keeps_quota_spread_and_whole_nodes() -> None:
    """Best fit takes the fuller node first; the second replica must go to the other zone; the quota of 12 ends it."""
    room = Room(SNAPSHOT)
    assert room.chunks("a", 2) == 1 + 2 + 2 + 2
    assert room.chunks("a", 8) == 1  # b1 and b2; a1 is not whole
    assert room.take(OPTIONS[0])
    assert room.free["a1"] == 1
    assert room.take(OPTIONS[2])
    assert (room.free["b1"], room.free["b2"]) == (0, 0)
    assert room.quota["t"] == 2
    assert not room.take(OPTIONS[1])


# ---- commands


def test_fleet_prints_one_line_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """A fleet of 6 nodes and 3 models: one JSON line, a number as gap, no fault, nothing over-allocated."""
    words = ["fleet", "--nodes", "6", "--models", "3", "--types", "2", "--subcells", "1", "--t", "1", "--seed", "2"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    line = json.loads(text)
    assert line.keys() >= KEYS
    assert isinstance(line["gap_percent"], float)
    assert line["gap_percent"] >= 0
    assert line["bound"] <= line["objective"] * (1 + 1e-9)
    assert (line["faults"], line["bind_failures"], line["services"]) == ([], 0, 3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fleet", "--instance", "huge"], "--instance 'huge': no such instance, allowed are"),
        (["fleet", "--nodes", "0", "--models", "3", "--types", "2", "--subcells", "1", "--t", "1"], "--nodes 0: allowed are 1 to"),
        (["fleet", "--nodes", "5", "--models", "3", "--types", "9", "--subcells", "1", "--t", "1"], "--types 9: allowed are 1 to 8"),
        (["fleet", "--nodes", "5", "--models", "3", "--types", "2", "--subcells", "1", "--t", "nan"], "--t nan"),
        (["loop", "--instance", "tiny", "--steps", "0"], "--steps 0"),
        (["loop", "--instance", "tiny", "--kappa", "-1"], "--kappa -1"),
        (["draw", "--services", "0", "--out", "x"], "--services 0"),
        (["suite", "--only", "everything"], "--only 'everything'"),
    ],
)
def test_bad_arguments_are_named(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 and a message with the argument, its value and what is allowed."""
    assert main(words) == 1
    assert told in capsys.readouterr().err


def test_drift_stays_within_its_walls_and_noise_within_5_percent() -> None:
    """Over 400 steps no model leaves [1/4, 4] of its first demand; 10 % change per step; noise is within 5 % of the first demand."""
    _, first = snapshot_of(fleet_named("small_loose"))
    base = np.array([d.bucket_work for d in first.models])
    before = base
    changed: list[int] = []
    for step in islice(loop.demands(first, 0, noise=False), 400):
        now = np.array([d.bucket_work for d in step.models])
        ratio = now[base > 0] / base[base > 0]
        assert ratio.min() >= 0.25 - 1e-9
        assert ratio.max() <= 4 + 1e-9
        changed.append(int((now != before).any(axis=1).sum()))
        before = now
    assert set(changed) == {5}
    for step in islice(loop.demands(first, 0, noise=True), 20):
        ratio = np.array([d.bucket_work for d in step.models])[base > 0] / base[base > 0]
        assert 0.95 <= ratio.min() <= ratio.max() <= 1.05


def test_loop_counts_no_change_under_noise() -> None:
    """A standing fleet answers noise with nothing: no start, removal or move in 3 steps, and no fault."""
    from placement.types import DEFAULT

    snapshot, demand = snapshot_of(fleet_named("tiny"), start_price=1.0)
    tally = loop.run(snapshot, demand, 3, noise=True, seed=0, effort=DEFAULT)
    assert (tally.steps, tally.starts, tally.removals, tally.moves) == (3, 0, 0, 0)
    assert (tally.bind_failures, tally.over_allocated, tally.fault_steps) == (0, 0, 0)


def test_best_fit_keeps_whole_nodes() -> None:
    """At 85 % load best fit keeps most of the possible whole nodes, the emptiest-first rule next to none (a property, not a figure)."""
    best, least = (fragmentation.simulate(rule, 0.85, events=3_000, nodes=100) for rule in ("BestFit", "LeastAllocated"))
    assert best.whole_percent > 70
    assert least.whole_percent < 5
    assert best.failed_percent < least.failed_percent
