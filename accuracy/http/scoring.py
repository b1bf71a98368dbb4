"""One item, scored on one endpoint: what log-probabilities it gives to the golden tokens. A bad answer becomes `Scores` like a good one.

An engine's own failure (5xx, an empty reply, missing numbers) is an `Event` of the scores. What is no evidence about the device is raised:
an endpoint that does not answer (UnavailableError), or that does not take the request (RefusedError).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from accuracy.http import wire
from accuracy.http.client import Answer, Client, FailedError, GarbledError, Json
from accuracy.http.probe import GREEDY, dialect_of, prompt_fields
from accuracy.http.prompts import Prompt, prompt_of, request
from accuracy.record import RecordItem
from accuracy.types import HIT, Condition, Event, Item, Mode, Position, Scores, Token

STEPS = 8  # positions of one prompt in mode Stepwise
MOST_TEXT = 400  # characters of a generated text that are kept
# Scoring a whole prompt answers with its every token: megabytes beyond this many, so longer ones are scored step by step.
LONG_PROMPT = 2048
PLAIN = Condition()
T = TypeVar("T")
_NON_FINITE = re.compile(r"\bnan\b|not json compliant|non-?finite|out of range float", re.IGNORECASE)


@dataclass(slots=True)
class _Tally:
    """What came back so far for one item."""

    positions: list[Position | None] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    requests: int = 0
    tokens: int = 0
    prompt_tokens: int | None = None
    text: str = ""
    finish: str = ""
    generated: tuple[int, ...] = ()
    told_only: bool = False

    def took(self, answer: Answer) -> None:
        self.seconds += answer.seconds
        self.tokens += wire.tokens_of(answer.body)


def event_of(error: FailedError | GarbledError, position: int | None = None) -> Event:
    """What an engine's failure is evidence of."""
    if isinstance(error, GarbledError):
        return Event("EmptyReply", error.message, position, error.status)
    code = "NonFinite" if _NON_FINITE.search(error.message) else "ServerError"
    return Event(code, error.message, position, error.status)


def mode_of(mode: Mode, prompt_tokens: int) -> Mode:
    """The mode of one prompt: a long one is not scored in one request."""
    return Mode.STEPWISE if mode is Mode.PROMPT_LOGPROBS and prompt_tokens > LONG_PROMPT else mode


async def score(
    client: Client,
    item: Item,
    record_item: RecordItem,
    mode: Mode,
    positions: Sequence[int],
    condition: Condition,
    top_k: int,
    *,
    prompt: Prompt | None = None,
    limit: asyncio.Semaphore | None = None,
    told_only: bool = False,
) -> Scores:
    """Scores the golden continuation at these positions (indices in it). `limit` bounds the requests in flight and is shared by all that
    run at once; without it one request follows the other. `told_only`: where the golden token is not among those told, the position is
    None instead of a bound. Raises UnavailableError, RefusedError."""
    sent = prompt if prompt is not None else prompt_of(item, record_item.prompt_ids)
    tally = _Tally(told_only=told_only)
    if condition.prefix_cache == HIT:
        await _warm(client, sent, tally, limit)
    if mode is Mode.PROMPT_LOGPROBS:
        await _whole(client, sent, record_item, positions, top_k, tally, limit)
    elif mode is Mode.STEPWISE:
        await _steps(client, sent, record_item, positions, top_k, tally, limit)
    elif mode is Mode.FREE_RUN:
        await _free(client, item, sent, record_item, positions, top_k, tally, limit)
    else:
        raise ValueError(f"mode {mode} has no log-probabilities to score")
    return _scores(item, mode, condition, sent, tally)


async def generate(
    client: Client,
    item: Item,
    prompt: Prompt,
    tokens: int,
    top_k: int,
    *,
    condition: Condition = PLAIN,
    body: Mapping[str, Any] | None = None,
) -> Scores:
    """A continuation with the log-probabilities of its own tokens, greedy unless `body` says otherwise; `top_k` 0 asks for none of them."""
    tally = _Tally()
    asked = _generation(client, item, prompt) | {"max_tokens": tokens, **GREEDY, **_asking(client, top_k, item, prompt), **(body or {})}
    answer = await _ask(client, _is_chat(client, prompt), asked, tally, None, None)
    if answer is not None:
        _generated(answer, top_k, tally)
    return _scores(item, Mode.FREE_RUN, condition, prompt, tally)


def _generated(answer: Answer, top_k: int, tally: _Tally) -> None:
    try:
        found = wire.generated(answer.body) if top_k else ()
        tally.text, tally.finish = wire.text_of(answer.body), wire.finish_of(answer.body)
        told = wire.ids(wire.choice(answer.body).get("token_ids"))
    except GarbledError as error:
        tally.events.append(event_of(error))
        return
    tally.positions = [_trimmed(p, n, top_k) for n, p in enumerate(found)]
    own = tuple(p.token.id for p in tally.positions if p is not None and p.token.id is not None)
    tally.generated = told or (own if len(own) == len(tally.positions) else ())
    if not tally.text and not tally.positions and not tally.generated:
        tally.events.append(Event("EmptyReply", "no text", None, 200))
    elif top_k and not tally.positions:
        tally.events.append(Event("MissingLogprob", "the answer has no log-probabilities", None, 200))


