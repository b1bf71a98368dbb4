"""The one cycle: observe, prepare, plan, check, act, apply, report. Level-triggered: it looks at what is, never at what changed.

Whatever goes wrong, the cycle ends with a value or is tried again with a growing delay, and nothing is done on a doubtful view: without
a readable list of our own objects there is no cycle, without a checked plan nothing moves (`hold`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from placement.types import Plan, Warm
from polyfleet import decide, seed
from polyfleet.actions import Report
from polyfleet.apply import Applier, Written
from polyfleet.cache import REQUIRED, Cache
from polyfleet.errors import Fenced
from polyfleet.events import EventPoster
from polyfleet.expectations import Expectations
from polyfleet.hold import hold_plan
from polyfleet.metrics import Metrics
from polyfleet.queue import Backoff, Clock, DirtyQueue
from polyfleet.solver_process import SolverFailed, SolverProcess

log = logging.getLogger(__name__)

RETRY_LOOK_S = 15.0  # how often a pause before the retry of a rejected pod is looked at; the shortest pause is 5 s
CYCLE = "cycle"  # the queue's and the back-off's key for the cycle itself


@dataclass(slots=True)
class Solution:
    """The last plan and what it was made of: the same input needs no second solve."""

    question: tuple[Any, Any] | None = None
    plan: Plan | None = None
    warm: Warm | None = None


@dataclass(slots=True)
class Cycle:
    queue: DirtyQueue
    cache: Cache
    expectations: Expectations
    solver: SolverProcess
    applier: Applier
    events: EventPoster
    metrics: Metrics
    clock: Clock
    seeded: seed.Seeded = field(default_factory=seed.Seeded)
    on_report: Callable[[Plan, Report], None] = lambda _plan, _report: None  # hook: PlacementPlan objects come with a later slice
    solution: Solution = field(default_factory=Solution)
    last_summary: Any = None
    backoff: Backoff = field(default_factory=Backoff)

    async def run(self) -> None:
        """Cycles for ever; ends only by losing the right to write."""
        while True:
            triggers = await self.queue.wait()
            started = self.clock()
            try:
                ran = await self.once(triggers)
            except Exception as error:  # a bug in one stage must not end the operator: counted, told, tried again
                if fenced(error):
                    raise
                delay = self.backoff.failed(CYCLE, self.clock())
                self.metrics.cycle_failures.labels("cycle").inc()
                log.exception("the cycle failed", extra={"retry_in_s": round(delay, 1), "triggers": sorted(triggers)})
                self.queue.mark_later(CYCLE, delay)
            else:
                self.backoff.succeeded(CYCLE)
                if ran:
                    self.metrics.cycle_done(self.clock() - started)

    async def once(self, triggers: frozenset[str]) -> bool:
        """One cycle; False if there could be none."""
        started = self.clock()
        if not await self.expectations.settle():
            log.warning("own writes were not seen in time; listed anew")
        observed = self.cache.observe()
        if unreadable := sorted(REQUIRED & observed.unknown.keys()):
            log.warning("no cycle: resources cannot be read", extra={"resources": {name: observed.unknown[name] for name in unreadable}})
            self.queue.mark_later(CYCLE, self.backoff.failed("unreadable", self.clock()))
            return False
        self.backoff.succeeded("unreadable")

        inputs = await asyncio.to_thread(decide.prepare, observed)
        plan = await self._plan(inputs.snapshot, inputs.demand)
        moment = now()
        actions = await asyncio.to_thread(decide.act, observed, inputs, plan, now=moment)
        written = await self.applier.carry_out(actions)
        refusals = (*actions.failed, *written.refusals)
        report = await asyncio.to_thread(decide.report, observed, inputs, plan, now=moment, refusals=refusals)
        report = seed.annotate(report, self.seeded)
        await self.applier.write_statuses(report.statuses, written)
        told = await self.events.post(report.events)

        if any(pod.finished for pod in observed.pods):  # rejected replicas are retried after a pause, and no event tells its end
            self.queue.mark_later("rejected", RETRY_LOOK_S)
        self.metrics.reported(observed, report)
        self.on_report(plan, report)
        self._wake(plan, written)
        self._log(triggers, plan, report, written, told, self.clock() - started)
        return True

    async def _plan(self, snapshot: Any, demand: Any) -> Plan:
        """A checked plan, or the plan that moves nothing."""
        last = self.solution
        if last.plan is not None and last.question == (snapshot, demand):
            return last.plan
        outcome = await self.solver.solve(snapshot, demand, last.warm)
        if not isinstance(outcome, SolverFailed) and outcome.violations:
            outcome = SolverFailed("Violations", "the plan breaks a rule: " + "; ".join(outcome.violations[:3]), outcome.seconds)
        if isinstance(outcome, SolverFailed):
            delay = self.backoff.failed("solver", self.clock())
            self.metrics.solver_outcomes.labels(outcome.kind, "None").inc()
            self.metrics.solver_seconds.observe(outcome.seconds)
            log.error("no usable plan", extra={"kind": outcome.kind, "detail": outcome.message, "retry_in_s": round(delay, 1)})
            self.queue.mark_later("solver", delay)
            return hold_plan(snapshot, demand, f"{outcome.kind}: {outcome.message}"[:300])
        self.backoff.succeeded("solver")
        self.metrics.solved(outcome.plan, outcome.seconds)
        self.solution = Solution((snapshot, demand), outcome.plan, outcome.warm)
        return outcome.plan

    def _wake(self, plan: Plan, written: Written) -> None:
        """A start that was not made in this cycle may only wait for time to pass, which no watch tells."""
        if plan.starts and not written.done:
            self.queue.mark_later("starts", self.backoff.failed("starts", self.clock()))
        else:
            self.backoff.succeeded("starts")

    def _log(self, triggers: frozenset[str], plan: Plan, report: Report, written: Written, told: int, seconds: float) -> None:
        """One line for each cycle that changed something."""
        if not (written.done or written.failed or told or report.summary != self.last_summary):
            return
        self.last_summary = report.summary
        log.info(
            "cycle",
            extra={
                "triggers": sorted(triggers),
                "writes": written.done,
                "failed": written.failed,
                "resting": written.skipped,
                "events": told,
                "outcome": str(plan.outcome),
                "solver": plan.solver,
                "seconds": round(seconds, 3),
                "summary": report.summary,
            },
        )


def fenced(error: BaseException) -> bool:
    """Whether the right to write was lost, alone or inside of a group of errors."""
    return any(fenced(part) for part in error.exceptions) if isinstance(error, BaseExceptionGroup) else isinstance(error, Fenced)


def now() -> str:
    """The wall clock as the API writes it; read once per cycle, outside of the pure stages."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
