"""One prompt on one candidate: scored, its faults asked once more, compared with itself, and made the numbers that the decision reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from accuracy import hard
from accuracy.degenerate import SHORTEST, degenerate
from accuracy.design import Planned
from accuracy.http import prompts
from accuracy.http.answers import good
from accuracy.http.capture import positions_of
from accuracy.http.client import Client
from accuracy.http.probe import dialect_of
from accuracy.http.prompts import Prompt
from accuracy.http.scoring import PLAIN, generate, mode_of, score
from accuracy.measure import divergence, sample
from accuracy.policy import Policy
from accuracy.record import RecordItem
from accuracy.types import HIT, Event, Item, Mode, Position, Sample, Scores

EVERY = 4  # each so many-th prompt the candidate's decoding is compared with its own prefill
DECODED = 16  # tokens of such a comparison
RESCORED = 4  # of these, where each costs a request
SAMPLED = 48  # tokens of the sampled answer that tells whether an engine is stuck or a prompt is dull
HITS = 3  # positions that a whole-prompt scoring is repeated at out of the cache
OBSERVED = 20  # comparisons that are also made without asking for log-probabilities


@dataclass(frozen=True, slots=True)
class Examined:
    """A prompt's numbers, and the answers behind them for the report."""

    sample: Sample
    scores: Scores
    trace: tuple[tuple[int, float], ...] = ()  # (place in the sequence, squared difference)
    message: str = ""  # what a hard or intermittent fault said


