"""Endpoints that misbehave, and inputs that do not fit: each ends in the reason that is documented for it, and none of them in Promote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from accuracy.certify import Job, Outcome, certify
from accuracy.golden import digest
from accuracy.http import client as http
from accuracy.http.capture import capture
from accuracy.http.client import connect
from accuracy.http.endpoint import Endpoint
from accuracy.http.probe import probe
from accuracy.record import Record
from accuracy.types import Fingerprint, GoldenSet, Item, Mode, Reason, Verdict
from tests.unit.accuracy.servers import (
    NOW,
    REFERENCE,
    Before,
    Seen,
    Spoiler,
    engine,
    golden,
    handlers,
    policy,
    record,
    run,
    scoring,
    served,
)

BF16 = "--dtype=bf16"
Rows = list[dict[str, dict[str, Any]] | None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LOST_PAUSE_S", 0.0)


def certified(*, spoil: Spoiler | None = None, before: Before | None = None, **changed: Any) -> Outcome:
    async def main() -> Outcome:
        async with engine(BF16, spoil=spoil, before=before) as candidate:
            return await run(candidate.url, **{"record": made, **changed})

    made = record()
    outcome = asyncio.run(main())
    assert outcome.decision.verdict is not Verdict.PROMOTE
    return outcome


def spoilt(change: Callable[[Rows, Seen], Any]) -> Spoiler:
    """Changes the scores of golden prompts in place."""

    def spoil(seen: Seen) -> Any:
        if not scoring(seen.asked):
            return None
        other = change(seen.answer["choices"][0]["prompt_logprobs"], seen)
        return seen.answer if other is None else other

    return spoil


def last(rows: Rows, value: Any) -> None:
    """The log-probability of the last token that was sent."""
    row = rows[-1]
    assert row is not None
    row[next(iter(row))]["logprob"] = value


def fewer(rows: Rows) -> None:
    for row in rows:
        for entry in list((row or {}).values())[2:]:
            entry["logprob"] = -9999.0


def other_ids(rows: Rows) -> None:
    for n, row in enumerate(rows):
        rows[n] = {str(int(key) + 1000): value for key, value in (row or {}).items()}


def failing(message: str, wanted: Callable[[int], bool] = lambda n: True) -> Spoiler:
    def spoil(seen: Seen) -> Any:
        if scoring(seen.asked) and wanted(seen.number):
            return web.json_response({"error": {"message": message}}, status=500)
        return None

    return spoil


@pytest.mark.parametrize(
    ("spoil", "verdict", "reason", "code"),
    [
        (spoilt(lambda rows, _: last(rows, None)), Verdict.BLOCK, Reason.HARD_FAULT, "NonFinite"),
        (spoilt(lambda rows, _: last(rows, "NaN")), Verdict.BLOCK, Reason.HARD_FAULT, "NonFinite"),
        (spoilt(lambda rows, _: last(rows, 0.7)), Verdict.BLOCK, Reason.HARD_FAULT, "PositiveLogprob"),
        (failing("Out of range float values are not JSON compliant"), Verdict.BLOCK, Reason.HARD_FAULT, "NonFinite"),
        (failing("engine core died"), Verdict.BLOCK, Reason.HARD_FAULT, "ServerError"),
        (spoilt(lambda rows, _: fewer(rows)), Verdict.BLOCK, Reason.HARD_FAULT, "KlAboveLimit"),
        (spoilt(lambda rows, _: rows.clear()), Verdict.BLOCK, Reason.HARD_FAULT, "MissingLogprob"),
        (spoilt(lambda *_: {"choices": []}), Verdict.BLOCK, Reason.HARD_FAULT, "EmptyReply"),
        (spoilt(lambda *_: web.Response(text="<html>busy</html>")), Verdict.BLOCK, Reason.HARD_FAULT, "EmptyReply"),
        (spoilt(lambda rows, _: other_ids(rows)), Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING, "positions"),
        (lambda s: {**s.answer, "model": "other"} if "model" in s.answer else None, Verdict.BLOCK, Reason.CONTRACT_MISMATCH, "other"),
    ],
    ids=["null", "NaN", "positive", "500-nan", "500", "sentinels", "empty", "no-choices", "garbage", "other-ids", "other-model"],
)  # fmt: skip
def test_bad_answers_of_the_candidate(spoil: Spoiler, verdict: Verdict, reason: Reason, code: str) -> None:
    found = certified(spoil=spoil)
    assert (found.decision.verdict, found.decision.reason) == (verdict, reason), found.decision.message
    assert code in found.decision.message
    assert reason is not Reason.HARD_FAULT or found.decision.message.count(code) == 1, "the fault and its item are said once"
    assert found.decision.prompts <= 16


def test_a_failure_that_does_not_repeat_is_a_bad_prompt_and_no_hard_fault() -> None:
    found = certified(spoil=failing("a hiccup", lambda n: n % 9 == 4), policy=policy(max_prompts=24))
    bad = [s for s in found.report.samples if s.intermittent]
    assert bad
    assert {(s.intermittent, s.hard) for s in bad} == {("ServerError", "")}
    assert all(s.d_kl is not None for s in bad), "the answer that came has numbers"
    assert "Intermittent" in {s.code for s in found.report.suspects}


async def hangs(path: str, asked: dict[str, Any]) -> web.StreamResponse | None:
    if scoring(asked):
        await asyncio.Event().wait()
    return None


async def redirects(path: str, asked: dict[str, Any]) -> web.StreamResponse | None:
    return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})


async def forbids(path: str, asked: dict[str, Any]) -> web.StreamResponse | None:
    return web.json_response({"error": "no key"}, status=401)


async def refuses(path: str, asked: dict[str, Any]) -> web.StreamResponse | None:
    return web.json_response({"error": {"message": "too long"}}, status=400) if scoring(asked) else None


async def half_a_stream(path: str, asked: dict[str, Any]) -> web.StreamResponse | None:
    chunk = {"choices": [{"text": "a", "delta": {"content": "a"}}]}
    return web.Response(text=f"data: {json.dumps(chunk)}\n\n", content_type="text/event-stream") if asked.get("stream") else None


async def tells_nothing(path: str, asked: dict[str, Any]) -> web.StreamResponse | None:
    wants = {"logprobs", "top_logprobs", "prompt_logprobs"} & set(asked)
    return web.json_response({"error": {"message": "logprobs are not supported"}}, status=400) if wants else None


@pytest.mark.parametrize(
    ("before", "reason", "verdict"),
    [
        (hangs, Reason.CANDIDATE_UNAVAILABLE, Verdict.INCONCLUSIVE),
        (redirects, Reason.CANDIDATE_UNAVAILABLE, Verdict.INCONCLUSIVE),
        (forbids, Reason.CANDIDATE_UNAVAILABLE, Verdict.INCONCLUSIVE),
        (refuses, Reason.CAPABILITY_MISSING, Verdict.INCONCLUSIVE),
        (tells_nothing, Reason.CAPABILITY_MISSING, Verdict.INCONCLUSIVE),
        (half_a_stream, Reason.CONTRACT_MISMATCH, Verdict.BLOCK),
    ],
)
def test_a_candidate_that_does_not_answer_as_asked(before: Before, reason: Reason, verdict: Verdict) -> None:
    found = certified(before=before, timeout_s=0.3 if before is hangs else 20.0)  # others would be late on a busy machine
    assert (found.decision.verdict, found.decision.reason) == (verdict, reason), found.decision.message
    assert not found.report.samples


def test_something_else_than_an_engine() -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>It works</html>", content_type="text/html")

    async def closes(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def main() -> None:
        for handler, reason in ((page, Reason.CAPABILITY_MISSING), (closes, Reason.CANDIDATE_UNAVAILABLE)):
            async with served(handlers({"/{any:.*}": handler})) as url:
                found = await run(url, record=made)
            assert (found.decision.verdict, found.decision.reason) == (Verdict.INCONCLUSIVE, reason)
        found = await run(url, record=made)  # nobody listens there any more
        assert found.decision.reason is Reason.CANDIDATE_UNAVAILABLE

    made = record()
    asyncio.run(main())


def test_answers_faster_than_any_model_come_from_no_model() -> None:
    async def main() -> None:
        async with engine(BF16) as candidate:
            job = Job(policy(), (golden(64),), (Endpoint(candidate.url),), record=made)
            found = await certify(job, clock=lambda: 0.0, now=NOW)  # a clock that stands still: all in no time
            assert (found.decision.verdict, found.decision.reason) == (Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING)
            assert "faster" in found.decision.message

    made = record()
    asyncio.run(main())


def test_a_reference_that_disappears_while_it_is_captured() -> None:
    async def goes(path: str, asked: dict[str, Any]) -> web.StreamResponse | None:
        if scoring(asked):
            scored.append(path)
        return web.json_response({"error": "gone"}, status=403) if len(scored) > 3 else None

    async def main() -> Outcome:
        async with engine(*REFERENCE, before=goes) as reference, engine(BF16) as candidate:
            return await run(candidate.url, reference=Endpoint(reference.url, name="reference"))

    scored: list[str] = []
    found = asyncio.run(main())
    assert (found.decision.verdict, found.decision.reason) == (Verdict.INCONCLUSIVE, Reason.REFERENCE_UNAVAILABLE)
    assert "reference" in found.decision.message


def test_the_record_must_be_fresh_of_this_reference_and_of_these_prompts() -> None:
    made = record()
    items = tuple(replace(i, id=f"new-{i.id}") for i in golden(8).items)
    cases: list[tuple[dict[str, Any], Reason]] = [
        ({"record": replace(made, made="2026-01-01T00:00:00Z")}, Reason.GOLDEN_STALE),
        (
            {"record": replace(made, fingerprint=Fingerprint(driver="1")), "reference_fingerprint": Fingerprint(driver="2")},
            Reason.GOLDEN_STALE,
        ),
        ({"golden": (GoldenSet("other", digest(items), items),)}, Reason.GOLDEN_STALE),
        ({"record": None}, Reason.REFERENCE_MISSING),
        ({"candidates": ()}, Reason.CANDIDATE_UNAVAILABLE),
        ({"modalities": ("Text", "Image")}, Reason.CAPABILITY_MISSING),
        ({"policy": policy(modes=(Mode.TEXT_ONLY,))}, Reason.CAPABILITY_MISSING),
        ({"resume": "{}"}, Reason.PENDING),
    ]
    for changed, reason in cases:
        found = certified(**changed)
        assert (found.decision.verdict, found.decision.reason) == (Verdict.INCONCLUSIVE, reason), found.decision.message
        assert not found.report.samples


def test_prompts_that_exceed_the_context_are_told_and_never_sent() -> None:
    """The byte model has 64 tokens."""
    items = tuple(replace(i, text="word " * 100, messages=()) for i in golden(8).items)
    long = GoldenSet("long", digest(items), items)

    async def main() -> Outcome:
        async with engine(*REFERENCE) as reference, engine(BF16) as candidate:
            found = await run(candidate.url, reference=Endpoint(reference.url, name="reference"), golden=(long,))
            assert not reference.scored() + candidate.scored()
            return found

    found = asyncio.run(main())
    assert (found.decision.verdict, found.decision.reason) == (Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING)
    assert "none of 8 golden prompts fits the context of 64 tokens" in found.decision.message


def test_a_stratum_that_nobody_could_pass_is_told_before_anything_is_scored() -> None:
    """At alpha 5 % and the best scores there are, six prompts are evidence of 17.8 and seven of 31, and 20 are needed."""
    few = GoldenSet("few", "sha256:few", tuple(replace(i, stratum="Tools" if n < 6 else "Chat") for n, i in enumerate(golden(64).items)))
    both = policy(strata=("Chat", "Tools"))
    found = certified(golden=(few,), policy=both, record=replace(record(), golden=(("few", few.digest),)))
    assert (found.decision.reason, found.decision.prompts) == (Reason.INCONCLUSIVE, 0)
    assert found.decision.message.startswith(
        "the golden sets have too few prompts of Tools (6): no stratum can be decided with fewer than 7,"
    )
    assert found.decision.message.endswith("add some, or leave the stratum out (accuracy.strata, --strata)")


def test_a_stratum_of_which_too_little_can_be_asked_is_left_out_and_told() -> None:
    """Of ten prompts of Tools eight are longer than the context: the other stratum is judged, and two prompts decide nothing."""

    def placed(number: int, item: Item) -> Item:
        long = replace(item, text="x" * 4000, messages=()) if number < 8 else item
        return replace(long, stratum="Tools" if number < 10 else "Chat")

    mixed = GoldenSet("mixed", "sha256:mixed", tuple(placed(n, i) for n, i in enumerate(golden(64).items)))
    made = replace(record(), golden=(("mixed", mixed.digest),))
    notes: list[tuple[str, ...]] = []

    async def main() -> Outcome:
        async with engine(BF16, "--fault=rope-base=1e5") as candidate:
            return await run(
                candidate.url, record=made, golden=(mixed,), policy=policy(strata=("Chat", "Tools")),
                on_progress=lambda progress: notes.append(progress.notes),
            )  # fmt: skip

    found = asyncio.run(main())
    why = "only 2 of 10 prompts can be asked here (length, characters, maxPrompts), and 7 decide it"
    assert found.decision.verdict is Verdict.BLOCK
    assert {s.stratum for s in found.report.samples} == {"Chat"}
    assert notes[0] == (f"stratum Tools is left out: {why}",)
    assert f"stratum Tools: {why}" in found.report.uncovered


def test_too_few_prompts_to_promote_are_told_before_the_first_answer() -> None:
    """At 10 % bad prompts and alpha 5 % 33 clean ones are needed: (1.0556^n + 2 * 1.1056^n)/3 is 18.4 for 32 and 20.3 for 33."""
    seen: list[tuple[str, ...]] = []
    few = GoldenSet("few", "sha256:few", golden(64).items[:30])
    made = replace(record(), golden=(("few", few.digest),))
    found = certified(golden=(few,), record=made, on_progress=lambda progress: seen.append(progress.notes))
    assert found.decision.reason is Reason.INCONCLUSIVE
    assert 20 <= found.decision.prompts <= 30
    (note,) = seen[0]
    told = f"only {found.decision.prompts} prompts can be asked, and 33 without a bad one are needed to promote: this run can block"
    assert note.startswith(told)
    assert note in found.report.uncovered


def test_a_record_says_why_it_left_items_out() -> None:
    long = replace(golden(1).items[0], id="long", text="word " * 100, messages=())

    async def main() -> Record:
        async with engine(*REFERENCE) as running, connect(Endpoint(running.url, name="reference")) as client:
            await probe(client)
            return await capture(client, (golden(4),), policy(), now=NOW, items=(*golden(4).items, long))

    made = asyncio.run(main())
    assert len(made.items) == 4
    assert made.capabilities.notes[-1] == "left out 1 items: long: its prompt does not fit the context of 64 tokens"


def test_requests_that_differ_are_nobodys_breach() -> None:
    made = record()
    assert made.facts is not None
    for facts in (
        replace(made.facts, items=tuple(replace(i, route="text") for i in made.facts.items)),
        replace(made.facts, sampling={"temperature": 0.7}),
    ):
        found = certified(record=replace(made, facts=facts))
        assert (found.decision.verdict, found.decision.reason) == (Verdict.INCONCLUSIVE, Reason.INPUTS_DIFFER), found.decision.message
