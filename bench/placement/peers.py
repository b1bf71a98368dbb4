"""`peers`: polyfleet beside the planners of other projects, on the same candidates and stock, every answer judged by a referee.

| part | against | instances |
|---|---|---|
| services | WVA's greedy, Kthena's and Kueue's rules (re-implemented) | five kept files; drawn ones, 27 to 432 services, four loads |
| aibrix | AIBrix 0.8.0's own package, raw and as deployed; Mélange (re-implemented) | 150 one-model cases |
| melange | Mélange (re-implemented) | its sweep over types, buckets and rates |
| baselines | greedy, one program per model, LP prices, POP-4 | fleets |
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.placement import aibrix, baselines, checker, family, inferno, melange, onemodel, rules
from bench.placement.instances import CLASSES, PRIORITIES, fleet_named, snapshot_of
from bench.placement.measure import cpu_seconds
from bench.placement.openb import DATA
from bench.placement.services import Instance, read, write, write_answer
from bench.placement.solve import EFFORTS
from tools.paths import ROOT

Line = dict[str, Any]
KEPT = ("services15", "services27", "services27_load1.1", "services27_load2", "services108")
SIZES, LOADS = (27, 108, 216, 432), (1.0, 1.1, 1.25, 1.5)
SEEDS = range(int(os.environ.get("BENCH_SEEDS", "5")))
PLANNERS: dict[str, Callable[[Instance], list[tuple[str, str, int]]]] = {
    "WVA greedy": inferno.solve,
    "Kthena rule": rules.kthena,
    "Kueue rule": rules.kueue,
}
PATIENCE = 240.0  # seconds of solver time; a peer that needs more is shown as a time-out


def command_line(*words: str) -> Line:
    """One command of this package in a process of its own, so that its CPU time and memory are its own; its last line as JSON."""
    done = subprocess.run([sys.executable, "-m", "bench.placement", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"python -m bench.placement {' '.join(words)}: {done.stderr.strip()[-2000:]}")
    found: Line = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def services(quick: bool) -> Iterator[Line]:
    """One line per instance: placed, cost and CPU of every planner."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        for name in KEPT[:3] if quick else KEPT:
            data = DATA / "services"
            yield {"instance": name, **_services(data / f"{name}.csv.gz", data / f"{name}.stock.csv", at)}
        for size in (27,) if quick else SIZES:
            for load in LOADS:
                for seed in range(1) if quick else SEEDS:
                    one, two = at / "drawn.csv.gz", at / "drawn.stock.csv"
                    write(family.draw(size, load, seed), one, two)
                    yield {"instance": f"drawn{size}", "size": size, "load": load, "seed": seed, **_services(one, two, at)}


def _services(one: Path, two: Path, at: Path) -> Line:
    ours = command_line("solve", "--services", str(one), "--stock", str(two), "--out", str(at / "ours.csv"))
    verdict = checker.judge(one, two, at / "ours.csv")
    found: Line = {
        "services": verdict.services,
        "ours": {**ours, "valid": verdict.ok, "per_priority": list(verdict.placed_per_priority.values())},
    }
    instance = read(one, two)
    for name, planner in PLANNERS.items():
        begin = cpu_seconds()
        answer = planner(instance)
        took = cpu_seconds() - begin
        write_answer(at / "peer.csv", answer)
        judged = checker.judge(one, two, at / "peer.csv")
        found[name] = {
            "placed": judged.placed,
            "cost": judged.cost,
            "per_priority": list(judged.placed_per_priority.values()),
            "valid": judged.ok,
            "cpu_seconds": round(took, 4),
        }
    return found


def one_model(quick: bool) -> Iterator[Line]:
    """One line per case: cost over the optimum in percent per planner."""
    cases = onemodel.cases()[:: 10 if quick else 1]
    answers = aibrix.solve(cases)
    for case, theirs in zip(cases, answers, strict=True):
        best = onemodel.optimum(case)
        cost, seconds, counts = onemodel.ours(case)
        line: Line = {"case": case.name, "rate": round(case.rate, 3), "optimum": round(best, 6)}
        line["ours"] = {"over_percent": _over(cost, best), "cpu_seconds": round(seconds, 4), "covers": onemodel.covers(case, counts)}
        for slices in (1, 4):
            answer, took = melange.solve(case, slices, PATIENCE)
            line[f"Mélange slice {slices}"] = _judged(case, answer, best, took)
        line["AIBrix solver"] = _judged(case, theirs["raw"], best, theirs["raw_cpu"])
        line["AIBrix as deployed"] = _judged(case, theirs["deployed"], best, theirs["deployed_cpu"])
        yield line


