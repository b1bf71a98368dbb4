"""Targets of the autoscaling design, §7, against measured rows: what is met, what is not, by how much.

A target is met only if the mean over all seeds meets it. Hours alone favour whoever serves worse, so another policy is compared with the
shipped one at the other's attainment: with hours by straight lines between runs of the shipped decision that was given 0.5 to 2.2 times
what it asks for. That is a crude knob, which flatters nobody but the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from autoscaling.replay.reference import Point, frontier, hours_at
from bench.autoscaling.replay import within

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table."""

    load: str
    what: str
    measured: str
    met: bool | None  # None = not measured


def of(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def attained(row: Row) -> float:
    """Within the limit of the load's goal."""
    value: float = row["attainment_10s" if within(row["load"]) > 2.0 else "attainment_2s"]
    return value


def ratio(row: Row) -> float | None:
    """Hours over the clairvoyant's; None where it has none at that attainment."""
    return None if not row["clairvoyant_hours"] else row["replica_hours"] / row["clairvoyant_hours"]


def mean(values: Iterable[float | None]) -> float | None:
    """None if there is none, or one is not known."""
    found = list(values)
    if not found or any(value is None for value in found):
        return None
    return fmean(value for value in found if value is not None)


def targets(rows: Sequence[Row], series: Sequence[Row], outages: Sequence[Row]) -> list[Target]:
    """Those that this part of the bench measures, at a cold start of 120 s."""
    at = of(rows, cold_start_s=120.0, policy="decide")
    found = [
        _ratio_target(of(at, load="ramp10h"), "ramp10h", 0.985, 1.10, 60),
        _ratio_target(of(at, load="conv3"), "conv3", 0.985, 1.05, None),
        _hours_target(of(at, load="code1", passes=1), "from no knowledge", 0.92, 8.0),
        _hours_target(of(at, load="code1", passes=2), "second pass, learned state kept", 0.95, 8.6),
    ]
    found.append(_ratio_target(series, "series14, days 8 to 14", 0.98, 1.25, None))
    return [*found, *_outage_targets(outages)]


def _ratio_target(rows: Sequence[Row], load: str, least: float, most: float, events: int | None) -> Target:
    what = f"≥ {100 * least:g} % within 2 s at ≤ {most:.2f}x the clairvoyant's hours" + (f", < {events} events" if events else "")
    if not rows:
        return Target(load, what, "not measured", None)
    met, over, count = fmean(map(attained, rows)), mean(map(ratio, rows)), fmean(row["events"] for row in rows)
    shown = "–" if over is None else f"{over:.2f}x"
    good = met >= least and over is not None and over <= most and (events is None or count < events)
    hours = fmean(row["replica_hours"] for row in rows)
    return Target(load, what, f"{100 * met:.2f} % at {shown} ({hours:.1f} h), {count:.0f} events", good)


def _hours_target(rows: Sequence[Row], which: str, least: float, most: float) -> Target:
    what = f"{which}: ≥ {100 * least:g} % within 10 s at ≤ {most:.1f} h"
    if not rows:
        return Target("code1", what, "not measured", None)
    met, hours = fmean(map(attained, rows)), fmean(row["replica_hours"] for row in rows)
    return Target("code1", what, f"{100 * met:.2f} % at {hours:.2f} h", met >= least and hours <= most)


def _outage_targets(rows: Sequence[Row]) -> list[Target]:
    clean = of(rows, policy="decide", outage="none")
    found = []
    for kind in dict.fromkeys(row["outage"] for row in rows if row["outage"] != "none"):
        what = f"ten-minute outage at the peak, {kind}: ≤ 1 point, hours ≤ +5 %"
        hit = of(rows, policy="decide", outage=kind)
        if not clean or not hit:
            found.append(Target("conv3", what, "not measured", None))
            continue
        lost = 100.0 * (fmean(r["attainment_window"] for r in clean) - fmean(r["attainment_window"] for r in hit))
        more = fmean(r["replica_hours"] for r in hit) / fmean(r["replica_hours"] for r in clean) - 1.0
        found.append(
            Target("conv3", what, f"{lost:.2f} points lost in twenty minutes, hours {100 * more:+.1f} %", lost <= 1.0 and more <= 0.05)
        )
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """One other policy at one knob and cold start beside the shipped one. `ours`: hours of the shipped one at the other's attainment,
    None = beyond what it was tried for; `cheaper`: whether that is less than the other's hours. `bound`: the other attains less than the
    shipped one at its smallest share, whose hours stand in, so a yes is sure and a no is none."""

    load: str
    policy: str
    knob: float
    attainment: float
    hours: float
    over: float | None
    ours: float | None
    cheaper: bool | None
    bound: bool = False


def compare(curve: Sequence[Row], theirs: Sequence[Row]) -> Compared:
    """Rows of one load and cold start. `curve`: the shipped decision with several shares of what it asks for. Each seed of the other is
    compared on its own; a curve of one seed serves for all."""
    first = theirs[0]
    met, hours, over = fmean(map(attained, theirs)), fmean(row["replica_hours"] for row in theirs), mean(map(ratio, theirs))
    lines = {seed: frontier(_points(of(curve, seed=seed))) for seed in sorted({row["seed"] for row in curve})}
    found = [hours_at(lines.get(row["seed"], lines[min(lines)]), attained(row)) for row in theirs] if lines else []
    ours = mean(found)
    bound = bool(lines) and met < min(line[0].attainment for line in lines.values())
    cheaper = None if ours is None else ours <= hours
    if bound and not cheaper:
        cheaper = None
    return Compared(first["load"], first["policy"], first["knob"], met, hours, over, ours, cheaper, bound)


def cost_at(curve: Sequence[Row], attainment: float) -> float | None:
    """Cost of the shipped decision at that attainment, from its runs with several shares; None above and below them."""
    line = frontier(Point(attained(row), row["cost"], "") for row in curve)
    return None if not line or attainment < line[0].attainment else hours_at(line, attainment)


def _points(rows: Iterable[Row]) -> list[Point]:
    return [Point(attained(row), row["replica_hours"], f"share {row['knob']:g}") for row in rows]


def best_knob(rows: Sequence[Row], goals: dict[str, float]) -> float:
    """The one knob for all loads: reaches most of the goals, then costs least over the clairvoyant; missing points count as hours do."""

    def badness(knob: float) -> tuple[float, float]:
        chosen = of(rows, knob=knob)
        by_load = {load: of(chosen, load=load) for load in goals}
        missing = sum(max(0.0, goal - fmean(map(attained, by_load[load]))) for load, goal in goals.items() if by_load[load])
        return round(missing, 3), sum(row["replica_hours"] for row in chosen)

    found: float = min(sorted({row["knob"] for row in rows}), key=badness)
    return found
