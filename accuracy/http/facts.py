"""What one side does with a few requests as a user would send them: the input of the contract (`accuracy.contract`).

All greedy, and all in the same form for both sides. What an endpoint refuses is told as "not known", never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accuracy.contract import Facts, ItemFacts, request_digest
from accuracy.golden import estimate_tokens
from accuracy.http import prompts, wire
from accuracy.http.client import Client, FailedError, GarbledError, Json, RefusedError, UnavailableError
from accuracy.http.probe import GREEDY, dialect_of
from accuracy.json_schema import satisfies
from accuracy.types import Item

MOST_STOPPING, STOP_TOKENS = 5, 64
SHORT = 256  # estimated tokens of an item that is asked here
STREAMED = 16
SCHEMA_TOKENS = 128
MOST_ANSWERS = 4  # items whose answer's beginning is compared: `STREAMED` tokens
# How an endpoint samples by itself: answers of so many tokens, at temperature 1 and without a word. An item whose sampled answers do not
# all differ cannot tell; where they do, this many equal ones without a word are no chance (5 in 10,000 at the worst).
DRAWN_TOKENS, DRAWN, UNASKED, TRIED = 8, 4, 8, 8
BAD: tuple[tuple[str, float], ...] = (("temperature", -1), ("top_p", 5))  # out of every engine's range


async def facts(client: Client, items: Sequence[Item], like: Facts | None = None, *, habits: bool = True) -> Facts:
    """Facts over some of `items`: those that `like` (the other side's) has, else one per stratum and some that must stop. `habits`: also
    where its answers end, and how it samples where nothing is said, which takes up to some dozen short answers. They follow from flags and
    files, so a further replica of what was certified is not asked.

    Raises UnavailableError; a failing engine (5xx) shows as what is missing, and again when it is scored.
    """
    told = dialect_of(client).capabilities
    known = {item.id: item for item in items}
    chosen = [known[i.item] for i in like.items if i.item in known] if like is not None else choose(items)
    theirs = {i.item: i.request for i in like.items} if like is not None else {}
    begun = [i.id for i in chosen if _open(i)][:MOST_ANSWERS] if like is None else [i.item for i in like.items if i.answer and habits]
    found: list[ItemFacts] = []
    answered = ""
    for item in chosen:
        try:
            one, name = await _item(client, item, theirs.get(item.id, ""), answer=item.id in begun)
        except (RefusedError, FailedError, GarbledError):
            continue
        found.append(one)
        answered = answered or name
    plain = next((item for item in chosen if not item.tools), None)
    short = [item for item in items if _open(item) and estimate_tokens(item) <= SHORT][:TRIED] if habits else []
    return Facts(
        model=client.model,
        listed=tuple(note.removeprefix("lists ") for note in told.notes if note.startswith("lists ")),
        answered=answered,
        max_model_len=told.max_model_len,
        sampling={name: float(value) for name, value in GREEDY.items()},
        items=tuple(found),
        schema=await _schema(client, [item for item in items if item.schema is not None]),
        stream_equal=await _streams(client, plain) if plain is not None else None,
        bad_parameters=await _bad(client, plain) if plain is not None else {},
        default_sampling=await _unasked(client, short),
    )


def choose(items: Iterable[Item]) -> list[Item]:
    """The first short item of each stratum, the first that must stop, and the first whose answer need not."""
    strata: set[str] = set()
    stopping = answers = 0
    out: list[Item] = []
    for item in items:
        if estimate_tokens(item) > SHORT or item.modality != "Text":
            continue
        stops = item.must_stop and stopping < MOST_STOPPING
        begins = _open(item) and answers < MOST_ANSWERS
        if item.stratum not in strata or stops or begins:
            out.append(item)
            strata.add(item.stratum)
            stopping, answers = stopping + stops, answers + begins
    return out


def _open(item: Item) -> bool:
    """Whether any answer to it goes on for some words."""
    return item.modality == "Text" and not (item.must_stop or item.tools)


async def _item(client: Client, item: Item, wanted: str, *, answer: bool) -> tuple[ItemFacts, str]:
    """How the endpoint takes one item, and the name that it answers under. Raises HttpError."""
    if item.tools and wanted != request_digest({**prompts.request(item, tools=False), **GREEDY}):
        try:
            return await _asked(client, item, tools=True, begin=answer)
        except RefusedError:
            pass  # an engine without tools: as everybody else asks it then
    return await _asked(client, item, tools=False, begin=answer)


async def _asked(client: Client, item: Item, *, tools: bool, begin: bool) -> tuple[ItemFacts, str]:
    dialect = dialect_of(client)
    chat = bool(item.messages) and dialect.capabilities.chat
    body: Json = {**(prompts.request(item, tools=tools) if chat else {"prompt": prompts.plain(item)}), **GREEDY}
    tell = {name: value for name, value in dialect.tell.items() if name == "return_token_ids"}
    send = client.chat if chat or not dialect.capabilities.completions else client.complete
    finish = said = ""
    room = STOP_TOKENS if item.must_stop else STREAMED if begin else 1
    try:
        answer = (await send({**body, **tell, "max_tokens": room})).body
        finish = wire.finish_of(answer) if room > 1 else ""
        said = wire.text_of(answer) if begin else ""
    except RefusedError:
        if room == 1:
            raise
        answer = (await send({**body, **tell, "max_tokens": 1})).body  # no room for the whole answer
    ids = wire.prompt_ids_of(answer)
    if not ids and (chat or not item.messages):
        ids = await prompts.render(client, item, tools=tools)
    generated = wire.ids(wire.choice(answer).get("token_ids"))
    name = answer.get("model")
    return ItemFacts(
        item=item.id,
        route="chat" if chat else "text",
        request=request_digest(body),
        prompt_ids=ids,
        prompt_tokens=wire.prompt_tokens_of(answer),
        must_stop=item.must_stop,
        finish_reason=finish,
        answer=said,
        largest_id=max(generated, default=None),
    ), name if isinstance(name, str) else ""


def _way(client: Client, item: Item) -> tuple[str, Json]:
    """Path and body of a plain greedy request."""
    told = dialect_of(client).capabilities
    if item.messages and told.chat:
        return client.endpoint.chat_path, {**prompts.request(item), **GREEDY}
    if not told.completions:
        return client.endpoint.chat_path, {"messages": [{"role": "user", "content": prompts.plain(item)}], **GREEDY}
    return client.endpoint.completions_path, {"prompt": prompts.plain(item), **GREEDY}


async def _streams(client: Client, item: Item) -> bool | None:
    """Whether the streamed answer says the same as the whole one; asked once more if not, because a batch may turn a tie."""
    path, body = _way(client, item)
    for length in (STREAMED, 1):
        asked = {**body, "max_tokens": length}
        try:
            for _ in range(2):
                whole = wire.text_of((await client.post(path, asked)).body)
                if whole == "".join(_delta(chunk) for chunk in await client.stream(path, asked)):
                    return True
            return False
        except RefusedError:
            continue  # no room, or no streaming
        except GarbledError:
            return False  # half a stream
        except FailedError:
            return None
    return None


def _delta(chunk: Mapping[str, Any]) -> str:
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta = first.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else first.get("text")
    return text if isinstance(text, str) else ""


async def _unasked(client: Client, items: Sequence[Item]) -> str:
    """Whether the endpoint samples where a request names no temperature; "" where these items cannot tell.

    Most engines take such defaults from a file beside the weights, and a user who says nothing gets them.
    """

    async def answer(path: str, body: Json, **more: int) -> str:
        return wire.text_of((await client.post(path, {**body, **more, "max_tokens": DRAWN_TOKENS})).body)

    for item in items:
        path, body = _way(client, item)
        bare = {name: value for name, value in body.items() if name not in GREEDY}
        try:
            drawn = {greedy := await answer(path, body)}
            for seed in range(DRAWN):
                drawn.add(await answer(path, {**body, "temperature": 1}, seed=seed))
                if len(drawn) < seed + 2:
                    break  # a prompt that leaves little choice
            if len(drawn) <= DRAWN:
                continue
            other: set[str] = set()
            for seed in range(UNASKED):
                other |= {await answer(path, bare, seed=seed)} - {greedy}
                if len(other) > 1:
                    return "sampled"
            return "" if other else "greedy"
        except (RefusedError, FailedError, GarbledError):
            return ""
    return ""


async def _bad(client: Client, item: Item) -> dict[str, int]:
    path, body = _way(client, item)
    out: dict[str, int] = {}
    for name, value in BAD:
        try:
            await client.post(path, {**body, name: value, "max_tokens": 1})
            out[name] = 200
        except (RefusedError, FailedError, GarbledError) as error:
            out[name] = error.status or 0
    return out


async def _schema(client: Client, items: Sequence[Item]) -> bool | None:
    """Whether an answer under a JSON schema is one; None where the endpoint takes no schema."""
    if not items or not dialect_of(client).capabilities.chat:
        return None
    item = min(items, key=estimate_tokens)
    asked = {
        **prompts.request(item, tools=False),
        **GREEDY,
        "max_tokens": SCHEMA_TOKENS,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": item.schema}},
    }
    if "messages" not in asked:
        return None
    try:
        answer = (await client.chat(asked)).body
        if wire.finish_of(answer) == "length":
            return None  # cut short by our own bound
        return satisfies(wire.text_of(answer), item.schema or {})
    except (RefusedError, FailedError):
        return None
    except GarbledError:
        return False


__all__ = ["UnavailableError", "choose", "facts"]
