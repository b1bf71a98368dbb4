"""How an item is asked: the request that a user would send, and the token ids that the endpoint makes of it.

Scoring sends ids where both sides take them, so that a template or a tokenizer cannot hide in the scores; whether both sides render an item
to the same ids is the contract's question (`facts`). Without ids the text itself is sent, a chat as plain lines: the same on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accuracy.http import wire
from accuracy.http.client import Client, GarbledError, Json, RefusedError
from accuracy.http.probe import GREEDY, dialect_of
from accuracy.types import Item


@dataclass(frozen=True, slots=True)
class Prompt:
    """Either ids or text."""

    ids: tuple[int, ...] = ()
    text: str = ""

    @property
    def wire(self) -> list[int] | str:
        return list(self.ids) if self.ids else self.text


def prompt_of(item: Item, ids: tuple[int, ...]) -> Prompt:
    """What is sent: the ids if there are any, else the text."""
    return Prompt(ids=ids) if ids else Prompt(text=plain(item))


def request(item: Item, *, tools: bool = True) -> Json:
    """The item as a user would send it, without the model and without what follows from the question (length, log-probabilities)."""
    if not item.messages:
        return {"prompt": item.text}
    body: Json = {"messages": [dict(m) for m in item.messages]}
    if item.tools and tools:
        body["tools"] = [dict(t) for t in item.tools]
    return body


def plain(item: Item) -> str:
    """The item as text for an endpoint that takes no ids: a chat as one line per message, the answer's line begun."""
    if not item.messages:
        return item.text
    return "".join(f"{m['role']}: {_words(m.get('content'))}\n" for m in item.messages) + "assistant:"


async def render(client: Client, item: Item, *, tools: bool = True) -> tuple[int, ...]:
    """The ids that the endpoint makes of the item; () where it does not tell. Raises RefusedError where it does not take the item."""
    body = request(item, tools=tools)
    found = await _tokenized(client, body)
    if found:
        return found
    tell = dialect_of(client).tell
    if "return_token_ids" not in tell:
        return ()
    send = client.chat if item.messages else client.complete
    return wire.prompt_ids_of((await send({**body, "max_tokens": 1, **GREEDY, "return_token_ids": True})).body)


async def encode(client: Client, text: str) -> tuple[int, ...]:
    """The ids of a text; () where the endpoint does not tell."""
    return await _tokenized(client, {"prompt": text})


async def _tokenized(client: Client, body: Mapping[str, Any]) -> tuple[int, ...]:
    dialect = dialect_of(client)
    if not dialect.capabilities.tokenize:
        return ()
    path = client.endpoint.tokenize_path
    try:
        if dialect.tokenize_field == "prompt":
            sent = {**body, "add_generation_prompt": True} if "messages" in body else dict(body)
            return wire.ids((await client.post(path, sent)).body.get("tokens"))
        if "messages" not in body:
            return wire.ids((await client.post(path, {"content": body["prompt"], "add_special": True})).body.get("tokens"))
        text = (await client.post("/apply-template", {"messages": body["messages"]})).body.get("prompt")
        if not isinstance(text, str) or "tools" in body:
            return ()
        return wire.ids((await client.post(path, {"content": text, "add_special": True, "parse_special": True})).body.get("tokens"))
    except (RefusedError, GarbledError):
        return ()  # the other way may work, and says why if it does not


def _words(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else ()
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
