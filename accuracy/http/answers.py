"""Asks a task item as a user would and judges the answer: the input of gate Tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext

from accuracy import tasks
from accuracy.http import prompts, wire
from accuracy.http.client import Client, FailedError, GarbledError, Json, RefusedError
from accuracy.http.probe import GREEDY, dialect_of
from accuracy.types import Item

TOKENS = 96  # of an answer at most: a tool call, a small JSON object, a number


async def good(client: Client, item: Item, limit: asyncio.Semaphore | None = None) -> bool | None:
    """Whether the answer is as the item wants it. None: the item wants nothing, the endpoint cannot be asked for it (no tools, no schemas),
    or the bound cut the answer short. An engine that fails has no good answer. Raises UnavailableError."""
    if not tasks.judged(item):
        return None
    told = dialect_of(client).capabilities
    chat = bool(item.messages)
    if (chat and not told.chat) or (not chat and not told.completions):
        return None
    room = TOKENS if told.max_model_len is None else min(TOKENS, told.max_model_len // 4)
    body: Json = {**prompts.request(item), **GREEDY, "max_tokens": room}
    if item.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": item.schema}}
    send = client.chat if chat else client.complete
    try:
        async with limit or nullcontext():
            answer = (await send(body)).body
        choice, text = wire.choice(answer), wire.text_of(answer)
    except RefusedError:
        return None
    except (FailedError, GarbledError):
        return False
    if wire.finish_of(answer) == "length" and not item.answer:
        return None
    return tasks.reply(item, text, _called(choice) if item.tools else None).good


def _called(choice: Mapping[str, object]) -> list[str]:
    """Names of the tools that are called, in order."""
    message = choice.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [str(f["name"]) for f in functions if isinstance(f, dict) and f.get("name")]
