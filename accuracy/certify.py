"""Certifies one candidate against a reference over HTTP: gates in order, one prompt after another until the decision falls.

Every failure ends in a `Decision`, and none of them in Promote. Only being cancelled is raised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from accuracy import contract, costs
from accuracy.begin import StopError, agree_with_record, common, probed
from accuracy.conclude import Seen, conclude, cost_of
from accuracy.decision import EXTEND, DecisionError, OtherRulesError, State, Tests, decide, noise_means
from accuracy.decision import verdict as over
from accuracy.design import ENOUGH, Planned, count_strata, plan_order, stratum_of
from accuracy.evidence import fewest, promote_bets, rate_bets
from accuracy.golden import GoldenError, combine, fits
from accuracy.http.capture import Captured, CaptureError, NoiseUnmeasuredError, capture, judge_noise
from accuracy.http.client import Client, FailedError, GarbledError, RefusedError, UnavailableError, connect
from accuracy.http.endpoint import Endpoint, EndpointError
from accuracy.http.examine import Examiner
from accuracy.http.facts import facts
from accuracy.http.probe import Agreement, agree
from accuracy.http.windows import send, windows
from accuracy.layout import SCORE_BOUNDARY
from accuracy.monitor import decide_recheck
from accuracy.policy import STRATA, Policy
from accuracy.record import Record, RecordItem, stale
from accuracy.report.model import Report
from accuracy.types import Capabilities, Cost, Decision, Fingerprint, Gate, GateResult, GoldenSet, Item, Mode, Reason, Sample, Verdict

log = logging.getLogger("accuracy")

CLEAN = {"Quick": 172, "Standard": 259, "Critical": 1043}  # prompts without a violation that certify the level's rate (accuracy/README.md)
SPARE = 1.3  # more than that are captured: some prompts may be bad
UNUSABLE, UNUSABLE_FROM = 0.5, 64  # share of positions that may be lost, once so many were asked


@dataclass(frozen=True, slots=True)
class Job:
    """One run. `candidates` are replicas of one fingerprint.

    Compared with `record` while that is fresh, else with `reference`, which is captured first. `own_reference`: there is no other side; the
    candidate is judged by its consistency with itself. `resume` is the state of an unfinished run, `earlier` its samples (for the report);
    `used` are the items that an earlier run of this fingerprint used up, whose state goes on with others. `quote`: outputs of built-in
    items may stand in the report. `captured` is what an interrupted run had of the reference; `spent` is what it cost, on either side.
    """

    policy: Policy
    golden: tuple[GoldenSet, ...]
    candidates: tuple[Endpoint, ...]
    reference: Endpoint | None = None
    record: Record | None = None
    modalities: tuple[str, ...] = ("Text",)
    own_reference: bool = False
    recheck: bool = False
    resume: str = ""
    used: frozenset[str] = frozenset()
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    reference_fingerprint: Fingerprint = field(default_factory=Fingerprint)
    quote: bool = True
    earlier: tuple[Sample, ...] = ()
    captured: Record | None = None
    spent: tuple[Cost, Cost] = (Cost(), Cost())


@dataclass(frozen=True, slots=True)
class Progress:
    """After each window of prompts. `total`: prompts that are planned at most. `state` "" = nothing is judged yet: the reference is being
    captured, `done` of `total` items so far, and `captured` holds those that it took."""

    decision: Decision
    state: str
    done: int
    total: int
    stratum: str = ""
    samples: tuple[Sample, ...] = ()
    record: Record | None = None
    captured: Record | None = None
    cost: tuple[Cost, Cost] = (Cost(), Cost())
    notes: tuple[str, ...] = ()  # what is known beforehand of what the run cannot show, a sentence each


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `record`: what it was compared with, if it came that far. `state` to continue from, "" = nothing was judged."""

    decision: Decision
    report: Report
    record: Record | None
    state: str


