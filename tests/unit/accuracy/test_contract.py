"""G0: what was asked comes before what was answered, and a breach is named by its first token or field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy.contract import Facts, ItemFacts, compare, request_digest
from accuracy.types import Reason

GREEDY = {"temperature": 0.0, "top_p": 1.0}
ITEM = ItemFacts(item="chat-03", route="chat", request="sha256:1", prompt_ids=(1, 2, 3, 4), prompt_tokens=4)
REFERENCE = Facts(
    model="smol",
    listed=("smol",),
    max_model_len=4096,
    vocabulary=100,
    sampling=GREEDY,
    items=(ITEM,),
    schema=True,
    stream_equal=True,
    bad_parameters={"temperature": 400},
)


def told(candidate: Facts, reference: Facts = REFERENCE) -> tuple[Reason | None, str]:
    result = compare(reference, candidate)
    assert result.ok is (result.reason is None)
    return result.reason, result.message


def with_item(facts: Facts = REFERENCE, **changes: Any) -> Facts:
    return replace(facts, items=tuple(replace(i, **changes) for i in facts.items))


def test_the_same_on_both_sides_passes() -> None:
    assert told(REFERENCE) == (None, "")


def test_a_template_against_a_raw_prompt_is_nobodys_breach() -> None:
    reason, message = told(with_item(route="text", prompt_ids=(3, 4), prompt_tokens=2))
    assert reason is Reason.INPUTS_DIFFER
    assert "the reference was asked with the chat template and the candidate with the raw prompt" in message


def test_sampling_that_differs_or_is_not_greedy_is_refused() -> None:
    # OC-066: 0.7 came with the weights at one side.
    warm = replace(REFERENCE, sampling={"temperature": 0.7, "top_p": 1.0})
    for reference, candidate in ((warm, REFERENCE), (REFERENCE, warm), (warm, warm)):
        reason, message = told(candidate, reference)
        assert reason is Reason.INPUTS_DIFFER
        assert "temperature 0.7: sampled answers differ by chance" in message
    assert "temperature not set" in told(replace(REFERENCE, sampling={"top_p": 1.0}))[1]
    reason, message = told(replace(REFERENCE, sampling={**GREEDY, "repetition_penalty": 1.1}))
    assert (reason, message.split(";")[0]) == (
        Reason.INPUTS_DIFFER,
        "sampling setting repetition_penalty is not set at the reference and 1.1 at the candidate",
    )


def test_requests_that_differ_elsewhere_hold() -> None:
    assert told(with_item(request="sha256:2"))[0] is Reason.INPUTS_DIFFER
    assert told(with_item(request="")) == (None, "")
    assert "no item was asked of both sides" in told(with_item(item="other"))[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt_ids": (1, 2, 9, 4)}, "item chat-03: prompt token 2 is 9 at the candidate and 3 at the reference"),
        (
            {"prompt_ids": (0, 1, 2, 3, 4), "prompt_tokens": 5},
            "prompt token 0 is 0 at the candidate and 1 at the reference",
        ),  # an extra BOS
        ({"prompt_ids": (1, 2, 3), "prompt_tokens": 3}, "has 3 tokens at the candidate and 4 at the reference, from token 3 on"),
        ({"prompt_ids": (), "prompt_tokens": 5}, "the prompt has 5 tokens at the candidate and 4 at the reference"),
        ({"largest_id": 100}, "used token id 100; the vocabulary has 100"),
    ],
)
def test_an_equal_request_rendered_otherwise_is_a_breach(changes: dict[str, Any], said: str) -> None:
    reason, message = told(with_item(**changes))
    assert reason is Reason.CONTRACT_MISMATCH
    assert said in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"listed": ("other",)}, "the candidate serves other, not smol"),
        ({"answered": "other"}, "asked for smol, the candidate answers as other"),
        ({"declared_len": 8192}, "max_model_len is 4096 at the candidate, 8192 were declared"),
        ({"schema": False}, "does not satisfy it"),
        ({"stream_equal": False}, "streamed answer differs"),
        ({"bad_parameters": {"temperature": 200}}, "answers temperature, which is out of range, with HTTP 200, the reference with 400"),
        ({"bad_parameters": {"max_tokens": 500}}, "with HTTP 500; 400 to 499 is right"),
    ],
)
def test_the_candidates_own_breaches(changes: dict[str, Any], said: str) -> None:
    reason, message = told(replace(REFERENCE, **changes))
    assert reason is Reason.CONTRACT_MISMATCH
    assert said in message


def test_what_the_reference_does_too_is_no_breach() -> None:
    odd = replace(REFERENCE, schema=False, stream_equal=False, bad_parameters={"temperature": 200}, answered="its-own-name")
    assert told(odd, odd) == (None, "")


def test_what_is_not_known_is_no_breach() -> None:
    silent = Facts(model="other-name", items=(ItemFacts(item="chat-03", route="chat"),))
    assert told(silent) == (None, "")
    assert told(REFERENCE, silent) == (None, "")


def test_a_longer_or_shorter_context_that_nobody_declared_is_a_note() -> None:
    result = compare(REFERENCE, replace(REFERENCE, max_model_len=2048))
    assert result.ok
    assert result.notes == ("max_model_len is 2048 at the candidate and 4096 at the reference",)


def test_digests_decide_only_where_no_prompt_can_be_compared() -> None:
    ours, theirs = replace(REFERENCE, template="sha256:a"), replace(REFERENCE, template="sha256:b")
    assert compare(ours, theirs).notes == ("template is sha256:b at the candidate and sha256:a at the reference",)
    reason, message = told(with_item(theirs, prompt_ids=()), ours)
    assert reason is Reason.CONTRACT_MISMATCH
    assert message.startswith("the template is sha256:b at the candidate and sha256:a")


def stopping(*finishes: str) -> Facts:
    items = tuple(ItemFacts(item=f"i{n}", route="chat", must_stop=True, finish_reason=f) for n, f in enumerate(finishes))
    return replace(REFERENCE, items=items)


def test_a_lost_end_of_text_shows_in_most_answers() -> None:
    reference = stopping("stop", "stop", "stop", "length")
    assert told(stopping("stop", "stop", "length", "length"), reference) == (None, "")  # one flip is rounding
    reason, message = told(stopping("length", "length", "length", "length"), reference)
    assert reason is Reason.CONTRACT_MISMATCH
    assert message == "the candidate ended 0 of 3 answers that end at the reference; item i0 ended by length"
    assert told(stopping("", "", "", ""), reference) == (None, "")  # not asked


def beginning(*answers: tuple[str, str]) -> Facts:
    items = tuple(ItemFacts(item=f"i{n}", route="chat", answer=text, finish_reason=finish) for n, (text, finish) in enumerate(answers))
    return replace(REFERENCE, items=items)


def test_another_end_of_text_shows_in_answers_that_end_too_soon() -> None:
    reference = beginning(("one two", "length"), ("three four", "length"), ("five six", "length"), ("no", "stop"))
    reason, message = told(beginning(("one ", "stop"), ("", "stop"), ("five six", "length"), ("no", "stop")), reference)
    assert reason is Reason.CONTRACT_MISMATCH
    assert message.startswith("the candidate ends 2 of 3 answers where the reference goes on; item i0 after 4 characters.")
    for fine in (
        beginning(("one ", "stop"), ("three four", "length"), ("five six", "length"), ("no", "stop")),  # one is rounding
        beginning(("two", "stop"), ("four", "stop"), ("six", "stop"), ("no", "stop")),  # other words: for the scores to judge
        beginning(("", ""), ("", ""), ("", ""), ("", "")),  # not asked
    ):
        assert told(fine, reference) == (None, "")


def test_what_an_engine_assumes_of_the_temperature_must_be_the_same() -> None:
    samples, greedy = replace(REFERENCE, default_sampling="sampled"), replace(REFERENCE, default_sampling="greedy")
    assert told(samples, samples) == told(greedy, greedy) == told(REFERENCE, greedy) == told(samples, REFERENCE) == (None, "")
    reason, message = told(greedy, samples)
    assert reason is Reason.CONTRACT_MISMATCH
    assert message.startswith("where a request names no temperature the candidate answers greedily and the reference samples; compare")
    assert "the candidate samples and the reference answers greedily" in told(samples, greedy)[1]


def test_a_requests_name_is_that_of_what_it_asks() -> None:
    body = {"model": "a", "messages": [{"role": "user", "content": "é"}], "temperature": 0}
    assert request_digest(body) == request_digest({**body, "model": "b", "stream": True})
    assert request_digest(body) != request_digest({**body, "temperature": 0.7})
    assert request_digest(body) != request_digest({**body, "messages": [{"role": "user", "content": "e"}]})


IDS = st.lists(st.integers(0, 99), min_size=1, max_size=6).map(tuple)


@given(IDS, IDS)
def test_prompts_pass_only_if_they_are_equal(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    ours, theirs = with_item(prompt_ids=one, prompt_tokens=None), with_item(prompt_ids=other, prompt_tokens=None)
    assert compare(ours, theirs).ok is (one == other)
