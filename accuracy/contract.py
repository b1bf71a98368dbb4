"""G0 Contract: whether both sides were asked the same and read the request in the same way, before any number is compared. Pure.

A difference in what was asked (route, sampling settings) says nothing about the device: `InputsDiffer` holds. An equal request that the
candidate renders to other token ids, or answers against the protocol, is the candidate's own breach: `ContractMismatch` blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accuracy.types import Reason

# Parts of a request that name the one who is asked, or the form in which it answers.
_FORM = ("model", "stream", "stream_options", "user", "return_token_ids", "return_tokens_as_token_ids")


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """How one side took one item.

    `request` names what was sent, without the served name and the address: `contract.request_digest`.
    """

    item: str
    route: str  # "chat" or "text"
    request: str = ""  # "sha256:..." of the request's body; "" = not recorded
    prompt_ids: tuple[int, ...] = ()  # rendered prompt; () = not told
    prompt_tokens: int | None = None  # usage.prompt_tokens
    must_stop: bool = False
    finish_reason: str = ""  # "" = not asked
    answer: str = ""  # the first words of the greedy answer, of a few items that need not stop
    largest_id: int | None = None  # of the ids that came back


@dataclass(frozen=True, slots=True)
class Facts:
    """What one side told about itself and did with the contract's requests. None = not known, never counted as a breach."""

    model: str  # served name that was asked for
    listed: tuple[str, ...] = ()  # names that /v1/models lists; () = not told
    max_model_len: int | None = None  # tokens
    declared_len: int | None = None  # tokens that the deployment was told to serve
    vocabulary: int | None = None  # number of ids
    template: str = ""  # digest of the chat template
    tokenizer: str = ""  # digest
    sampling: Mapping[str, float] = field(default_factory=dict)  # settings that every scored request carried: temperature, top_p, ...
    items: tuple[ItemFacts, ...] = ()
    schema: bool | None = None  # an answer under a JSON schema satisfied it
    stream_equal: bool | None = None  # the streamed answer equals the whole one
    bad_parameters: Mapping[str, int] = field(default_factory=dict)  # parameter that is out of range -> HTTP status
    answered: str = ""  # name in the answers' `model` field; "" = not told
    default_sampling: str = ""  # what it does where a request names no temperature: "greedy", "sampled"; "" = not known


@dataclass(frozen=True, slots=True)
class ContractResult:
    """`reason` None: nothing differs. `notes` say what differs and is allowed to."""

    ok: bool
    reason: Reason | None = None
    message: str = ""
    notes: tuple[str, ...] = ()


def request_digest(body: Mapping[str, Any]) -> str:
    """Names what a request asks, whoever is asked: its body without the served name and the form of the answer."""
    asked = {k: v for k, v in body.items() if k not in _FORM}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def compare(reference: Facts, candidate: Facts) -> ContractResult:
    """The verdict of G0. What was asked comes first: a difference there explains every later one and is nobody's breach."""
    pairs = _pairs(reference, candidate)
    asked = _sampling(reference, candidate) or _requests(reference, candidate, pairs)
    if asked:
        return ContractResult(ok=False, reason=Reason.INPUTS_DIFFER, message=asked)
    breach = (
        _identity(reference, candidate)
        or next((found for r, c in pairs if (found := _rendered(r, c))), "")
        or _vocabulary(reference, candidate)
        or _hashes(reference, candidate, pairs)
        or _stops(pairs)
        or _goes_on(pairs)
        or _behaviour(reference, candidate)
    )
    if breach:
        return ContractResult(ok=False, reason=Reason.CONTRACT_MISMATCH, message=breach)
    return ContractResult(ok=True, notes=_notes(reference, candidate))


def _pairs(reference: Facts, candidate: Facts) -> list[tuple[ItemFacts, ItemFacts]]:
    known = {i.item: i for i in reference.items}
    return [(known[i.item], i) for i in candidate.items if i.item in known]


def _sampling(reference: Facts, candidate: Facts) -> str:
    for side, facts in (("reference", reference), ("candidate", candidate)):
        if not facts.sampling:
            continue
        temperature = facts.sampling.get("temperature")
        # Absent is no better than 0.7: engines then take the default that came with the weights.
        if temperature != 0:
            told = "not set" if temperature is None else f"{temperature:g}"
            return (
                f"the {side} was asked with temperature {told}: sampled answers differ by chance and are not compared; "
                "ask both sides with temperature 0"
            )
    if reference.sampling and candidate.sampling:
        for name in sorted({*reference.sampling, *candidate.sampling}):
            ours, theirs = reference.sampling.get(name), candidate.sampling.get(name)
            if ours != theirs:
                return f"sampling setting {name} is {_told(ours)} at the reference and {_told(theirs)} at the candidate; ask both alike"
    return ""


def _requests(reference: Facts, candidate: Facts, pairs: Sequence[tuple[ItemFacts, ItemFacts]]) -> str:
    if reference.items and candidate.items and not pairs:
        return "no item was asked of both sides; use the same golden sets for both, or capture the reference again"
    for ours, theirs in pairs:
        if ours.route != theirs.route:
            said = {"chat": "the chat template", "text": "the raw prompt"}
            return (
                f"item {ours.item}: the reference was asked with {said.get(ours.route, ours.route)} and the candidate with "
                f"{said.get(theirs.route, theirs.route)}; ask both in the same way"
            )
        if ours.request and theirs.request and ours.request != theirs.request:
            return f"item {ours.item}: the two requests differ in more than the served name; capture the reference again with this version"
    return ""