def estimate(job: Job, mode: Mode = Mode.PROMPT_LOGPROBS, done: int = 0) -> tuple[Cost, Cost]:
    """What the run will cost the reference and the candidate in this mode if it goes on to the last planned prompt; nobody is asked.

    `done` prompts were judged before. Seconds are only known where `max_rps` bounds the requests. Raises GoldenError.
    """
    items = [planned.item for planned in plan_order(_wanted(job, None), job.policy, used=job.used)][: needed(job.policy)]
    source = job.candidates[0] if job.own_reference else job.reference if job.record is None else None
    mine = costs.paced(costs.candidate(items[done:], job.policy, mode), job.candidates[0].max_rps)
    if source is None:
        return Cost(), mine
    theirs = costs.paced(costs.reference(items, job.policy, mode), source.max_rps)
    return (Cost(), added(theirs, mine)) if job.own_reference else (theirs, mine)


def added(one: Cost, other: Cost) -> Cost:
    """Both together, one after the other."""
    return Cost(
        one.requests + other.requests,
        one.prompt_tokens + other.prompt_tokens,
        one.generated_tokens + other.generated_tokens,
        one.seconds + other.seconds,
    )


def needed(policy: Policy) -> int:
    """Prompts that are planned: what the level needs, with room for some bad ones and for every stratum; at most `max_prompts`."""
    clean = CLEAN.get(policy.level, CLEAN["Standard"]) * 0.02 / policy.bad_prompt_rate if policy.level != "Critical" else CLEAN["Critical"]
    if policy.tasks_wanted:
        return policy.max_prompts
    return min(policy.max_prompts, max(policy.min_prompts, int(SPARE * clean), ENOUGH * len(policy.strata)))


async def certify(
    job: Job,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: str,
) -> Outcome:
    """Runs the gates. `now` (RFC 3339) dates the record and the report; `clock` counts seconds. Never raises but CancelledError."""
    seen = Seen()
    run = _Run(job, seen, on_progress, clock, now)
    try:
        decision = await run.run()
    except StopError as stop:
        decision = replace(stop.decision, prompts=len(seen.samples), gates=run.gates())
    except (EndpointError, GoldenError) as error:
        decision = Decision(Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING, str(error), len(seen.samples))
    except Exception as error:  # a defect here must neither promote nor end the caller
        log.exception("the checker failed")
        message = f"internal error of the checker, {type(error).__name__}: {error}"
        decision = Decision(Verdict.INCONCLUSIVE, Reason.PENDING, message[:500], len(seen.samples))
    report = await asyncio.to_thread(conclude, job, seen, decision, now)
    return Outcome(decision, report, run.record, run.state.to_json() if run.state is not None else "")


@dataclass(frozen=True, slots=True)
class _Plan:
    """`order` is what is asked now; `all` also has what an earlier run of this fingerprint used up."""

    order: tuple[Planned, ...]
    all: tuple[Planned, ...]