def _judged(case: onemodel.Case, answer: dict[str, int] | None, best: float, seconds: float) -> Line:
    if answer is None:
        return {"over_percent": None, "cpu_seconds": round(seconds, 4), "covers": False}
    cost = sum(answer[g] * c for g, c in zip(case.gpus, case.costs, strict=True))
    return {"over_percent": _over(cost, best), "cpu_seconds": round(seconds, 4), "covers": onemodel.covers(case, answer)}


def _over(cost: float, best: float) -> float:
    return round(100 * (cost / best - 1), 6)


def sweep(quick: bool) -> Iterator[Line]:
    """Mélange's sweep. None = no proven answer within the patience."""
    rows = [(4, 60, rate, slices) for rate in (1, 16, 64, 256) for slices in (4, 8)]
    rows += [] if quick else [(8, 220, rate, slices) for rate in (16, 128) for slices in (4, 8)]
    for types, buckets, rate, slices in rows[: 4 if quick else None]:
        case = onemodel.sweep_case(types, buckets, float(rate))
        best = onemodel.optimum(case)
        cost, seconds, counts = onemodel.ours(case)
        answer, took = melange.solve(case, slices, PATIENCE)
        yield {
            "types": types,
            "buckets": buckets,
            "rate": rate,
            "slices": slices,
            "optimum": round(best, 4),
            "ours": {
                "cost": round(cost, 4),
                "over_percent": _over(cost, best),
                "cpu_seconds": round(seconds, 4),
                "covers": onemodel.covers(case, counts),
            },
            "Mélange": _judged(case, answer, best, took),
        }


def fleets(quick: bool) -> Iterator[Line]:
    """Baselines on fleets; polyfleet's own line of the same instance comes from `fleet`."""
    for name in ("small_loose", "small_scarce") if quick else ("mid_loose", "mid_scarce"):
        snapshot, demand = snapshot_of(fleet_named(name))
        fleet = baselines.Fleet(snapshot, demand)
        makers: tuple[Callable[[], baselines.Result], ...] = (
            lambda fleet=fleet: baselines.greedy(fleet),  # type: ignore[misc]
            lambda fleet=fleet: baselines.per_model(fleet),  # type: ignore[misc]
            lambda fleet=fleet: baselines.lp_prices(fleet),  # type: ignore[misc]
            lambda fleet=fleet: baselines.pop(fleet, EFFORTS["default"]),  # type: ignore[misc]
        )
        for make in makers:
            begin = cpu_seconds()
            got = make()
            unmet = {CLASSES[PRIORITIES.index(p)]: round(share, 4) for p, share in got.unmet_percent.items()}
            yield {
                "instance": name,
                "baseline": got.name,
                "cost": round(got.cost, 2),
                "unmet_percent": unmet,
                "cpu_seconds": round(cpu_seconds() - begin, 3),
            }


PARTS: dict[str, Callable[[bool], Iterator[Line]]] = {"services": services, "aibrix": one_model, "melange": sweep, "baselines": fleets}


def worse(line: Line) -> list[str]:
    """The planners that beat polyfleet on this services instance: more placed in order of priority, or as many for less."""
    mine = line["ours"]
    return [
        name
        for name in PLANNERS
        if name in line
        and (
            line[name]["per_priority"] > mine["per_priority"]
            or (line[name]["per_priority"] == mine["per_priority"] and line[name]["cost"] < mine["cost"] * (1 - 1e-9))
        )
    ]


def middle_and_worst(values: list[float]) -> tuple[float, float]:
    return median(values), max(values)


def command(only: str | None, quick: bool) -> int:
    for name, part in PARTS.items():
        if only in (None, name):
            for line in part(quick):
                print(json.dumps({"part": name, **line}, ensure_ascii=False), flush=True)
    return 0