async def _warm(client: Client, prompt: Prompt, tally: _Tally, limit: asyncio.Semaphore | None) -> None:
    """Leaves the prompt in the prefix cache. That it is answered badly will show when it is scored."""
    if prompt.ids or dialect_of(client).capabilities.completions:
        ignored = _Tally()
        await _ask(client, False, {"prompt": prompt.wire, "max_tokens": 1, **GREEDY}, ignored, None, limit)
        tally.seconds, tally.tokens, tally.requests = ignored.seconds, ignored.tokens, ignored.requests


async def _whole(
    client: Client, prompt: Prompt, golden: RecordItem, positions: Sequence[int], top_k: int, tally: _Tally, limit: asyncio.Semaphore | None
) -> None:
    dialect = dialect_of(client)
    last = max(positions, default=-1) + 1
    ids = [*prompt.ids, *(i for i in golden.continuation[:last] if i is not None)]
    asked = {"prompt": ids, "max_tokens": 1, **GREEDY, **dialect.tell, **prompt_fields(dialect.prompt_field, top_k)}
    answer = await _ask(client, False, asked, tally, None, limit)
    if answer is None:
        tally.positions = [None] * len(positions)
        return
    start = len(prompt.ids)
    try:
        found = wire.prompt(answer.body, ids, start) if dialect.prompt_field == "prompt_logprobs" else wire.echoed(answer.body, start)
        tally.finish = wire.finish_of(answer.body)
    except GarbledError as error:
        tally.events.append(event_of(error))
        found = ()
    tally.prompt_tokens = _less(wire.prompt_tokens_of(answer.body), last)
    if not found:
        tally.events.append(Event("MissingLogprob", "the answer has no log-probabilities of the prompt", None, 200))
    for at in positions:
        place = found[start + at] if start + at < len(found) else None
        wanted = golden.continuation[at]
        if place is not None and place.token.id not in (None, wanted):
            place = None  # another token than the one sent
        tally.positions.append(_trimmed(_named(place, wanted, golden.pieces[at : at + 1]), at, top_k))


async def _steps(
    client: Client, prompt: Prompt, golden: RecordItem, positions: Sequence[int], top_k: int, tally: _Tally, limit: asyncio.Semaphore | None
) -> None:
    known = {p.index: p.token.logprob for p in golden.positions}
    parts = [_Tally() for _ in positions]

    async def step(at: int, part: _Tally) -> None:
        before = golden.continuation[:at]
        sent: list[int] | str = (
            [*prompt.ids, *(i for i in before if i is not None)] if prompt.ids else prompt.text + "".join(golden.pieces[:at])
        )
        asked = {"prompt": sent, "max_tokens": 1, **GREEDY, **dialect_of(client).tell, "logprobs": top_k}
        answer = await _ask(client, False, asked, part, at, limit)
        if answer is None:
            return
        part.prompt_tokens = _less(wire.prompt_tokens_of(answer.body), at)
        try:
            found = wire.generated(answer.body)
        except GarbledError as error:
            part.events.append(event_of(error, at))
            return
        if not found or found[0] is None:
            empty = not wire.text_of(answer.body) and not _told_ids(answer.body)
            part.events.append(Event("EmptyReply" if empty else "MissingLogprob", "no log-probabilities came", at, 200))
            return
        piece = golden.pieces[at] if at < len(golden.pieces) else ""
        part.positions.append(_locate(found[0], golden.continuation[at], piece, top_k, _bound(tally, known, at), at))

    if limit is None:
        for at, part in zip(positions, parts, strict=True):
            await step(at, part)
    else:
        await together([step(at, part) for at, part in zip(positions, parts, strict=True)])
    for part in parts:
        tally.positions.append(part.positions[0] if part.positions else None)
        tally.events += part.events
        tally.seconds += part.seconds
        tally.requests += part.requests
        tally.tokens += part.tokens
        tally.prompt_tokens = tally.prompt_tokens if tally.prompt_tokens is not None else part.prompt_tokens


