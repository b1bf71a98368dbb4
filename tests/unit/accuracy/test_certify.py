"""Whole certifications against the byte engine over HTTP: harmless differences promote, faults block, a stop in between changes nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cache

import pytest

from accuracy.certify import Outcome, Progress
from accuracy.golden import digest
from accuracy.types import Gate, GoldenSet, Mode, Reason, Verdict
from accuracy.verify import verify
from tests.unit.accuracy.servers import REFERENCE, Seen, Spoiler, engine, golden, policy, record, run, scoring

HARMLESS = ("--dtype=fp32",)
BF16 = "--dtype=bf16"


def certified(*flags: str, **changed: object) -> Outcome:
    async def main() -> Outcome:
        async with engine(*flags) as candidate:
            return await run(candidate.url, **changed)

    return asyncio.run(main())


def codes(outcome: Outcome) -> set[str]:
    return {suspect.code for suspect in outcome.report.suspects}


@cache
def promoted() -> Outcome:
    return certified(*HARMLESS, record=record())


def test_a_harmless_difference_is_promoted_and_the_file_proves_it() -> None:
    decision, report = promoted().decision, promoted().report
    assert (decision.verdict, decision.reason) == (Verdict.PROMOTE, Reason.EQUIVALENT), decision.message
    assert {g.decision for g in decision.gates} == {"Pass"}
    assert {Gate.TOKENS, Gate.TAIL, Gate.BIAS, Gate.SELF_CONSISTENCY} == {g.gate for g in decision.gates}
    assert len({s.item for s in report.samples}) == len(report.samples) == decision.prompts
    assert {s.positions for s in report.samples} == {10}
    assert verify(report)[0]


def test_stepwise_promotes_and_finds_faults_as_well() -> None:
    without = tuple(g for g in policy().gates if g is not Gate.SELF_CONSISTENCY)
    mode = {
        "record": record(Mode.STEPWISE, REFERENCE, 34),
        "policy": policy(modes=(Mode.STEPWISE,), gates=without, positions_per_prompt=4, bad_prompt_rate=0.2),
        "golden": (golden(34),),
    }
    fine = certified(*HARMLESS, **mode)
    assert fine.decision.verdict is Verdict.PROMOTE, fine.decision.message
    assert {s.mode for s in fine.report.samples} == {Mode.STEPWISE}
    assert verify(fine.report)[0]
    bad = certified(BF16, "--fault=rope-base=1e5", **mode)
    assert bad.decision.verdict is Verdict.BLOCK
    assert bad.decision.prompts <= 20


@pytest.mark.parametrize(
    ("fault", "reason", "most"),
    [
        ("nan", Reason.HARD_FAULT, 0),
        ("extra-bos", Reason.CONTRACT_MISMATCH, 0),
        ("end-token=32", Reason.CONTRACT_MISMATCH, 0),  # answers end at a blank
        ("default-temperature=0", Reason.CONTRACT_MISMATCH, 0),
        ("stale=1", Reason.HARD_FAULT, 1),  # another model: fluent nonsense
        ("vocab-cut=100", Reason.HARD_FAULT, 8),
        ("rope-base=1e5", Reason.NOT_EQUIVALENT, 16),
        ("logit-scale=1.1", Reason.NOT_EQUIVALENT, 40),
        ("zero-kv=16@hit", Reason.NOT_EQUIVALENT, 40),
        ("skip-layer=1@batch=2", Reason.HARD_FAULT, 40),
    ],
)
def test_a_fault_blocks_within_a_few_prompts(fault: str, reason: Reason, most: int) -> None:
    found = certified(BF16, f"--fault={fault}", record=record())
    assert found.decision.verdict is Verdict.BLOCK, found.decision.message
    assert found.decision.reason is reason or "batch" in fault  # who is computed beside whom is not the client's to say
    assert found.decision.prompts <= most
    assert verify(found.report)[0]
    if "batch" in fault:
        assert {s.condition.concurrency for s in found.report.samples if s.d_kl and s.d_kl > 0.01} == {4}


def test_a_fault_of_one_replica_is_found_and_the_replica_named() -> None:
    async def main() -> Outcome:
        async with AsyncExitStack() as stack:
            flags = [(BF16,), (BF16,), (BF16, "--fault=rope-base=1e5")]
            engines = [await stack.enter_async_context(engine(*f)) for f in flags]
            return await run([e.url for e in engines], record=record_)

    record_ = record()
    found = asyncio.run(main())
    assert (found.decision.verdict, codes(found)) == (Verdict.BLOCK, {"Replica"}), found.decision.message
    assert "candidate-2" in found.decision.message
    assert {s.condition.replica for s in found.report.samples if s.max_kl > 0.1} == {"candidate-2"}


def test_a_stopped_run_goes_on_where_it_was_and_ends_as_an_unbroken_one() -> None:
    async def main() -> None:
        async with engine(*HARMLESS) as candidate:
            stopped: list[Progress] = []
            gone = asyncio.Event()

            def progressed(progress: Progress) -> None:
                if progress.done >= 14:
                    stopped.append(progress)
                    gone.set()

            task = asyncio.create_task(run(candidate.url, record=record_, on_progress=progressed))
            await gone.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            at, before = stopped[0], len(candidate.asked)
            again = await run(candidate.url, record=record_, resume=at.state, earlier=at.samples)
            assert (again.decision.verdict, again.decision.prompts) == (whole.decision.verdict, whole.decision.prompts)
            assert [(s.item, s.condition) for s in again.report.samples] == [(s.item, s.condition) for s in whole.report.samples]
            assert again.report.samples[: len(at.samples)] == at.samples
            assert verify(again.report)[0]
            scored = [body["prompt"] for _, body in candidate.asked[before:] if scoring(body)]
            counted = [list(ids[s.item]) for s in at.samples]
            assert scored
            assert not [p for p in scored for c in counted if p[: len(c)] == c], "a prompt that counts was asked again"
            # Another policy makes other tests: the evidence is not for them, and fresh evidence would be a second try.
            other = await run(candidate.url, record=record_, resume=at.state, policy=policy(alpha=0.01))
            assert (other.decision.verdict, other.decision.reason) == (Verdict.INCONCLUSIVE, Reason.PENDING)
            # Another version may judge by other rules: the prompts count, by the rules of today. Without them nothing does.
            older = json.dumps({**json.loads(at.state), "rules": 1})
            asked = len(candidate.asked)
            judged = await run(candidate.url, record=record_, resume=older, earlier=at.samples)
            assert (judged.decision.verdict, judged.decision.prompts) == (whole.decision.verdict, whole.decision.prompts)
            assert judged.report.samples[: len(at.samples)] == at.samples
            assert not [b for _, b in candidate.asked[asked:] if scoring(b) and [c for c in counted if b["prompt"][: len(c)] == c]]
            lost = await run(candidate.url, record=record_, resume=older)
            assert (lost.decision.verdict, lost.decision.reason) == (Verdict.INCONCLUSIVE, Reason.PENDING)
            assert "rules of another version" in lost.decision.message

    record_, whole = record(), promoted()
    ids = {item.item: item.prompt_ids for item in record_.items}
    asyncio.run(main())


def test_used_up_prompts_hold_and_only_new_ones_extend_the_evidence() -> None:
    async def main() -> None:
        async with engine(*HARMLESS) as candidate:
            few = policy(min_prompts=8, max_prompts=12, on_inconclusive="Extend")
            first = await run(candidate.url, record=record_, policy=few)
            assert (first.decision.verdict, first.decision.reason) == (Verdict.INCONCLUSIVE, Reason.INCONCLUSIVE)
            assert len(first.report.samples) == 12
            assert first.report.exhausted
            used = frozenset(s.item for s in first.report.samples)
            then = await run(candidate.url, record=record_, policy=few, resume=first.state, earlier=first.report.samples, used=used)
            items = [s.item for s in then.report.samples]
            assert len(set(items)) == len(items) == then.decision.prompts == 24
            first_tail, then_tail = (next(g for g in o.decision.gates if g.gate is Gate.TAIL) for o in (first, then))
            assert then_tail.evidence_promote > 2 * first_tail.evidence_promote
            assert verify(then.report)[0]
            everything = frozenset(item.item for item in record_.items)
            over = await run(candidate.url, record=record_, policy=few, resume=first.state, earlier=first.report.samples, used=everything)
            assert (over.decision.verdict, over.decision.reason) == (Verdict.INCONCLUSIVE, Reason.INCONCLUSIVE)

    record_ = record()
    asyncio.run(main())


def test_a_check_of_what_was_promoted_blocks_or_says_nothing_new() -> None:
    short = policy(min_prompts=12)
    fine = certified(*HARMLESS, record=record(), policy=short, recheck=True)
    assert (fine.decision.verdict, fine.decision.reason, fine.decision.prompts) == (Verdict.INCONCLUSIVE, Reason.INCONCLUSIVE, 12)
    bad = certified(BF16, "--fault=stale=1", record=record(), policy=short, recheck=True)
    assert bad.decision.verdict is Verdict.BLOCK


def test_a_reference_judges_itself_by_its_consistency() -> None:
    found = certified(*REFERENCE, own_reference=True, golden=(golden(40),))
    assert (found.decision.verdict, found.decision.reason) == (Verdict.PROMOTE, Reason.SELF_REFERENCE), found.decision.message
    assert found.record is not None
    assert verify(found.report)[0]


def _says(text: str, *, always: bool) -> Spoiler:
    """An engine whose greedy text, or every text, is this; its tokens and numbers are its own."""

    def spoilt(seen: Seen) -> object:
        if seen.path != "/v1/completions" or seen.asked.get("max_tokens", 0) < 2 or (seen.asked.get("temperature") and not always):
            return None
        (choice,) = seen.answer["choices"]
        return {**seen.answer, "choices": [{**choice, "text": text}]}

    return spoilt


def test_a_greedy_loop_that_sampling_leaves_is_no_fault_of_a_reference_and_an_endless_one_is() -> None:
    """Found with SmolLM2 at bf16, fp16 and fp32 alike, which goes on after "You" with "-er-er-er" at temperature 0 and healthily at 1."""

    async def main(always: bool, rate: float) -> Outcome:
        wanted = policy(bad_prompt_rate=rate, max_prompts=80)
        async with engine(*REFERENCE, spoil=_says("-er" * 16, always=always)) as candidate:
            return await run(candidate.url, own_reference=True, policy=wanted, golden=(golden(80),))

    dull = asyncio.run(main(always=False, rate=0.1))
    assert (dull.decision.verdict, dull.decision.reason) == (Verdict.PROMOTE, Reason.SELF_REFERENCE), dull.decision.message
    assert len([s.item for s in dull.report.samples if s.intermittent]) <= 1  # the byte model goes on after code with blanks alone
    sick = asyncio.run(main(always=True, rate=0.02))
    assert sick.decision.verdict is Verdict.BLOCK, sick.decision.message
    assert {s.intermittent for s in sick.report.samples} == {"", "Degenerate"}


def test_a_reference_without_noise_holds() -> None:
    found = certified("--dtype=fp32", own_reference=True, golden=(golden(8),))
    assert (found.decision.verdict, found.decision.reason) == (Verdict.INCONCLUSIVE, Reason.NOISE_UNMEASURED)


def test_worse_answers_to_tasks_block_where_tasks_are_wanted() -> None:
    """The candidate's tokens are the reference's; its answers are made to look worse by what the record says of the reference's."""
    plain = golden(64)
    items = tuple(replace(item, answer="forty-two") for item in plain.items)
    asked = GoldenSet("asked", digest(items), items)
    made = record()
    good = replace(made, golden=((asked.name, asked.digest),), items=tuple(replace(i, good=True) for i in made.items))
    wanted = policy(margins=replace(policy().margins, require_tasks=True))
    found = certified(*HARMLESS, record=good, golden=(asked,), policy=wanted)
    assert found.decision.verdict is Verdict.BLOCK
    assert "Tasks" in found.decision.message
