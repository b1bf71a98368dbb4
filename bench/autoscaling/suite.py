"""bench/results/autoscaling.json: every run that the report quotes, in sections that replace only themselves.

One row is one replay. Runs of one load, cold start and seed share their references, so they are made together; groups run beside each
other on `jobs` cores. `--quick` is one seed at a cold start of 120 s, defaults only, and
twelve hours of the fortnight.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from autoscaling.replay.baselines import BASELINES, Baseline
from autoscaling.replay.harness import Result, run
from autoscaling.replay.loads import Load, load
from autoscaling.replay.outage import Kind, Outage
from autoscaling.replay.search import Search
from autoscaling.replay.series import series
from autoscaling.replay.shipped import GOALS, Shipped
from bench.autoscaling import mixed
from bench.autoscaling.replay import figures, passes, within
from tools.paths import ROOT

RESULTS = ROOT / "bench/results/autoscaling.json"
LOADS = ("conv3", "code1", "ramp10h")
COLD_STARTS_S = (60.0, 120.0, 180.0)
SEEDS = (0, 1, 2)
OUTAGE_S = (1500.0, 2100.0)  # ten minutes at the peak of conv3
OUTAGE_WINDOW_S = (1500.0, 2700.0)  # judged: twenty minutes
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.6, 2.2)
WORTH_A_REFERENCE = 0.5  # below this attainment hours are not compared
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one part, load, cold start and seed."""

    part: str
    load: str
    cold_start_s: float
    seed: int
    folder: str
    hours: float | None = None  # of `series14`; None = days 8 to 14


@lru_cache(maxsize=4)
def _load(name: str, folder: str, seed: int, hours: float | None = None) -> Load:
    if name == "series14":
        return series(Path(folder), seed, hours=hours)
    return load(name, Path(folder), seed)


def measure(group: Group) -> list[Row]:
    """All rows of a group."""
    of = _load(group.load, group.folder, group.seed, group.hours)
    search = Search(of, group.cold_start_s, group.seed, within_s=within(group.load), processes=1)
    rows = []
    for policy, knob, result, more in _PARTS[group.part](of, group):
        row = (
            figures(of, result, search)
            if group.part in ("targets", "series")
            else _figures(result, search if group.part in _WITH_REFERENCES else None, within(group.load))
        )
        common = {"load": group.load, "cold_start_s": group.cold_start_s, "seed": group.seed, "policy": policy, "knob": knob}
        rows.append({**common, **row, **more})
    return rows


def _figures(result: Result, search: Search | None, within_s: float) -> Row:
    own = result.attainment(within_s)
    hours = search.clairvoyant_hours(own) if search and own >= WORTH_A_REFERENCE else None
    return {
        "attainment_2s": round(result.attainment_2s, 6),
        "attainment_10s": round(result.attainment_10s, 6),
        "replica_hours": round(result.replica_hours, 3),
        "clairvoyant_hours": None if hours is None else round(hours, 3),
        "events": result.events,
        "starts": result.starts,
    }


_Runs = Iterator[tuple[str, float | None, Result, Row]]


def _targets(of: Load, group: Group) -> _Runs:
    for number in (1, 2) if of.name == "code1" else (1,):
        begun = time.process_time()
        result, policy = passes(of, group.cold_start_s, group.seed, number)
        yield "decide", None, result, {"passes": number, "cpu_s": round(time.process_time() - begun, 1), "reasons": policy.reasons}


def _curve(of: Load, group: Group) -> _Runs:
    """The shipped decision with a share of what it asks for: its hours at the attainments of the others."""
    for share in SHARES:
        policy = Shipped(GOALS[of.name], group.cold_start_s, share=share)
        yield "decide", share, run(of, policy, cold_start_s=group.cold_start_s, seed=group.seed), {}


def _baseline(of: Load, group: Group, one: Baseline, knob: float) -> Result:
    return run(of, one.make(knob, group.cold_start_s), cold_start_s=group.cold_start_s, seed=group.seed)