@dataclass(slots=True)
class Examiner:
    """What one run asks of every prompt. `own_reference`: there is no other side; each prompt is compared with the candidate's record."""

    policy: Policy
    mode: Mode
    top_k: int
    own_reference: bool = False
    consistency: bool = True
    tasks: bool = False
    observed: int = 0
    _rendered: dict[str, Prompt] = field(default_factory=dict)

    async def examine(self, client: Client, planned: Planned, golden: RecordItem, limit: asyncio.Semaphore | None) -> Examined:
        """Raises UnavailableError, RefusedError; everything else is in the result."""
        item, condition = planned.item, planned.condition
        prompt = await self._prompt(client, item, golden)
        mode = mode_of(self.mode, len(prompt.ids))
        at = tuple(p.index for p in golden.positions)
        theirs = reference_scores(item, golden, mode, self.top_k)

        async def ask() -> Scores:
            return await score(client, item, golden, mode, at, condition, self.top_k, prompt=prompt, limit=limit)

        said = [await ask()]
        event, repeats = await self._faults(said, theirs, ask)
        for _ in range(self.policy.repeats - 1 if event is None else 0):
            said.append(await ask())
            event, repeats = self._sight(said[-1], theirs)
            if event is not None:
                break
        pairs: list[Scores | tuple[Scores, Scores]] = []
        if event is None or not repeats:
            pairs, other, again = await self._consistent(client, planned, prompt, golden, said[0], limit)
            if other is not None and (event is None or again):
                event, repeats = other, again
        if self.own_reference:
            pairs = [(theirs, said[0]), *pairs]
        result = sample(
            planned.index,
            item,
            None if self.own_reference else theirs,
            said if len(said) > 1 else said[0],
            golden.noise_kl,
            golden.noise_sq,
            self.policy,
            consistent=pairs or None,
            hard=event.code if event is not None and repeats else "",
            intermittent=event.code if event is not None and not repeats else "",
            task=await self._task(client, item, golden, limit),
        )
        message = "" if event is None else f"{event.code} at item {item.id}: {event.detail}"
        return Examined(result, said[0], _trace(theirs, said[0], golden), message[:300])

    async def _task(self, client: Client, item: Item, golden: RecordItem, limit: asyncio.Semaphore | None) -> float | None:
        """The candidate's task score less the reference's."""
        if not self.tasks or golden.good is None:
            return None
        mine = await good(client, item, limit)
        return None if mine is None else float(mine) - float(golden.good)

    async def _prompt(self, client: Client, item: Item, golden: RecordItem) -> Prompt:
        """What is sent. Ids that the record is too small for are made by the endpoint, and must be as many."""
        if golden.prompt_ids:
            return Prompt(ids=golden.prompt_ids)
        if not any(i is not None for i in golden.continuation) or not dialect_of(client).capabilities.token_ids_in:
            return Prompt(text=prompts.plain(item))
        known = self._rendered.get(item.id)
        if known is None:
            ids = await prompts.render(client, item)
            known = Prompt(ids=ids) if ids and golden.prompt_tokens in (None, len(ids)) else Prompt(text=prompts.plain(item))
            self._rendered = {item.id: known}  # the latest only: it may be asked for again at once
        return known

    def _sight(self, scores: Scores, theirs: Scores) -> tuple[Event | None, bool]:
        found = hard.at_sight(scores, self.policy, d_kl=divergence(theirs, scores).d_kl)
        return (found[0], True) if found else (None, False)

    async def _faults(self, said: list[Scores], theirs: Scores, ask: Callable[[], Awaitable[Scores]]) -> tuple[Event | None, bool]:
        """The worst event of the first answer, and whether it blocks: at once, or because it came again."""
        event, blocks = self._sight(said[0], theirs)
        if event is not None:
            return event, blocks
        doubts = hard.to_confirm(said[0], theirs)
        if not doubts:
            return None, False
        again = await ask()
        event, blocks = self._sight(again, theirs)
        if event is not None:
            said[0] = again
            return event, blocks
        codes = {doubt.code for doubt in hard.to_confirm(again, theirs)}
        came = next((doubt for doubt in doubts if doubt.code in codes), None)
        if came is None:
            said[0] = again  # the numbers of the answer that was one; the other counts as a violation
        return (came, True) if came is not None else (doubts[0], False)

    async def _consistent(
        self, client: Client, planned: Planned, prompt: Prompt, golden: RecordItem, said: Scores, limit: asyncio.Semaphore | None
    ) -> tuple[list[Scores | tuple[Scores, Scores]], Event | None, bool]:
        """Answers of the candidate to compare with itself; an event, and whether it blocks."""
        found: list[Scores | tuple[Scores, Scores]] = []
        if not self.consistency or self.mode not in (Mode.PROMPT_LOGPROBS, Mode.STEPWISE) or not prompt.ids:
            return found, None, False
        item, told = planned.item, dialect_of(client).capabilities
        top_k = min(self.top_k, told.top_k)
        if said.mode is Mode.PROMPT_LOGPROBS and planned.condition.prefix_cache == HIT and top_k:
            # Engines compute a prompt whose scores are wanted, whatever is cached: the cache shows step by step only.
            at = _spread(tuple(p.index for p in golden.positions), HITS)
            found.append(await score(client, item, golden, Mode.STEPWISE, at, planned.condition, top_k, prompt=prompt, limit=limit))
        if planned.index % EVERY or not top_k:
            return found, None, False
        room = DECODED if told.max_model_len is None else min(DECODED, told.max_model_len - len(prompt.ids) - 1)
        if room < 1:
            return found, None, False
        decoded = await _held(limit, client, item, prompt, room, top_k)
        event, blocks = await self._decoded(client, item, prompt, golden, decoded, room, limit)
        if len(decoded.generated) == len(decoded.positions) > 0:
            own = RecordItem(
                item.id,
                prompt_ids=prompt.ids,
                continuation=decoded.generated,
                pieces=tuple(p.token.text if p is not None else "" for p in decoded.positions),
            )
            mode = mode_of(self.mode, len(prompt.ids))
            at = tuple(range(len(decoded.generated)))
            at = at if mode is Mode.PROMPT_LOGPROBS else _spread(at, RESCORED)
            again = await score(client, item, own, mode, at, PLAIN, top_k, prompt=prompt, limit=limit)
            found.append((_only(decoded, at), again))
        return found, event, blocks

    async def _decoded(
        self, client: Client, item: Item, prompt: Prompt, golden: RecordItem, decoded: Scores, room: int, limit: asyncio.Semaphore | None
    ) -> tuple[Event | None, bool]:
        """Faults of a generated text: impossible numbers, degenerate text, and whether being asked for log-probabilities changes it."""
        found = hard.at_sight(decoded, self.policy)
        if found:
            return found[0], True
        # Its own record excuses nothing: an engine that is sick says the same there.
        theirs = Scores(item.id, Mode.FREE_RUN, PLAIN, (), text="" if self.own_reference else golden.text)
        for doubt in hard.to_confirm(decoded, theirs):
            if doubt.code == "Degenerate":
                # This text is greedy, and a healthy small model gets stuck at temperature 0 now and then: SmolLM2 at 4 of 480 prompts.
                # Where a reference is asked, its numbers tell a sick engine apart. Where nothing else does, the same prompt is sampled:
                # none of the four stayed stuck, while an engine that is sick has no other text to say. Such a prompt is a bad one.
                if self.own_reference and await self._stuck(client, item, prompt, limit):
                    return doubt, False
                continue
            again = await _held(limit, client, item, prompt, room, self.top_k)
            return doubt, doubt.code in {e.code for e in hard.to_confirm(again, theirs)}
        if self.observed >= OBSERVED or decoded.events:
            return None, False
        self.observed += 1
        changed = [await self._unobserved(client, item, prompt, decoded, room, limit)]
        if changed[0] is None:
            return None, False
        changed.append(await self._unobserved(client, item, prompt, decoded, room, limit))
        return changed[0], changed[1] is not None

    async def _stuck(self, client: Client, item: Item, prompt: Prompt, limit: asyncio.Semaphore | None) -> bool:
        """Whether no sampled answer frees it: of two, each is degenerate as well, or neither ends nor is long enough to tell."""
        context = dialect_of(client).capabilities.max_model_len
        room = SAMPLED if context is None else min(SAMPLED, context - len(prompt.ids) - 1)
        for seed in (self.policy.seed, self.policy.seed + 1):
            said = await _held(limit, client, item, prompt, room, 0, {"temperature": 1.0, "seed": seed % 2**31})
            if not degenerate(said.text) and (said.finish_reason == "stop" or len(said.text.strip()) >= SHORTEST):
                return False
        return True

    async def _unobserved(
        self, client: Client, item: Item, prompt: Prompt, decoded: Scores, room: int, limit: asyncio.Semaphore | None
    ) -> Event | None:
        """Whether the text differs without log-probabilities where the first difference is no tie."""
        plain = await _held(limit, client, item, prompt, room, 0)
        if plain.events or plain.text == decoded.text:
            return None
        margin = _margin(decoded, plain)
        if margin is None or margin <= self.policy.margins.flip_margin_nats:
            return None
        return Event("ObserverEffect", f"asking for log-probabilities changes the text, against a margin of {margin:.2f} nats")


