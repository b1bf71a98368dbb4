"""From inputs to a checked plan: the solve, and beside it what a verdict would be worth, so that the right candidates are started.

    plan    = the fleet as it is, what is being tried included
    wish    = as if every pair that may be tried were verified (only while there are such pairs)
    trials  = the pairs that are worth a candidate now; then one more solve in which they take part

A candidate for which no devices are free is left out, its model says so, and the next model's is tried in its place; during a rollout it
may take the place of an earlier replica where availability permits. A rollout without room passes its turn on in the same way. Each
question is answered once: the same snapshot needs no second solve.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from placement.types import Demand, Plan, Snapshot, Warm
from polyfleet import demand, turns
from polyfleet.clearance import candidates
from polyfleet.clearance.candidates import SUFFIX, Trial, main_name
from polyfleet.hold import hold_plan
from polyfleet.inputs import Inputs
from polyfleet.metrics import Metrics
from polyfleet.solver_process import SolverFailed, SolverProcess

log = logging.getLogger(__name__)

PLAN, WISH, TRIAL = "plan", "wish", "trial"  # what a question is for: each has its own last answer and warm state
# Each question leaves out what the one before found no room for. Beyond so many the rest waits for a later cycle: a solve takes time.
QUESTIONS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    question: Snapshot
    demand: Demand
    plan: Plan
    warm: Warm | None
    millis: int


@dataclass(frozen=True, slots=True)
class Planned:
    """`inputs` with the candidates that start now. `solved`: whether anything new was asked. `failed`: why there is no plan, or ""."""

    inputs: Inputs
    plan: Plan
    millis: int | None = None
    solved: bool = False
    failed: str = ""


@dataclass(slots=True)
class Planner:
    solver: SolverProcess
    metrics: Metrics
    answers: dict[str, Answer] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)  # roles of this plan's questions

    async def plan(self, inputs: Inputs, now: str) -> Planned:
        """The plan in the models' own names, or the one that moves nothing."""
        self._asked.clear()
        told = await self._in_turn(inputs, now)
        if told.failed:
            return told
        told = await self._tried(told, now)
        self.answers = {role: answer for role, answer in self.answers.items() if role in self._asked}
        return told

    async def _in_turn(self, inputs: Inputs, now: str) -> Planned:
        """The plan by which no more models roll than may, with a turn for whoever can use one that another one cannot."""
        latest = told = await self._planned(PLAN, inputs, now)
        solved, gave = told.solved, frozenset[str]()
        for number in range(1, QUESTIONS):
            if latest.failed:
                break
            gave |= turns.gave(latest.inputs, latest.plan)
            following = turns.passed_on(latest.inputs, latest.plan, now, gave)
            if following is None:
                break
            latest = await self._planned(f"{PLAN} {number}", following, now)
            solved |= latest.solved
            if not latest.failed and not turns.too_many(latest.inputs, latest.plan):
                told = latest
        return replace(told, solved=solved)

    async def _planned(self, role: str, inputs: Inputs, now: str) -> Planned:
        before = self.answers.get(role)
        found = await self._ask(role, candidates.asked(inputs, now=now), inputs)
        if isinstance(found, SolverFailed):
            said = f"{found.kind}: {found.message}"
            return Planned(inputs, hold_plan(inputs.snapshot, inputs.demand, said[:300]), failed=said)
        return Planned(inputs, candidates.merged(found.plan), found.millis, found is not before)

    async def _tried(self, told: Planned, now: str) -> Planned:
        snapshot = candidates.wish(told.inputs)
        if snapshot is None:
            return told
        wished = await self._ask(WISH, snapshot, told.inputs)
        if isinstance(wished, SolverFailed):
            return told
        return await self._with(told, wished.plan, now)

    async def _with(self, told: Planned, wished: Plan, now: str) -> Planned:
        """With the trials that find devices; the others are told as what they lack, and their turn is the next ones'."""
        lacking: dict[str, Plan] = {}
        yielding: dict[str, Trial] = {}
        for number in range(QUESTIONS):
            trials = candidates.choose(told.inputs, told.plan, wished, lacking.keys())
            trials |= {key: trial for key, trial in yielding.items() if key in trials}
            if not trials:
                break
            inputs = candidates.with_trials(told.inputs, trials)
            found = await self._ask(f"{TRIAL} {number}", candidates.asked(inputs, trials, now), inputs)
            if isinstance(found, SolverFailed):
                break
            if room := candidates.make_room(inputs, found.plan, trials):
                yielding |= {key: trial for key, trial in room.items() if trial.room}
                continue
            short = {main_name(item.model) for item in found.plan.shortfalls if item.model.endswith(SUFFIX)} & trials.keys()
            if not short:
                plan = candidates.merged(found.plan)
                return replace(told, inputs=inputs, plan=_told(plan, lacking), millis=found.millis, solved=True)
            lacking |= dict.fromkeys(short, found.plan)
        return replace(told, plan=_told(told.plan, lacking))

    async def _ask(self, role: str, snapshot: Snapshot, inputs: Inputs) -> Answer | SolverFailed:
        self._asked.add(role)
        last, wanted = self.answers.get(role), demand.demand(snapshot.models, inputs.demand.models)
        if last is not None and (last.question, last.demand) == (snapshot, wanted):
            return last
        outcome = await self.solver.solve(snapshot, wanted, last.warm if last is not None else None)
        if not isinstance(outcome, SolverFailed) and outcome.violations:
            outcome = SolverFailed("Violations", "the plan breaks a rule: " + "; ".join(outcome.violations[:3]), outcome.seconds)
        if isinstance(outcome, SolverFailed):
            self.metrics.solver_outcomes.labels(outcome.kind, "None").inc()
            self.metrics.solver_seconds.observe(outcome.seconds)
            log.error("no usable plan", extra={"kind": outcome.kind, "detail": outcome.message, "question": role})
            return outcome
        self.metrics.solved(outcome.plan, outcome.seconds)
        self.answers[role] = Answer(snapshot, wanted, outcome.plan, outcome.warm, round(outcome.seconds * 1000))
        return self.answers[role]


def _told(plan: Plan, lacking: Mapping[str, Plan]) -> Plan:
    """`plan` with the shortfalls of candidates that found no devices."""
    there = {item.model for item in plan.shortfalls}
    rows = (row for key, other in sorted(lacking.items()) for row in other.shortfalls if row.model == key + SUFFIX)
    added = tuple(row for row in rows if row.model not in there)
    return replace(plan, shortfalls=(*plan.shortfalls, *added)) if added else plan
