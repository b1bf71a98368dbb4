"""What an endpoint can do, found out by asking: few small requests, greedy, before the first prompt is scored.

Nothing is taken from the engine's name. A field that an engine ignores in silence shows in what is missing from its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from accuracy.http import wire
from accuracy.http.client import Client, GarbledError, Json, RefusedError, count
from accuracy.types import Capabilities, Mode, Position

TEXT = "The quick brown fox jumps over"
GREEDY: Mapping[str, Any] = {"temperature": 0, "top_p": 1}
TOP_K = (20, 5, 1)  # the usual caps: vLLM 20, MindIE 5 on completions
TELL: tuple[Mapping[str, bool], ...] = (
    {"return_token_ids": True, "return_tokens_as_token_ids": True},
    {"return_tokens_as_token_ids": True},
    {},
)
SPEED_TOKENS = 24
# One token after another takes a pass over the model each. The fastest engines need about 300 microseconds; what answers in a tenth of it
# does not compute. A canned answer, or a cache in between, says nothing about a device.
FASTEST_TOKEN_S = 30e-6
TOO_FAST = "answers come faster than any model computes"
_ENGINES = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "llama.cpp": "llama.cpp", "mindie": "mindie", "huggingface": "tgi"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How this endpoint is spoken to. `tell`: fields that make it tell ids. `prompt_field`: how a prompt is scored ("" = it cannot)."""

    capabilities: Capabilities
    tell: Mapping[str, bool] = field(default_factory=dict)
    prompt_field: str = ""  # "prompt_logprobs" or "echo"
    tokenize_field: str = "prompt"  # llama.cpp calls it content
    tools: bool | None = None  # it takes tool definitions; None = not asked


class ProbeError(Exception):
    """The endpoint is there and cannot be used for this; the message says why."""


async def probe(client: Client) -> Capabilities:
    """Asks, and leaves the dialect in `client.dialect`. Raises HttpError where nobody answers, ProbeError where no use is possible."""
    listed, length, engine = await _models(client)
    found = Capabilities(max_model_len=length, model=client.model, engine=engine, notes=listed)
    dialect = Dialect(found)
    dialect, ids = await _tokenize(client, dialect)
    dialect, told = await _completions(client, dialect)
    ids = ids or told
    if dialect.capabilities.completions and ids:
        dialect = await _ids_in(client, dialect, ids)
    if dialect.capabilities.token_ids_in:
        dialect = await _prompt_scores(client, dialect, ids)
    dialect = await _chat(client, dialect)
    if not dialect.capabilities.completions and not dialect.capabilities.chat:
        names = [note.removeprefix("lists ") for note in listed if note.startswith("lists ")]
        other = f"; it lists {', '.join(names)}, and was asked for {client.model}" if names and client.model not in names else ""
        raise ProbeError(f"{client.name} answers neither /v1/completions nor /v1/chat/completions in the form of the OpenAI API{other}")
    dialect = await _speed(client, dialect)
    client.dialect = dialect
    return dialect.capabilities


def dialect_of(client: Client) -> Dialect:
    if client.dialect is None:
        raise ProbeError(f"{client.name} was not probed")
    return client.dialect


async def _models(client: Client) -> tuple[tuple[str, ...], int | None, str]:
    """Notes, context and guess of the engine; sets the client's model where it is the only one."""
    try:
        body = (await client.get(client.endpoint.models_path)).body
    except (RefusedError, GarbledError) as error:
        if not client.model:
            raise ProbeError(f"{client.name} lists no models ({error.message}); name the model that is asked for") from error
        return ("no list of models",), None, ""
    rows = body.get("data")
    cards = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)] if isinstance(rows, list) else []
    names = [str(card["id"]) for card in cards]
    if not client.model:
        if len(names) != 1:
            raise ProbeError(f"{client.name} serves {len(names)} models ({', '.join(names[:5])}); name the one that is meant")
        client.model = names[0]
    card: Json = next((card for card in cards if card["id"] == client.model), {})
    meta = card.get("meta")
    length = count(card.get("max_model_len")) or (count(meta.get("n_ctx")) if isinstance(meta, dict) else None)
    return tuple(f"lists {name}" for name in names[:8]), length or None, _ENGINES.get(str(card.get("owned_by", "")).lower(), "")


async def _tokenize(client: Client, dialect: Dialect) -> tuple[Dialect, tuple[int, ...]]:
    for name in ("prompt", "content"):
        try:
            body = (await client.post(client.endpoint.tokenize_path, {name: TEXT})).body
        except (RefusedError, GarbledError):
            continue
        found = wire.ids(body.get("tokens"))
        if found:
            return replace(dialect, tokenize_field=name, capabilities=replace(dialect.capabilities, tokenize=True)), found
    return dialect, ()


async def _completions(client: Client, dialect: Dialect) -> tuple[Dialect, tuple[int, ...]]:
    for wanted in (*TOP_K, None):
        for tell in TELL:
            asked = {"prompt": TEXT, "max_tokens": 2, **GREEDY, **tell} | ({"logprobs": wanted} if wanted is not None else {})
            try:
                body = (await client.complete(asked)).body
                positions = wire.generated(body)
            except (RefusedError, GarbledError):
                continue
            seen = replace(dialect, tell=tell, capabilities=replace(dialect.capabilities, completions=True))
            return _with_top(seen, positions, wanted), wire.prompt_ids_of(body)
    return dialect, ()


