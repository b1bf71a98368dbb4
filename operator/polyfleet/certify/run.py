"""One certification: what it needs is loaded, the checker runs, progress and result are told and stored.

Evidence is never thrown away: where a run stands is kept in memory over a stop, and in the report's ConfigMap (every 30 s) over a restart
of the operator. A verdict is told when the numbers behind it are stored; a Block is told even if they cannot be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from accuracy import certify as checker
from accuracy.certify import Job, Outcome, Progress
from accuracy.policy import Policy, PolicyError
from accuracy.record import Record, RecordError
from accuracy.report import as_json
from accuracy.report.model import Report, Side
from accuracy.types import GoldenSet, Reason, Sample, Verdict
from polyfleet import naming
from polyfleet.certify import endpoints, status
from polyfleet.certify.status import Stored
from polyfleet.certify.store import Owner, SourceError, Store, TakenError
from polyfleet.clearance.work import Certify, Finding, RecordRef
from polyfleet.errors import ApiError, Fenced
from polyfleet.queue import Clock

log = logging.getLogger(__name__)

WORKING = "-run"  # suffix of the ConfigMap that holds the record of a run that is not over


class CertifyFunction(Protocol):
    """`accuracy.certify.certify`."""

    def __call__(
        self, job: Job, *, on_progress: Callable[[Progress], None] | None = None, clock: Callable[[], float] = ..., now: str
    ) -> Awaitable[Outcome]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts of the runner."""

    certifications: int = 2  # that run at a time
    entries: int = 4
    progress_s: float = 10.0  # between two times that progress is told
    checkpoint_s: float = 30.0  # between two times that it is stored
    stall_s: float = 900.0  # without any progress: the run is given up, and resumed later
    entry_s: float = 600.0  # one whole entry check


@dataclass(slots=True)
class Memory:
    """What of one report outlives a run that was stopped."""

    state: str = ""
    samples: tuple[Sample, ...] = ()
    record: Record | None = None  # captured by the run itself
    digest: str = ""  # of the stored record that the evidence was taken with
    extended: bool = False  # the evidence goes on after its prompts were used up: with none of those again


