"""The replay gives the figures of two independent earlier ones (autoscaling design, §2.4 and §4.2b); and its reference is no weaker."""

from __future__ import annotations

from functools import cache

import pytest

from autoscaling.replay.compiled import COMPILED
from autoscaling.replay.loads import Load, load
from autoscaling.replay.reference import Point, clairvoyant, frontier, hours_at, static
from bench.autoscaling.calibration import CLAIRVOYANT, COLD_START_S, DATA, OVER, POINTS, STATIC

# Width of the bins and utilisation of runs that together show every line of the table; `bench.autoscaling calibrate` searches wholly.
SETTINGS = {
    "conv3": ((60, 1.05), (60, 1.0), (120, 0.9), (60, 0.9), (30, 0.9), (60, 0.8)),
    "code1": ((30, 0.7), (30, 0.8), (30, 0.3)),
    "ramp10h": ((60, 0.95), (30, 1.0), (60, 0.89)),
}
# One replay of this load takes ten times as long in plain Python: there one run of each kind must do.
SLOW = "" if COMPILED else "ramp10h"


@cache
def traced(name: str) -> Load:
    return load(name, DATA, 0)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_fixed_sizes_attain_what_both_earlier_replays_found(name: str) -> None:
    rows = [row for row in STATIC if row[0] == name]
    for _, within, size, stated in rows[1:2] if name == SLOW else rows:
        found = 100.0 * static(traced(name), size).attainment(within)
        assert any(abs(found - value) <= POINTS for value in stated), (name, size, found, stated)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_the_clairvoyant_needs_no_more_hours_than_the_better_earlier_one(name: str) -> None:
    settings = SETTINGS[name][:1] if name == SLOW else SETTINGS[name]
    runs = [clairvoyant(traced(name), bin_s=width, use=use, cold_start_s=COLD_START_S, seed=0) for width, use in settings]
    for _, within, attainment, stated in (row for row in CLAIRVOYANT if row[0] == name):
        curve = frontier(Point(run.attainment(within), run.replica_hours, "") for run in runs)
        needed = hours_at(curve, attainment / 100.0)
        if name == SLOW and needed is None:
            continue
        assert needed is not None, (name, attainment)
        assert needed <= stated * OVER, (name, attainment, needed, stated)


def test_the_loads_are_those_of_the_design() -> None:
    # §2.1 and §2.3: requests and mean demand in reference replicas
    figures = {"conv3": (58_098, 9.8), "code1": (8_819, 1.7), "ramp10h": (624_980, 7.7)}
    for name, (requests, mean) in figures.items():
        found = traced(name)
        assert len(found.arrival) == requests
        assert found.work.sum() / found.arrival[-1] == pytest.approx(mean, abs=0.05)