class _Run:
    def __init__(self, job: Job, seen: Seen, on_progress: Callable[[Progress], None] | None, clock: Callable[[], float], now: str) -> None:
        self.job, self.policy, self.seen, self._tell, self._clock, self._now = job, job.policy, seen, on_progress, clock, now
        self.record: Record | None = None
        self.state: State | None = None
        self.tests: Tests | None = None
        self._reference: Client | None = None
        self._clients: dict[str, Client] = {}
        self._began = clock()

    def gates(self) -> tuple[GateResult, ...]:
        if self.tests is None or self.state is None:
            return ()
        return decide(self.tests, self.state).gates

    async def run(self) -> Decision:
        job, seen = self.job, self.seen
        if not job.candidates:
            raise StopError(Reason.CANDIDATE_UNAVAILABLE, "no replica of the candidate is there")
        if job.record is None and job.reference is None and not job.own_reference:
            raise StopError(
                Reason.REFERENCE_MISSING, "there is neither a reference nor a record of one; give one of them, or import a capture"
            )
        self._modalities()
        self._began = self._clock()
        async with AsyncExitStack() as stack:
            try:
                await self._connect(stack)
                agreed = await self._agree()
                plan = await self._plan(agreed)
                if Gate.CONTRACT in self.policy.gates:
                    await self._contract(plan)
                return await self._ask(agreed, plan)
            finally:
                seen.cost = self._spent()
                names = [client.model for client in self._clients.values()]
                seen.models = (self._reference.model if self._reference is not None else "", names[0] if names else "")

    def _spent(self) -> tuple[Cost, Cost]:
        """What either side was asked so far, what an interrupted run had asked included."""
        seconds = self._clock() - self._began
        theirs = cost_of([self._reference], seconds) if self._reference is not None else Cost()
        before = self.job.spent
        return added(before[0], theirs), added(before[1], cost_of(tuple(self._clients.values()), seconds))

    # ---- before the first prompt

    def _modalities(self) -> None:
        missing = [m for m in self.job.modalities if not any(i.modality == m for s in self.job.golden for i in s.items)]
        if missing:
            raise StopError(
                Reason.CAPABILITY_MISSING, f"the model takes {', '.join(missing)}, and no golden set has such prompts; add some"
            )
        if not set(self.policy.modes) - {Mode.TEXT_ONLY}:
            raise StopError(Reason.CAPABILITY_MISSING, "mode TextOnly cannot decide alone; allow a mode with log-probabilities")

    async def _connect(self, stack: AsyncExitStack) -> None:
        job = self.job
        for number, endpoint in enumerate(job.candidates):
            name = endpoint.label if all(endpoint.label != e.label for e in job.candidates[:number]) else f"{endpoint.label}-{number}"
            self._clients[name] = await stack.enter_async_context(connect(endpoint, clock=self._clock))
        for client in self._clients.values():
            await probed(client, candidate=True)
        self.seen.replicas = tuple(self._clients)
        if job.reference is not None and not self._fresh():
            self._reference = await stack.enter_async_context(connect(job.reference, clock=self._clock))
            await probed(self._reference, candidate=False)

    def _fresh(self) -> bool:
        """Whether the record can serve. An older one needs a live reference."""
        record, job = self.job.record, self.job
        if record is None:
            return False
        if job.resume:
            return True  # evidence goes on against what it began with
        known = Fingerprint()
        same = known in (record.fingerprint, job.reference_fingerprint) or record.fingerprint == job.reference_fingerprint
        return same and not stale(record, self.policy.max_age_s, self._now)

    def _capabilities(self) -> Capabilities:
        """What all replicas of the candidate can do."""
        return common([c.dialect.capabilities for c in self._clients.values() if c.dialect is not None])

    async def _agree(self) -> Agreement:
        job, mine = self.job, self._capabilities()
        self.seen.capabilities = (self.seen.capabilities[0], mine)
        if self._fresh() and job.record is not None:
            record = job.record
            self.seen.capabilities = (record.capabilities, mine)
            found = agree_with_record(record, mine, self.policy.top_k)
            self.record = record
            return found
        source = self._source()
        if source is None:
            raise StopError(
                Reason.GOLDEN_STALE, "the reference record is too old or was made on another fingerprint, and no reference answers"
            )
        theirs = source.dialect.capabilities if source.dialect is not None else Capabilities()
        self.seen.capabilities = (theirs, mine)
        agreed = agree(theirs, mine, self.policy.modes, self.policy.top_k)
        if isinstance(agreed, str):
            raise StopError(Reason.CAPABILITY_MISSING, agreed)
        return agreed

    def _source(self) -> Client | None:
        """Whom a record is made of."""
        if self.job.own_reference:
            return next(iter(self._clients.values()))
        return self._reference

    async def _plan(self, agreed: Agreement) -> _Plan:
        job, mine = self.job, self._capabilities()
        context = [c.max_model_len for c in (mine, self.seen.capabilities[0]) if c.max_model_len is not None]
        items = _wanted(job, min(context, default=None))
        names = tuple(self._clients) if len(self._clients) > 1 else ()
        if not items:
            raise StopError(Reason.CAPABILITY_MISSING, self._none_fits(min(context, default=None)))
        if self.record is None:
            items = self._decidable(items)
            self.record = await self._capture(agreed, plan_order(items, self.policy, used=job.used)[: needed(self.policy)])
        known = {item.item for item in self.record.items}
        digests = {digest for _, digest in self.record.golden}
        fitting = {i.id for s in job.golden if s.digest in digests for i in s.items}
        if not fitting & known:
            raise StopError(Reason.GOLDEN_STALE, "the reference record was made with other golden sets; capture the reference again")
        # In the same order whether the record was made just now or before: an interrupted run must find its place again.
        usable = self._decidable([i for i in items if i.id in known and i.id in fitting])
        order = plan_order(usable, self.policy, replicas=names, used=job.used)[: self.policy.max_prompts]
        if not order:
            raise StopError(Reason.INCONCLUSIVE, "no golden prompt is left that was not used yet; add prompts to the golden sets")
        return _Plan(order, plan_order(usable, self.policy, replicas=names))

    def _decidable(self, items: Sequence[Item]) -> list[Item]:
        """Those of strata in which a candidate could be promoted at all; the others are left out and told.

        Raises StopError where the golden sets themselves have too few prompts of a stratum: all others would be asked in vain."""
        job, policy, before = self.job, self.policy, count_strata(_wanted(self.job, None))
        if job.own_reference or job.recheck or policy.on_inconclusive == EXTEND or len(items) < policy.min_prompts:
            return list(items)  # strata are not tested, nothing is promoted, more prompts may come, or few are asked, for faults
        least = fewest(promote_bets(SCORE_BOUNDARY), 1 / policy.alpha)
        few = {name: count for name, count in count_strata(items).items() if count < least}
        scarce = [f"{name} ({before[name]})" for name in few if before[name] < least]
        need = f"no stratum can be decided with fewer than {least}, and about {ENOUGH} are needed at ordinary noise"
        if scarce:
            raise StopError(
                Reason.INCONCLUSIVE,
                f"the golden sets have too few prompts of {', '.join(scarce)}: {need}; add some, or leave the stratum out "
                "(accuracy.strata, --strata)",
            )
        for name, count in few.items():
            self.seen.left_out[name] = (
                f"only {count} of {before[name]} prompts can be asked here (length, characters, maxPrompts), and {least} decide it"
            )
        if few and len(few) == len(count_strata(items)):
            told = "; ".join(f"{name}: {why}" for name, why in self.seen.left_out.items())
            raise StopError(Reason.INCONCLUSIVE, f"no stratum has enough prompts: {told}; add shorter ones, or serve a longer context")
        kept = [item for item in items if stratum_of(item) not in few]
        clean = fewest(rate_bets(policy.bad_prompt_rate), 1 / policy.alpha)
        if len(kept) < clean and not job.used:
            self.seen.scarce = (
                f"only {len(kept)} prompts can be asked, and {clean} without a bad one are needed to promote: this run can block, and else "
                "holds; add prompts, or certify less (--level, accuracy.badPromptRate)"
            )
        return kept

    def _none_fits(self, context: int | None) -> str:
        wanted = len(_wanted(self.job, None))
        if not wanted or context is None:
            return f"the golden sets have no prompt of the strata {', '.join(self.policy.strata)} and of this model's kinds of input"
        return f"none of {wanted} golden prompts fits the context of {context} tokens; add shorter ones, or serve a longer context"

    async def _capture(self, agreed: Agreement, order: Sequence[Planned]) -> Record:
        source = self._source()
        assert source is not None
        total = len(order)

        def tell(at: Captured) -> None:
            decision = Decision(None, Reason.RUNNING, f"capturing the reference: {at.done} of {at.total} items", 0)
            golden = tuple((one.name, one.digest) for one in self.job.golden)
            part = Record(
                source.model, agreed.mode, agreed.top_k, self._now, self.policy.seed, Fingerprint(), golden, self.policy.digest, at.items
            )
            notes = self.seen.notes()
            self._report(Progress(decision, "", at.done, total, at.stratum, captured=part, cost=self._spent(), notes=notes))

        before = self.job.captured
        same = before is not None and (before.mode, before.top_k) == (agreed.mode, agreed.top_k)
        try:
            record = await capture(
                source,
                self.job.golden,
                replace(self.policy, modes=(agreed.mode,), top_k=agreed.top_k),
                capabilities=self._capabilities(),
                now=self._now,
                on_progress=tell,
                items=[planned.item for planned in order],
                fingerprint=self.job.fingerprint if self.job.own_reference else self.job.reference_fingerprint,
                known=before.items if before is not None and same else (),
            )
        except (UnavailableError, FailedError, GarbledError) as error:
            reason = Reason.CANDIDATE_UNAVAILABLE if self.job.own_reference else Reason.REFERENCE_UNAVAILABLE
            raise StopError(reason, f"{source.name} was lost while it was captured: {error.message}") from error
        except CaptureError as error:
            raise StopError(Reason.CAPABILITY_MISSING, str(error)) from error
        return replace(record, policy_digest=self.policy.digest)

    async def _contract(self, plan: _Plan) -> None:
        assert self.record is not None
        if self.record.facts is None:
            self.seen.uncovered.append("the contract: the record holds no facts of the reference")
            return
        items = [item for one in self.job.golden for item in one.items] if self.record.facts.items else [p.item for p in plan.order]
        for client in self._clients.values():
            try:
                mine = await facts(client, items, like=self.record.facts)
            except UnavailableError as error:
                raise StopError(Reason.CANDIDATE_UNAVAILABLE, f"{client.name} does not answer any more: {error.message}") from error
            self.seen.facts = (self.record.facts, mine)
            result = contract.compare(self.record.facts, mine)
            if result.reason is not None:
                self.seen.contract = result.message
                breach = result.reason is Reason.CONTRACT_MISMATCH
                raise StopError(result.reason, f"{client.name}: {result.message}", Verdict.BLOCK if breach else Verdict.INCONCLUSIVE)

    # ---- the prompts

    async def _ask(self, agreed: Agreement, whole: _Plan) -> Decision:
        job, seen, policy = self.job, self.seen, self.policy
        record = self.record
        assert record is not None
        try:
            judge_noise(record.items, policy)
        except NoiseUnmeasuredError as error:
            raise StopError(Reason.NOISE_UNMEASURED, str(error)) from error
        known = {item.item: item for item in record.items}
        self._lay_out(agreed, whole.all, known)
        plan = whole.order
        assert self.tests is not None
        assert self.state is not None
        start = 0 if job.used else self.state.prompts
        first = self.state.prompts - start
        seen.samples += job.earlier[: self.state.prompts]
        consistency = Gate.SELF_CONSISTENCY in policy.gates or job.own_reference
        tasks = policy.tasks_wanted and not job.own_reference
        examiner = Examiner(policy, agreed.mode, agreed.top_k, job.own_reference, consistency, tasks)
        strata = len(count_strata(p.item for p in plan))
        # A check of what was promoted asks for evidence against it, which comes soon if there is any; it promotes nothing anew.
        again = job.recheck and not job.own_reference
        end = min(len(plan), max(policy.min_prompts, strata)) if again else len(plan)
        judge = decide_recheck if again else decide
        decision = judge(self.tests, self.state)
        if decision.verdict is not None and start:
            return decision
        for window in windows(min(start, end), end, strata):
            part = [replace(plan[at], index=first + at) for at in window]
            try:
                found = await send(examiner, self._clients, part, known)
            except UnavailableError as error:
                raise StopError(Reason.CANDIDATE_UNAVAILABLE, f"the candidate does not answer any more: {error.message}") from error
            except RefusedError as error:
                raise StopError(Reason.CAPABILITY_MISSING, f"the candidate refuses what the reference took: {error.message}") from error
            for one in found:
                self.state = self.state.advance(self.tests, one.sample)
                seen.took(one)
                if over(self.tests, self.state) in ((Verdict.BLOCK,) if again else tuple(Verdict)):
                    break
                await asyncio.sleep(0)  # a window of many prompts must not hold up everything else
            decision = judge(self.tests, self.state)
            state = self.state.to_json()
            done, stratum = first + window.stop, part[-1].item.stratum
            told, notes = tuple(seen.samples), seen.notes()
            self._report(Progress(decision, state, done, first + end, stratum, told, record, cost=self._spent(), notes=notes))
            if decision.verdict is not None:
                return await self._ended(decision)
            self._judge_usable()
        self.seen.exhausted = True
        return await self._ended(judge(self.tests, self.state, exhausted=True))

    def _lay_out(self, agreed: Agreement, plan: Sequence[Planned], known: dict[str, RecordItem]) -> None:
        """Fixes the tests before the first prompt, and takes up a stored state. `plan` has what earlier runs used up as well, so that the
        tests stay what they were."""
        job, seen = self.job, self.seen
        strata = count_strata(planned.item for planned in plan)
        noise = noise_means(((stratum_of(p.item), known[p.item.id].noise_kl, known[p.item.id].noise_sq) for p in plan), self.policy)
        conditions = tuple(dict.fromkeys(planned.condition for planned in plan))
        seen.mode, seen.top_k, seen.strata, seen.noise, seen.conditions = agreed.mode, agreed.top_k, strata, noise, conditions
        self.tests = Tests.of(self.policy, strata, noise, top_k=agreed.top_k, conditions=conditions, own_reference=job.own_reference)
        try:
            self.state = State.from_json(self.tests, job.resume) if job.resume else State.start(self.tests)
        except OtherRulesError as error:
            # The rules were not chosen by what these prompts said, so they may be read under them: no second try, and none is asked again.
            if not job.earlier:
                raise StopError(Reason.PENDING, f"the stored state cannot go on: {error}") from error
            log.warning("%d prompts of an interrupted run are judged again: %s", len(job.earlier), error)
            self.state = State.again(self.tests, job.earlier)
        except DecisionError as error:
            # Fresh evidence beside the stored one would be a second try at the same error rate.
            raise StopError(Reason.PENDING, f"the stored state does not fit these tests: {error}") from error

    def _judge_usable(self) -> None:
        seen = self.seen
        if seen.asked >= UNUSABLE_FROM and seen.usable < UNUSABLE * seen.asked and not any(s.hard for s in seen.samples):
            raise StopError(
                Reason.CAPABILITY_MISSING,
                f"only {seen.usable} of {seen.asked} positions can be compared: the candidate tells no token ids, or not the golden tokens",
            )

    async def _ended(self, decision: Decision) -> Decision:
        """The decision, with what a fault said; and a few outputs of the worst items for whoever reads the report."""
        seen = self.seen
        if decision.reason is Reason.HARD_FAULT and seen.message:
            code, item = self.state.ledger.hard if self.state is not None else ("", "")
            said = seen.message.removeprefix(f"{code} at item {item}: ")  # which the decision says already
            decision = replace(decision, message=f"{decision.message}: {said}"[:500])
        if decision.verdict is Verdict.BLOCK and self.job.quote and self.record is not None:
            await seen.quote(self.job, self._clients, {item.item: item for item in self.record.items})
        return decision

    def _report(self, progress: Progress) -> None:
        if self._tell is not None:
            self._tell(progress)


def _wanted(job: Job, context: int | None) -> list[Item]:
    """The items of the policy's strata (a user's own strata always count) and of the model's modalities that fit the context.

    Raises GoldenError.
    """
    return [
        item
        for item in combine(job.golden)
        if (item.stratum in job.policy.strata or item.stratum not in STRATA)
        and item.modality in job.modalities
        and fits(item, context, reserve=2)
    ]
