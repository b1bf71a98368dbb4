"""`policy.defragment`: a plan in which somebody is short becomes one in which running replicas make room, where that helps.

    plan -> the fewest moves after which one more replica fits (`defragment`) -> stops, starts, and the newcomer behind the stops -> check

Only moves that can all start at once, into devices that are free now, so each replica may serve on its new node before the old one stops.
They come out of the moves that are left in this hour; young replicas, those of held models and of models that may not be preempted stay. A
plan that `check` refuses, or in which nobody is served better, is dropped and the one before it stays. Nothing is moved for a replica that
would take away no shortfall, or less than the moves cost.

The bound of the plan before does not hold for the new one (no plan was allowed to move anybody for an equal priority), so it has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from placement import _solver
from placement.bind import bound
from placement.check import check
from placement.defragment import Defragment, among
from placement.finish import How, Sheet
from placement.nodes import members
from placement.problem import Problem, way
from placement.types import Demand, Effort, Outcome, Plan, ReplicaState, Start

ROUNDS = 8  # replicas that room is made for in one plan
LOOKED_AT = 20  # short models that are looked at, in the order of ranks
SHOWN = 900  # characters of the message

Left = Callable[[], float]


def with_room(
    problem: Problem, demand: Demand, plan: Plan, engine: _solver.Solve, effort: Effort, rows: How, left: Left = lambda: 10.0
) -> Plan:
    """`plan` with the moves that let short models have more. `rows`: how the plan came about; `left`: seconds that the watchdog leaves."""
    told: list[str] = []
    for _ in range(ROUNDS):
        short = [s.model for s in plan.shortfalls]
        if not short or left() <= 0:
            break
        limits = _solver.Limits(nodes=effort.mip_nodes, seconds=left(), search_gap=0.0)
        found = among(problem, plan, _first(problem, short), engine, limits, at_once=True)
        if found is None or found.gain <= found.price:
            break
        better = _applied(problem, demand, plan, found, effort, rows, [*told, found.reason])
        if better is None:
            break
        told.append(found.reason)
        plan = better
    return plan


def _first(problem: Problem, short: list[str]) -> set[str]:
    rank = {m.name: problem.rank[i] for i, m in enumerate(problem.models)}
    return set(sorted(short, key=lambda name: (rank[name], name))[:LOOKED_AT])


def _applied(problem: Problem, demand: Demand, plan: Plan, found: Defragment, effort: Effort, rows: How, told: list[str]) -> Plan | None:
    moved = {move.replica for move in found.moves}
    stop = moved.union(plan.stop)
    starts = [*plan.starts, *(Start(m.model, m.option, found.cell, m.target) for m in found.moves)]
    leaving = stop | {r.id for r in problem.snapshot.replicas if r.state is ReplicaState.DRAINING}
    nodes = set(members(found.node))
    after = tuple(sorted(r.id for r in problem.snapshot.replicas if r.id in leaving and nodes & set(members(r.node))))
    starts.append(Start(found.model, found.option, found.cell, found.node, after))
    _know(problem, starts)
    how = replace(
        rows,
        outcome=Outcome.FEASIBLE if plan.outcome in (Outcome.OPTIMAL, Outcome.KEPT_OLD) else plan.outcome,
        solver=rows.solver,
        engine=plan.engine,
        decided_by=plan.decided_by,
        message="; ".join(told)[:SHOWN],
        distance=None,
        relative=None,
        pool_gap=None,
    )
    better = Sheet(problem, bound(problem, stop, starts)).plan(how, effort)
    if check(problem.snapshot, demand, better, explained=effort.explain) or not _helps(plan, better, found.model):
        return None
    return better


def _know(problem: Problem, starts: list[Start]) -> None:
    """Large fleets know only the ways that their plan uses."""
    cells = {c.name: i for i, c in enumerate(problem.cells)}
    known = {(w.option, w.cell) for w in problem.ways}
    for s in starts:
        key = (problem.option_index[s.option], cells[s.cell])
        if key not in known:
            known.add(key)
            problem.ways.append(way(problem, *key, len(problem.ways)))


def _helps(plan: Plan, better: Plan, model: str) -> bool:
    """Whether the model lacks less and nobody lacks more."""
    before, after = ({s.model: (s.replicas, s.unmet_share) for s in p.shortfalls} for p in (plan, better))
    none = (0, 0.0)
    if any(after[m][0] > before.get(m, none)[0] or after[m][1] > before.get(m, none)[1] + 1e-6 for m in after):
        return False
    return after.get(model, none) < before[model]
