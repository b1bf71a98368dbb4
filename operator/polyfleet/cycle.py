"""The one cycle: observe, prepare, plan, judge, act, apply, report. Level-triggered: it looks at what is, never at what changed.

A plan that differs from the one in force is written as a PlacementPlan before anything of it is done; then the cluster is looked at
once more, so that the first act is made on the newest view (`_decide`).

Whatever goes wrong, the cycle ends with a value or is tried again with a growing delay, and nothing is done on a doubtful view: without
a readable list of our own objects there is no cycle, without a checked plan nothing moves (`hold`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from placement.types import Plan
from polyfleet import decide, drain, overdue, reservation, seed, volume_pod, volume_shape
from polyfleet.actions import Actions, Report
from polyfleet.apply import Applier, Written
from polyfleet.cache import REQUIRED, Cache
from polyfleet.certify.runner import Certifier
from polyfleet.clearance import wanted
from polyfleet.errors import Fenced
from polyfleet.events import EventPoster
from polyfleet.expectations import Expectations
from polyfleet.fleet import Builder
from polyfleet.in_flight import Counter
from polyfleet.inputs import Inputs
from polyfleet.metrics import Metrics
from polyfleet.planner import Planned, Planner
from polyfleet.plans import judge, stored, triggers
from polyfleet.plans.judge import Decision
from polyfleet.plans.writer import PlanWriter
from polyfleet.queue import Backoff, Clock, DirtyQueue
from polyfleet.scaling import sizes
from polyfleet.scaling.drift import Drift
from polyfleet.scaling.runner import Autoscaler
from polyfleet.solver_process import SolverProcess
from polyfleet.state import Observed

log = logging.getLogger(__name__)

RETRY_LOOK_S = 15.0  # how often a pause before the retry of a rejected pod is looked at; the shortest pause is 5 s
CYCLE = "cycle"  # the queue's and the back-off's key for the cycle itself


PASSES = 3  # a new plan is written, then looked at again; more passes mean that the inputs change faster than that


@dataclass(slots=True)
class Solution:
    """Of the last solve: how long it took, and what caused it."""

    millis: int | None = None
    facts: triggers.Facts | None = None  # of the inputs of the last solve
    trigger: str = triggers.RESYNC


@dataclass(frozen=True, slots=True)
class Decided:
    """One look at the cluster, and what is to be done about it."""

    observed: Observed
    inputs: Inputs
    decision: Decision
    moment: str


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
    plans: PlanWriter
    certifier: Certifier | None = None  # None: nothing is checked, and nothing that needs a check may serve
    scaler: Autoscaler | None = None  # None: nobody follows the load, and automatic sizes stay as they are
    counter: Counter | None = None  # None: nobody asks what is in flight, so every drain takes its whole time
    image: str = ""  # the operator's own, for the readers of volumes
    namespace: str = ""  # the operator's own, where the fleet's golden sets lie
    drift: Drift = field(default_factory=Drift)
    seeded: seed.Seeded = field(default_factory=seed.Seeded)
    now: Callable[[], str] = field(default=lambda: now())  # the wall clock, as the API writes it
    solution: Solution = field(default_factory=Solution)
    fleet: Builder = field(default_factory=Builder)
    planner: Planner = field(init=False)
    last_summary: Any = None
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        self.planner = Planner(self.solver, self.metrics)

    async def run(self) -> None:
        """Cycles for ever; ends only by losing the right to write."""
        while True:
            causes = await self.queue.wait()
            started = self.clock()
            try:
                ran = await self.once(causes)
            except Exception as error:  # a bug in one stage must not end the operator: counted, told, tried again
                if fenced(error):
                    raise
                delay = self.backoff.failed(CYCLE, self.clock())
                self.metrics.cycle_failures.labels("cycle").inc()
                log.exception("the cycle failed", extra={"retry_in_s": round(delay, 1), "triggers": sorted(causes)})
                self.queue.mark_later(CYCLE, delay)
            else:
                self.backoff.succeeded(CYCLE)
                if ran:
                    self.metrics.cycle_done(self.clock() - started)

    async def once(self, causes: frozenset[str]) -> bool:
        """One cycle; False if there could be none."""
        started = self.clock()
        decided = await self._decide()
        if decided is None:
            return False
        observed, decision, moment = decided.observed, decided.decision, decided.moment
        inputs, plan = sizes.settle(decided.inputs, decision.plan)
        actions = await asyncio.to_thread(decide.act, observed, inputs, plan, now=moment, kept=decision.kept)
        shipped = seed.restore(self.seeded, observed)
        readers, read = volume_pod.acts(observed, inputs.readable(), self.image)
        checks = await asyncio.to_thread(wanted.wanted, observed, inputs, now=moment, namespace=self.namespace)
        actions = replace(
            actions,
            deletes=(*actions.deletes, *read, *judge.outdated(decision), *checks.deletes),
            applies=(*shipped, *actions.applies, *readers, *checks.applies),
        )
        written = await self.applier.carry_out(actions)
        if decision.moves:
            self.metrics.moved(decision.moves, self.solution.trigger)
        refusals = (*actions.failed, *written.refusals)
        report = await asyncio.to_thread(decide.report, observed, inputs, plan, now=moment, refusals=refusals, told=decision.told)
        report = seed.annotate(report, self.seeded, observed)
        verdicts = wanted.statuses(observed, now=moment)
        await self.applier.write_statuses((*report.statuses, *judge.statuses(decision, inputs, moment, refusals), *verdicts), written)
        if self.certifier is not None:
            self.certifier.update(checks.work)
        self._drains(observed, inputs, moment)
        stand = applied_sizes(actions, written)
        drift = self.drift.notes(inputs, stand)
        if self.scaler is not None:
            self.scaler.update(observed, inputs, plan, stand)
        if checks.next_s is not None:
            self.queue.mark_later("recheck", checks.next_s)
        told = await self.events.post((*report.events, *drift))

        # Rejected replicas are retried after a pause, and no event tells its end.
        if any(pod.finished and not volume_shape.is_reader(pod) for pod in observed.pods):
            self.queue.mark_later("rejected", RETRY_LOOK_S)
        if (left := overdue.next_due(inputs.models.values(), moment)) is not None:
            self.queue.mark_later("deadline", left)  # of a rollout that makes no progress; nothing else tells its end
        if (left := reservation.next_of(inputs, moment)) is not None:
            self.queue.mark_later("reservation", left)
        self.metrics.reported(observed, report)
        self._wake(plan, written)
        self._log(causes, plan, report, written, told, self.clock() - started)
        return True

    async def _decide(self) -> Decided | None:
        """What to do on the newest view, every new plan written before. None: the view does not allow any decision."""
        for _ in range(PASSES):
            decided = await self._look()
            if decided is None or (new := decided.decision.create) is None:
                return decided
            await self.plans.write(new)
            log.info("plan written", extra={"plan": new.name, "trigger": new.manifest["spec"]["trigger"], "approval": new.approval})
        decided = await self._look()
        if decided is not None and decided.decision.create is not None:
            # Nothing is done in this cycle: every written plan was stale before its first act. The old one stays.
            delay = self.backoff.failed("plan", self.clock())
            log.warning("no plan lasts until its first act", extra={"passes": PASSES, "retry_in_s": round(delay, 1)})
            self.queue.mark_later("plan", delay)
            return replace(decided, decision=judge.kept_old(decided.decision, decided.inputs))
        return decided

    async def _look(self) -> Decided | None:
        if not await self.expectations.settle():
            log.warning("own writes were not seen in time; listed anew")
        observed = self.cache.observe()
        if self.certifier is not None:
            observed = self.certifier.view(observed)
        if self.counter is not None:
            observed = self.counter.view(observed)
        if self.scaler is not None:
            observed = self.scaler.view(observed)
        if unreadable := sorted(REQUIRED & observed.unknown.keys()):
            log.warning("no cycle: resources cannot be read", extra={"resources": {name: observed.unknown[name] for name in unreadable}})
            self.queue.mark_later(CYCLE, self.backoff.failed("unreadable", self.clock()))
            return None
        self.backoff.succeeded("unreadable")
        moment = self.now()
        inputs = await asyncio.to_thread(decide.prepare, observed, now=moment, builder=self.fleet)
        planned = await self._plan(observed, inputs, moment)
        inputs = planned.inputs
        decision = await asyncio.to_thread(
            judge.judge, observed, inputs, planned.plan, trigger=self.solution.trigger, millis=self.solution.millis, now=moment
        )
        return Decided(observed, inputs, decision, moment)

    async def _plan(self, observed: Observed, inputs: Inputs, moment: str) -> Planned:
        """A checked plan, or the plan that moves nothing."""
        planned = await self.planner.plan(inputs, moment)
        if planned.failed:
            delay = self.backoff.failed("solver", self.clock())
            log.error("nothing moves without a plan", extra={"detail": planned.failed, "retry_in_s": round(delay, 1)})
            self.queue.mark_later("solver", delay)
            return planned
        self.backoff.succeeded("solver")
        if planned.solved:
            last = self.solution
            facts = triggers.facts(observed, inputs)
            trigger = triggers.trigger(last.facts, facts) if last.facts is not None or stored.read(observed.plans) else triggers.SPEC
            self.solution = Solution(planned.millis, facts, trigger)
        return planned

    def _drains(self, observed: Observed, inputs: Inputs, moment: str) -> None:
        found = [item for view in inputs.models.values() for item in drain.drains(view, observed, moment)]
        if self.counter is not None:
            self.counter.update(found)
        if (left := drain.next_end(tuple(found))) is not None:
            self.queue.mark_later("drain", left)

    def _wake(self, plan: Plan, written: Written) -> None:
        """A start that was not made in this cycle may only wait for time to pass, which no watch tells."""
        if plan.starts and not written.done:
            self.queue.mark_later("starts", self.backoff.failed("starts", self.clock()))
        else:
            self.backoff.succeeded("starts")

    def _log(self, causes: frozenset[str], plan: Plan, report: Report, written: Written, told: int, seconds: float) -> None:
        """One line for each cycle that changed something."""
        if not (written.done or written.failed or told or report.summary != self.last_summary):
            return
        self.last_summary = report.summary
        log.info(
            "cycle",
            extra={
                "triggers": sorted(causes),
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


def applied_sizes(actions: Actions, written: Written) -> dict[tuple[str, str], int] | None:
    """Deployment (namespace, name) -> replicas that the API server now holds of us; None where a write failed or rests."""
    if written.failed or written.skipped:
        return None
    metas = ((act.manifest["metadata"], act.manifest["spec"]) for act in actions.applies if act.manifest["kind"] == "Deployment")
    return {(meta.get("namespace", ""), meta["name"]): int(spec["replicas"]) for meta, spec in metas}


def fenced(error: BaseException) -> bool:
    """Whether the right to write was lost, alone or inside of a group of errors."""
    return any(fenced(part) for part in error.exceptions) if isinstance(error, BaseExceptionGroup) else isinstance(error, Fenced)


def now() -> str:
    """The wall clock as the API writes it; read once per cycle, outside of the pure stages."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