def _with_top(dialect: Dialect, positions: tuple[Position | None, ...], wanted: int | None) -> Dialect:
    first = next((p for p in positions if p is not None), None)
    if first is None or wanted is None:
        return dialect
    # An engine may tell fewer than it was asked for; the chosen token alone is one.
    top = max(1, min(wanted, len(first.top)))
    ids = (first.top[0].id if first.top else first.token.id) is not None
    told = dialect.capabilities
    return replace(dialect, capabilities=replace(told, top_k=max(told.top_k, top), token_ids_out=told.token_ids_out or ids))


async def _ids_in(client: Client, dialect: Dialect, ids: tuple[int, ...]) -> Dialect:
    try:
        body = (await client.complete({"prompt": list(ids), "max_tokens": 1, **GREEDY})).body
        wire.choice(body)
    except (RefusedError, GarbledError):
        return dialect
    if wire.prompt_tokens_of(body) not in (None, len(ids)):
        return dialect  # it took the numbers for text
    return replace(dialect, capabilities=replace(dialect.capabilities, token_ids_in=True))


async def _prompt_scores(client: Client, dialect: Dialect, ids: tuple[int, ...]) -> Dialect:
    for name in ("prompt_logprobs", "echo"):
        for wanted in TOP_K:
            try:
                body = (
                    await client.complete({"prompt": list(ids), "max_tokens": 1, **GREEDY, **dialect.tell, **prompt_fields(name, wanted)})
                ).body
            except (RefusedError, GarbledError):
                continue
            positions = wire.prompt(body, ids) if name == "prompt_logprobs" else wire.echoed(body)
            scored = [p for p in positions[: len(ids)] if p is not None]
            if len(scored) < len(ids) - 1:
                break  # it ignores the field, or tells only a part: the next way
            top = min(wanted, max(len(p.top) for p in scored))
            return replace(
                dialect, prompt_field=name, capabilities=replace(dialect.capabilities, prompt_logprobs=True, prompt_top_k=max(1, top))
            )
    return dialect


def prompt_fields(name: str, top_k: int) -> Json:
    return {"prompt_logprobs": top_k} if name == "prompt_logprobs" else {"echo": True, "logprobs": top_k}


async def _chat(client: Client, dialect: Dialect) -> Dialect:
    for wanted in (*TOP_K, None):
        asked: Json = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 2, **GREEDY}
        if wanted is not None:
            asked |= {"logprobs": True, "top_logprobs": wanted}
        try:
            body = (await client.chat(asked)).body
            positions = wire.generated(body)
        except (RefusedError, GarbledError):
            continue
        seen = replace(dialect, capabilities=replace(dialect.capabilities, chat=True))
        return seen if dialect.capabilities.completions else _with_top(seen, positions, wanted)
    return dialect


async def _speed(client: Client, dialect: Dialect) -> Dialect:
    """One continuation of some tokens, timed. It also shows whether the endpoint streams."""
    told = dialect.capabilities
    asked: Json = {"max_tokens": SPEED_TOKENS, **GREEDY}
    try:
        if told.completions:
            path, asked = client.endpoint.completions_path, asked | {"prompt": TEXT}
        else:
            path, asked = client.endpoint.chat_path, asked | {"messages": [{"role": "user", "content": TEXT}]}
        answer = await client.post(path, asked)
    except (RefusedError, GarbledError):
        return dialect
    usage = answer.body.get("usage")
    made = count(usage.get("completion_tokens")) if isinstance(usage, dict) else None
    if made and answer.seconds < made * FASTEST_TOKEN_S:
        note = f"{TOO_FAST}: {made} tokens in {answer.seconds * 1e6:.0f} microseconds"
        told = replace(told, notes=(*told.notes, note))
    try:
        streaming = bool(await client.stream(path, asked | {"max_tokens": 2}))
    except (RefusedError, GarbledError):
        streaming = False
    return replace(dialect, capabilities=replace(told, streaming=streaming))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How both sides are scored: mode, with prompts as ids or as text, and how many alternatives per position."""

    mode: Mode
    ids: bool
    top_k: int


def agree(reference: Capabilities, candidate: Capabilities, modes: tuple[Mode, ...], top_k: int) -> Agreement | str:
    """The first allowed mode that both sides can do, or why there is none."""
    ids = reference.token_ids_in and candidate.token_ids_in
    for mode in modes:
        if mode is Mode.PROMPT_LOGPROBS and ids and reference.prompt_logprobs and candidate.prompt_logprobs:
            return Agreement(mode, True, min(top_k, reference.prompt_top_k, candidate.prompt_top_k))
        known = min(top_k, reference.top_k, candidate.top_k)
        if mode is Mode.STEPWISE and known > 0 and reference.completions and candidate.completions:
            return Agreement(mode, ids, known)
        if mode is Mode.FREE_RUN and known > 0:
            return Agreement(mode, ids, known)
    without = [side for side, told in (("reference", reference), ("candidate", candidate)) if not told.top_k and not told.prompt_logprobs]
    if without:
        return f"the {' and the '.join(without)} told no log-probabilities (modes allowed: {', '.join(modes)})"
    return f"no allowed mode ({', '.join(modes)}) is possible on both sides"