@dataclass(slots=True)
class Run:
    """`tell` posts a finding; `stored` gives the report's status as it is known now."""

    item: Certify
    store: Store
    memory: Memory
    limits: Limits
    clock: Clock
    now: Callable[[], str]
    tell: Callable[[Finding], None]
    stored: Callable[[], Mapping[str, Any]]
    slots: asyncio.Semaphore
    function: CertifyFunction = checker.certify
    meters: endpoints.Meters = endpoints.unmetered
    pause: float = 0.0  # until the next attempt, as the last one left it
    _saved: Record | None = None  # the record that the working ConfigMap holds
    _digest: str = ""  # of the stored record that is compared with

    async def once(self) -> None:
        """One attempt. Ends with a finding; raises only CancelledError and Fenced."""
        try:
            async with self.slots:
                policy = endpoints.policy(self.item)
                job = await self._job(policy)
                outcome = await self._watched(job)
            await self._publish(outcome, policy)
        except SourceError as error:
            self._fail(error.reason, error.message)
        except PolicyError as error:
            self._fail(Reason.PENDING, f"the policy cannot be used: {error}")
        except _StalledError as error:
            self._fail(Reason.CANDIDATE_UNAVAILABLE, str(error))
        except (ApiError, TakenError, RecordError) as error:
            self._fail(Reason.REFERENCE_UNAVAILABLE, f"a ConfigMap cannot be read or written: {error}")
        except Exception as error:  # a defect of the checker must not end the operator, and never promotes
            _raise_fenced(error)
            log.exception("a certification failed", extra={"report": self.key})
            self._fail(Reason.PENDING, f"internal error: {type(error).__name__}: {error}")

    @property
    def key(self) -> str:
        return f"{self.item.namespace}/{self.item.report}"

    # ---- before

    async def _job(self, policy: Policy) -> Job:
        item = self.item
        golden = [await self.store.golden(source) for source in item.golden]
        state, samples, against = await self._resume(policy)
        own = item.own_reference or bool(item.reference)  # then the run may have captured its own record
        record, digest = self.memory.record, ""
        if record is None and state and own:
            record = await self._working()
        if record is None and item.record is not None:
            record, digest = await self.store.record(item.record)
        if state and ((record is None and own) or (digest and against and digest != against)):
            # Evidence counts only against the record that it was taken with.
            log.warning("the record of an interrupted run is gone; it begins anew", extra={"report": self.key})
            state, samples = "", ()
        self._digest = digest
        reference = endpoints.endpoints(item.reference[:1], item.served_name, self.meters)
        return Job(
            policy=policy,
            golden=_used_sets(golden, record),
            candidates=endpoints.endpoints(item.replicas, item.served_name, self.meters),
            reference=reference[0] if reference else None,
            record=record,
            modalities=item.modalities,
            own_reference=item.own_reference,
            recheck=item.recheck,
            resume=state,
            used=frozenset(sample.item for sample in samples) if self.memory.extended else frozenset(),
            fingerprint=item.fingerprint,
            reference_fingerprint=record.fingerprint if record is not None and not item.own_reference else item.fingerprint,
            quote=item.quote,
            earlier=samples,
        )

    async def _resume(self, policy: Policy) -> tuple[str, tuple[Sample, ...], str]:
        """Where an interrupted run stood: state, samples, digest of the record ("" = not known). A re-check starts fresh evidence."""
        if self.item.recheck:
            self.memory.extended = False
            return "", (), ""
        if self.memory.state:
            return self.memory.state, self.memory.samples, self.memory.digest
        found = await self.store.report(self.item.namespace, self.item.report)
        if found is not None and found[1]:
            try:
                report = await asyncio.to_thread(as_json.loads, found[0])
            except as_json.ReportError as error:
                log.warning("the stored report of a run cannot be read", extra={"report": self.key, "detail": str(error)})
            else:
                if report.candidate.fingerprint == self.item.fingerprint and report.policy == policy:
                    self.memory.extended = report.exhausted
                    return found[1], report.samples, report.record_digest
        return self.item.resume, (), ""

    async def _working(self) -> Record | None:
        try:
            return (await self.store.record(RecordRef(self.item.namespace, self.item.report + WORKING)))[0]
        except SourceError as error:
            if error.reason is Reason.REFERENCE_UNAVAILABLE:
                raise
            return None

    # ---- while it runs

    async def _watched(self, job: Job) -> Outcome:
        """Runs the checker; tells and stores its progress beside it; gives up when nothing moves any more."""
        news = asyncio.Event()
        latest: list[Progress] = []
        loop = asyncio.get_running_loop()
        keeper = asyncio.create_task(self._keep(news, latest, job), name=f"progress {self.key}")
        limit = asyncio.timeout(self.limits.stall_s)

        def progressed(progress: Progress) -> None:
            latest[:] = [progress]
            if not job.recheck:
                self.memory.state, self.memory.samples = progress.state or self.memory.state, progress.samples or self.memory.samples
                self.memory.digest = self._digest
                if progress.record is not None and progress.record is not job.record:
                    self.memory.record = progress.record  # captured by this run
            limit.reschedule(loop.time() + self.limits.stall_s)
            news.set()

        try:
            async with limit:
                return await self.function(job, on_progress=progressed, clock=self.clock, now=self.now())
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise _StalledError(f"nothing moved for {self.limits.stall_s:.0f} s; the run goes on later where it stands") from error
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self, news: asyncio.Event, latest: list[Progress], job: Job) -> None:
        stored_at = self.clock()
        while True:
            await news.wait()
            news.clear()
            progress, item = latest[0], self.item
            self.tell(
                status.running(self.stored(), progress.decision, job.policy, progress.state, attempts=item.attempt, recheck=item.recheck)
            )
            if not item.recheck and (self._unsaved() or self.clock() - stored_at >= self.limits.checkpoint_s):
                try:
                    await self._checkpoint(job, progress)
                except (ApiError, TakenError, RecordError) as error:
                    log.warning("progress cannot be stored", extra={"report": self.key, "detail": str(error)[:300]})
                stored_at = self.clock()
            await asyncio.sleep(self.limits.progress_s)

    def _unsaved(self) -> bool:
        return self.memory.record is not None and self.memory.record is not self._saved

    async def _checkpoint(self, job: Job, progress: Progress) -> None:
        """The record before the evidence that rests on it."""
        if self._unsaved() and (record := self.memory.record) is not None:
            name = self.item.report + WORKING
            await self.store.write_record(self.item.namespace, name, record, self._owner(), self._labels(), whole=True)
            self._saved = record
        if progress.state and progress.samples:
            report = self._so_far(job, progress)
            await self.store.write_report(
                self.item.namespace, self.item.report, lambda: as_json.pack(report), progress.state, self._owner(), self._labels()
            )

    def _so_far(self, job: Job, progress: Progress) -> Report:
        return Report(
            made=self.now(),
            decision=progress.decision,
            policy=job.policy,
            reference=Side(self.item.reference_profile or "reference", self.item.served_name, job.reference_fingerprint),
            candidate=Side(self.item.profile, self.item.served_name, self.item.fingerprint),
            golden=tuple((each.name, each.digest, len(each.items)) for each in job.golden),
            mode=progress.samples[-1].mode if progress.samples else None,
            declared=job.policy.declared,
            samples=progress.samples,
            own_reference=job.own_reference,
            replicas=tuple(each.pod for each in self.item.replicas),
            seed=job.policy.seed,
            record_digest=self._digest,
            exhausted=self.memory.extended,
        )

    # ---- after

    async def _publish(self, outcome: Outcome, policy: Policy) -> None:
        item, decision = self.item, outcome.decision
        if decision.verdict is None:
            raise ValueError("the checker ended without a verdict")
        if outcome.state and not item.recheck:
            self.memory.state, self.memory.samples = outcome.state, outcome.report.samples
        if outcome.record is not None and item.own_reference:
            self.memory.record = outcome.record
        over = status.final(decision)
        attempts = 0 if over else item.attempt + 1
        self.pause = 0.0 if over else endpoints.pause(attempts)
        captured = item.own_reference and bool(item.capture_as) and outcome.record is not None and decision.verdict is Verdict.PROMOTE
        log.info(
            "certification",
            extra={"report": self.key, "verdict": str(decision.verdict), "reason": str(decision.reason), "prompts": decision.prompts},
        )
        if item.recheck and decision.verdict is not Verdict.BLOCK and not captured:
            at = self.now()
            again = endpoints.later(at, self.pause) if self.pause else ""
            self.tell(
                status.again(
                    self.stored(), attempts=attempts, next_attempt=again, at=at if over else "", message="" if over else decision.message
                )
            )
            return
        told = False
        tries = 0
        while True:
            try:
                where = await self._keep_result(outcome, captured)
                break
            except (ApiError, TakenError, RecordError) as error:
                tries += 1
                wait = endpoints.pause(tries)
                log.warning("a result cannot be stored", extra={"report": self.key, "detail": str(error)[:300], "retry_in_s": wait})
                if decision.verdict is Verdict.BLOCK:
                    if not told:
                        self._tell_end(outcome, policy, Stored(), attempts)
                        told = True
                else:
                    at = endpoints.later(self.now(), wait)
                    message = f"the result is there and cannot be stored: {error}"
                    stored = self.stored()
                    self.tell(status.failed(stored, Reason.RUNNING, message, attempts=tries, next_attempt=at, recheck=item.recheck))
                await asyncio.sleep(wait)
        self._tell_end(outcome, policy, where, attempts)
        if over:
            self.memory.record, self.memory.state, self.memory.samples = None, "", ()  # all of it is stored
            self.memory.extended = False

    async def _keep_result(self, outcome: Outcome, captured: bool) -> Stored:
        item, record = self.item, outcome.record
        record_digest = ""
        if captured and record is not None:
            owner = Owner("ModelDeployment", item.model.partition("/")[2], item.model_uid)
            record_digest = await self.store.write_record(item.namespace, item.capture_as, record, owner, self._labels())
        report = replace(outcome.report, record_digest=record_digest or self._digest or outcome.report.record_digest)
        report_digest = await self.store.write_report(
            item.namespace, item.report, lambda: as_json.pack(report), outcome.state, self._owner(), self._labels()
        )
        if status.final(outcome.decision) and not item.recheck:
            await self.store.clear(item.namespace, item.report + WORKING, self._owner())
        made = record.made if record is not None and captured else ""
        return Stored(item.report, report_digest, item.capture_as if captured else "", record_digest, made)

    def _tell_end(self, outcome: Outcome, policy: Policy, where: Stored, attempts: int) -> None:
        at = self.now()
        again = endpoints.later(at, self.pause) if self.pause else ""
        self.tell(
            status.ended(
                self.stored(), outcome.decision, outcome.report, policy, outcome.state, where, at=at, attempts=attempts, next_attempt=again
            )
        )

    def _fail(self, reason: Reason, message: str) -> None:
        attempts = self.item.attempt + 1
        self.pause = endpoints.pause(attempts)
        at = endpoints.later(self.now(), self.pause)
        self.tell(status.failed(self.stored(), reason, message, attempts=attempts, next_attempt=at, recheck=self.item.recheck))

    def _owner(self) -> Owner:
        return Owner("AccuracyReport", self.item.report, self.item.report_uid)

    def _labels(self) -> dict[str, str]:
        return {naming.DEPLOYMENT: naming.label_value(self.item.model.partition("/")[2])}


class _StalledError(Exception):
    """Nothing moved for too long."""


def _used_sets(golden: list[GoldenSet], record: Record | None) -> tuple[GoldenSet, ...]:
    """The sets that are asked for; an exported capture brings its own where none is named."""
    return tuple(golden) or (record.sets if record is not None else ())


def _raise_fenced(error: Exception) -> None:
    if isinstance(error, Fenced):
        raise error