async def _held(
    limit: asyncio.Semaphore | None,
    client: Client,
    item: Item,
    prompt: Prompt,
    tokens: int,
    top_k: int,
    body: Mapping[str, Any] | None = None,
) -> Scores:
    if limit is None:
        return await generate(client, item, prompt, tokens, top_k, body=body)
    async with limit:
        return await generate(client, item, prompt, tokens, top_k, body=body)


def reference_scores(item: Item, golden: RecordItem, mode: Mode, top_k: int) -> Scores:
    """The record's answer as scores, with no more alternatives than the candidate was asked for."""
    return Scores(
        item=item.id,
        mode=mode,
        condition=PLAIN,
        positions=tuple(replace(p, top=p.top[:top_k]) for p in golden.positions),
        prompt_ids=golden.prompt_ids,
        prompt_tokens=golden.prompt_tokens,
        text=golden.text,
        finish_reason=golden.finish_reason,
    )


def _spread(at: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many of them, evenly, the last one included."""
    if len(at) <= most:
        return tuple(at)
    return tuple(at[round(n * (len(at) - 1) / max(1, most - 1))] for n in range(most))


def _only(scores: Scores, at: Sequence[int]) -> Scores:
    wanted = set(at)
    return replace(scores, positions=tuple(p for p in scores.positions if p is not None and p.index in wanted))


def _margin(observed: Scores, plain: Scores) -> float | None:
    """The lead of the chosen token over the next one where the two texts part; None where that cannot be said."""
    if plain.generated and observed.generated:
        place = next((n for n, (a, b) in enumerate(zip(observed.generated, plain.generated, strict=False)) if a != b), None)
    else:
        place, text = None, ""
        for n, position in enumerate(observed.positions):
            text += position.token.text if position is not None else ""
            if not plain.text.startswith(text):
                place = n
                break
    parted: Position | None = observed.positions[place] if place is not None and place < len(observed.positions) else None
    if parted is None or len(parted.top) < 2:
        return None
    return parted.top[0].logprob - parted.top[1].logprob


def _trace(theirs: Scores, ours: Scores, golden: RecordItem) -> tuple[tuple[int, float], ...]:
    known = {p.index: p.token.logprob for p in theirs.positions if p is not None}
    start = golden.prompt_tokens or len(golden.prompt_ids)
    out: list[tuple[int, float]] = []
    for position in ours.positions:
        if position is not None and position.index in known:
            apart = max(-2.0, min(2.0, position.token.logprob - known[position.index]))
            if apart == apart:
                out.append((start + position.index, apart * apart))
    return tuple(sorted(out))


__all__ = ["Examined", "Examiner", "positions_of", "reference_scores"]