def _defaults(of: Load, group: Group) -> _Runs:
    for one in BASELINES:
        yield one.name, one.default, _baseline(of, group, one, one.default), {}


def _knobs(of: Load, group: Group) -> _Runs:
    for one in BASELINES:
        for knob in one.knobs:
            if knob != one.default:
                yield one.name, knob, _baseline(of, group, one, knob), {}


def _outages(of: Load, group: Group) -> _Runs:
    chosen = [one for one in BASELINES if one.name in ("HPA in-flight", "KPA in-flight", "demand hysteresis")]
    limits = of.limits(within(of.name))
    inside = (of.arrival >= OUTAGE_WINDOW_S[0]) & (of.arrival < OUTAGE_WINDOW_S[1])
    for kind in (None, *Kind):
        policies: list[tuple[str, float | None, Any]] = [("decide", None, Shipped(GOALS[of.name], group.cold_start_s))]
        # the in-flight targets of the design's 3c, the best that these two had on this load
        policies += [(one.name, one.default if one.name == "demand hysteresis" else 0.35, None) for one in chosen]
        for name, knob, made in policies:
            policy = made or next(one for one in chosen if one.name == name).make(knob or 0.0, group.cold_start_s)
            distortion = None if kind is None else Outage(kind, *OUTAGE_S)
            result = run(of, policy, cold_start_s=group.cold_start_s, seed=group.seed, distortion=distortion)
            met = float((result.ttft[inside] <= limits[inside]).mean())
            yield name, knob, result, {"outage": "none" if kind is None else str(kind), "attainment_window": round(met, 6)}


def _mixed(of: Load, group: Group) -> _Runs:
    for line in mixed.lines(of, group.seed, within(of.name)):
        yield line.policy, line.knob, line.run.result, line.more()


_PARTS = {
    "targets": _targets,
    "series": _targets,
    "curve": _curve,
    "defaults": _defaults,
    "knobs": _knobs,
    "outages": _outages,
    "mixed": _mixed,
}
_WITH_REFERENCES = ("targets", "series", "defaults")
PARTS = tuple(_PARTS)


def groups(part: str, folder: Path, *, quick: bool) -> list[Group]:
    """`knobs` and `curve` take one seed: their differences are many times those between seeds. At other cold starts than 120 s `knobs`
    leaves out the ten-hour load; a knob for all loads is chosen at 120 s."""
    if part == "series":
        return [Group(part, "series14", 120.0, seed, str(folder), 12.0 if quick else None) for seed in SEEDS[: 1 if quick else None]]
    if part == "outages":
        return [Group(part, "conv3", 120.0, seed, str(folder)) for seed in SEEDS[: 1 if quick else None]]
    if part == "mixed":
        return [Group(part, name, 120.0, seed, str(folder)) for name in ("conv3", "code1") for seed in SEEDS[: 1 if quick else None]]
    found = []
    for name in LOADS:
        for cold in (120.0,) if quick else COLD_STARTS_S:
            if part == "knobs" and name == "ramp10h" and cold != 120.0:
                continue
            seeds = SEEDS[:1] if quick or part in ("knobs", "curve") else SEEDS
            found += [Group(part, name, cold, seed, str(folder)) for seed in seeds]
    return found


def read(path: Path = RESULTS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def command(only: list[str] | None, folder: Path, out: Path, jobs: int | None, *, quick: bool) -> int:
    """Measures the parts named, or all, and writes each section as soon as it is whole."""
    for part in only or [part for part in PARTS if not (quick and part == "knobs")]:
        begun = time.monotonic()
        work = groups(part, folder, quick=quick)
        rows: list[Row] = []
        with ProcessPoolExecutor(min(jobs or os.cpu_count() or 1, len(work)), get_context("spawn")) as pool:
            for group, found in zip(work, pool.map(measure, work), strict=True):
                rows += found
                print(f"{part}: {group.load}, cold start {group.cold_start_s:g} s, seed {group.seed}: {len(found)} runs", flush=True)
        section = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
            "quick": quick,
            "seconds": round(time.monotonic() - begun),
            "rows": rows,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**read(out), part: section}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0