def _identity(reference: Facts, candidate: Facts) -> str:
    if candidate.listed and candidate.model not in candidate.listed:
        return f"the candidate serves {', '.join(sorted(candidate.listed)[:3])}, not {candidate.model}"
    # Some engines answer under their own name whatever they are asked for: then the reference does it too.
    own_name = bool(reference.answered) and reference.answered != reference.model
    if candidate.answered and not own_name and candidate.answered not in (candidate.model, *candidate.listed):
        return f"asked for {candidate.model}, the candidate answers as {candidate.answered}"
    declared = candidate.declared_len if candidate.declared_len is not None else reference.declared_len
    if declared is not None and candidate.max_model_len is not None and candidate.max_model_len < declared:
        return f"max_model_len is {candidate.max_model_len} at the candidate, {declared} were declared"
    return ""


def _rendered(ours: ItemFacts, theirs: ItemFacts) -> str:
    if ours.prompt_ids and theirs.prompt_ids:
        for at, (one, other) in enumerate(zip(ours.prompt_ids, theirs.prompt_ids, strict=False)):
            if one != other:
                return f"item {ours.item}: prompt token {at} is {other} at the candidate and {one} at the reference"
    counts = [len(i.prompt_ids) or i.prompt_tokens for i in (ours, theirs)]
    if None not in counts and counts[0] != counts[1]:
        last = min(len(ours.prompt_ids), len(theirs.prompt_ids))
        from_where = f", from token {last} on" if last else ""
        return f"item {ours.item}: the prompt has {counts[1]} tokens at the candidate and {counts[0]} at the reference{from_where}"
    return ""


def _vocabulary(reference: Facts, candidate: Facts) -> str:
    size = reference.vocabulary if reference.vocabulary is not None else candidate.vocabulary
    for item in candidate.items if size is not None else ():
        largest = max(*item.prompt_ids, item.largest_id or 0, 0)
        if size is not None and largest >= size:
            return f"item {item.item}: the candidate used token id {largest}; the vocabulary has {size}"
    return ""


def _hashes(reference: Facts, candidate: Facts, pairs: Sequence[tuple[ItemFacts, ItemFacts]]) -> str:
    """Digests of template and tokenizer decide only where no rendered prompt could be compared: a comment changes a digest too."""
    if any(r.prompt_ids and c.prompt_ids for r, c in pairs):
        return ""
    for name in ("template", "tokenizer"):
        ours, theirs = getattr(reference, name), getattr(candidate, name)
        if ours and theirs and ours != theirs:
            return f"the {name} is {theirs[:19]} at the candidate and {ours[:19]} at the reference, and neither side tells rendered prompts"
    return ""


def _stops(pairs: Sequence[tuple[ItemFacts, ItemFacts]]) -> str:
    """A lost end-of-text id shows in every answer; one answer that goes on a little is rounding."""
    asked = [c for r, c in pairs if r.must_stop and r.finish_reason == "stop" and c.finish_reason]
    stopped = sum(c.finish_reason == "stop" for c in asked)
    if 2 * stopped < len(asked):
        first = next(c for c in asked if c.finish_reason != "stop")
        return (
            f"the candidate ended {stopped} of {len(asked)} answers that end at the reference; item {first.item} ended by "
            f"{first.finish_reason}"
        )
    return ""


def _goes_on(pairs: Sequence[tuple[ItemFacts, ItemFacts]]) -> str:
    """Answers that end where the reference's go on, with the same words up to there: another end-of-text id. One alone is rounding."""
    asked = [(r, c) for r, c in pairs if r.answer and r.finish_reason == "length" and c.finish_reason]
    ended = [c for r, c in asked if c.finish_reason == "stop" and r.answer.startswith(c.answer)]
    if len(ended) < 2 or 2 * len(ended) <= len(asked):
        return ""
    first = ended[0]
    return (
        f"the candidate ends {len(ended)} of {len(asked)} answers where the reference goes on; item {first.item} after "
        f"{len(first.answer)} characters. Compare the end-of-text ids of both engines"
    )


def _behaviour(reference: Facts, candidate: Facts) -> str:
    """What the candidate does against the protocol and the reference does not."""
    if candidate.schema is False and reference.schema:
        return "the candidate's answer under a JSON schema does not satisfy it; the reference's does"
    if candidate.stream_equal is False and reference.stream_equal is not False:
        return "the candidate's streamed answer differs from its whole one"
    ours, theirs = reference.default_sampling, candidate.default_sampling
    if ours and theirs and ours != theirs:
        does = {"greedy": "answers greedily", "sampled": "samples"}
        return (
            f"where a request names no temperature the candidate {does.get(theirs, theirs)} and the reference {does.get(ours, ours)}; "
            "compare the sampling defaults of both engines (generation_config.json, launch arguments)"
        )
    for name, status in sorted(candidate.bad_parameters.items()):
        right = reference.bad_parameters.get(name)
        if not 400 <= status < 500 and (right is None or 400 <= right < 500):
            told = "" if right is None else f", the reference with {right}"
            return f"the candidate answers {name}, which is out of range, with HTTP {status}{told}; 400 to 499 is right"
    return ""


def _notes(reference: Facts, candidate: Facts) -> tuple[str, ...]:
    out: list[str] = []
    for name in ("max_model_len", "vocabulary", "template", "tokenizer"):
        ours, theirs = getattr(reference, name), getattr(candidate, name)
        if ours and theirs and ours != theirs:
            out.append(f"{name} is {theirs} at the candidate and {ours} at the reference")
    return tuple(out)


def _told(value: float | None) -> str:
    return "not set" if value is None else f"{value:g}"