async def _free(
    client: Client,
    item: Item,
    prompt: Prompt,
    golden: RecordItem,
    positions: Sequence[int],
    top_k: int,
    tally: _Tally,
    limit: asyncio.Semaphore | None,
) -> None:
    """The endpoint's own continuation, compared until it leaves the golden one; that place still counts."""
    length = max(positions, default=-1) + 1
    asked = _generation(client, item, prompt) | {"max_tokens": length, **GREEDY, **_asking(client, top_k, item, prompt)}
    answer = await _ask(client, _is_chat(client, prompt), asked, tally, None, limit)
    if answer is None:
        return
    _generated(answer, top_k, tally)
    tally.prompt_tokens = wire.prompt_tokens_of(answer.body)
    own, tally.positions = tally.positions, []
    known = {p.index: p.token.logprob for p in golden.positions}
    for at, place in enumerate(own[:length]):
        if place is None:
            tally.positions.append(None)
            break
        wanted, piece = golden.continuation[at], golden.pieces[at] if at < len(golden.pieces) else ""
        tally.positions.append(_locate(place, wanted, piece, top_k, _bound(tally, known, at), at))
        same = place.token.id == wanted if None not in (place.token.id, wanted) else place.token.text == piece
        if not same:
            break


async def _ask(client: Client, chat: bool, body: Json, tally: _Tally, at: int | None, limit: asyncio.Semaphore | None) -> Answer | None:
    """The answer, or None with an event in the tally."""
    send = client.chat if chat else client.complete
    tally.requests += 1
    try:
        if limit is None:
            answer = await send(body)
        else:
            async with limit:
                answer = await send(body)
    except (FailedError, GarbledError) as error:
        tally.events.append(event_of(error, at))
        return None
    tally.took(answer)
    return answer


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once; the first error ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except* Exception as errors:
        raise next(iter(_leaves(errors))) from None
    return [task.result() for task in tasks]


def _leaves(errors: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in errors.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _told_ids(body: Json) -> tuple[int, ...]:
    return wire.ids(wire.choice(body).get("token_ids"))


def _is_chat(client: Client, prompt: Prompt) -> bool:
    return not prompt.ids and not dialect_of(client).capabilities.completions


def _generation(client: Client, item: Item, prompt: Prompt) -> Json:
    """The prompt of a generation request."""
    if not _is_chat(client, prompt):
        return {"prompt": prompt.wire}
    return request(item) if item.messages else {"messages": [{"role": "user", "content": item.text}]}


def _asking(client: Client, top_k: int, item: Item, prompt: Prompt) -> Json:
    if not top_k:
        return {}
    if _is_chat(client, prompt):
        return {"logprobs": True, "top_logprobs": top_k}
    return {**dialect_of(client).tell, "logprobs": top_k}


def _bound(tally: _Tally, known: Mapping[int, float], at: int) -> float | None:
    """The most that may be said of a golden token that is not told: what it is on the reference, or any (infinity); None: nothing."""
    return None if tally.told_only else known.get(at, math.inf)


def _locate(place: Position, wanted: int | None, piece: str, top_k: int, known: float | None, at: int) -> Position | None:
    """The golden token among what the engine told. Not told: it is at most as likely as the least likely one that was, and no more likely
    than on the reference (`known`), so that the difference is never overstated. Told ambiguously: None."""
    told = (*place.top, place.token) if all(t != place.token for t in place.top) else place.top or (place.token,)
    by_id = [t for t in told if t.id is not None]
    if wanted is not None and by_id:
        found = [t for t in by_id if t.id == wanted][:1]
    elif piece:
        found = [t for t in told if t.text == piece]
        if len({t.logprob for t in found if t.logprob == t.logprob}) > 1:
            return None  # two tokens with the same string
    else:
        return None  # a token without a string, and the engine tells strings only
    if found:
        return _trimmed(replace(place, token=Token(wanted, piece, found[0].logprob)), at, top_k)
    if known is None:
        return None
    values = [t.logprob for t in told]
    bound = math.nan if any(math.isnan(v) for v in values) else min(min(values), known)
    return _trimmed(replace(place, token=Token(wanted, piece, bound)), at, top_k)


def _named(place: Position | None, wanted: int | None, piece: Sequence[str]) -> Position | None:
    if place is None:
        return None
    return replace(
        place, token=Token(wanted if wanted is not None else place.token.id, piece[0] if piece else place.token.text, place.token.logprob)
    )


def _trimmed(place: Position | None, at: int, top_k: int) -> Position | None:
    """With its index, and with the alternatives that were asked for: engines add the chosen token to them."""
    return None if place is None else replace(place, top=place.top[:top_k], index=at)


def _less(count: int | None, golden: int) -> int | None:
    """Prompt tokens without the golden ones that were sent with them."""
    return None if count is None or count < golden else count - golden


def _scores(item: Item, mode: Mode, condition: Condition, prompt: Prompt, tally: _Tally) -> Scores:
    return Scores(
        item=item.id,
        mode=mode,
        condition=condition,
        positions=tuple(tally.positions),
        prompt_ids=prompt.ids,
        prompt_tokens=tally.prompt_tokens,
        text=tally.text[:MOST_TEXT],
        finish_reason=tally.finish,
        generated=tally.generated,
        events=tuple(tally.events),
        seconds=tally.seconds,
        requests=tally.requests,
        tokens=tally.tokens,
    )
