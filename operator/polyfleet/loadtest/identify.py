"""What serves at an address: its models, its engine and version, the dialect it speaks. Failures say what to do.

A measurement is worth its name only if it is known what ran. The model comes from /v1/models; the version from /version (vLLM), from
/get_server_info (SGLang) or from whoever starts the test; the engine's name from `owned_by` in the model list, or from whoever starts it.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import aiohttp

from polyfleet.loadtest.client import MOST_BODY, Api, Client, Where, bounded, message_of, short
from polyfleet.loadtest.problem import Problem
from polyfleet.loadtest.readings import Readings, read
from polyfleet.loadtest.samples import Record
from polyfleet.loadtest.workload import Lengths, Request, Scale, prompt

ASK_S = 30.0
# `owned_by` of the model list, as the engines' own servers write it.
_OWNERS = {"vllm": "vllm", "sglang": "sglang", "polyfleet": "sandbox", "llamacpp": "llamacpp", "MindIE Server": "mindie"}
_WORD = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
_PROBE_WORDS = (8, 64)


@dataclass(frozen=True, slots=True)
class Server:
    """What the endpoint says of itself; "" = it does not say."""

    model: str  # the name under which requests ask for it
    root: str  # what it was loaded from, if the list says so (the model's own name)
    engine: str
    version: str
    precision: str
    devices: int | None
    context: int | None
    note: str = ""  # something about it that belongs into the source


async def server(http: aiohttp.ClientSession, where: Where, model: str, *, strict: bool) -> Server:
    """The entry of /v1/models that is `model` (by id or root). Not `strict`: a list with a single model is taken for it.

    Raises Problem: no connection, no right, no such model, no model list.
    """
    body = await _json(http, where, "/v1/models")
    rows = body.get("data")
    cards = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    names = sorted({str(row.get("id")) for row in cards})
    found = next((row for name in ("id", "root") for row in cards if row.get(name) == model), None)
    if found is None and not strict and len(cards) == 1:
        found = cards[0]
    if found is None:
        listed = ", ".join(names[:8]) or "none"
        raise Problem(
            f"{where.base} does not serve {model}",
            f"its models: {listed}",
            f"repeat with --served-name {names[0]}, if that is {model}" if names else f"curl {where.base}/v1/models",
        )
    extra = found.get("polyfleet") if isinstance(found.get("polyfleet"), dict) else {}
    assert isinstance(extra, dict)
    owner = str(found.get("owned_by") or "")
    version = await _version(http, where)
    return Server(
        model=str(found.get("id")),
        root=str(found.get("root") or ""),
        engine=_OWNERS.get(owner, ""),
        version=version if _WORD.match(version) and len(version) <= 63 else "",
        precision=str(extra.get("dtype") or ""),
        devices=extra.get("tensorParallelSize") if isinstance(extra.get("tensorParallelSize"), int) else None,
        context=found.get("max_model_len") if isinstance(found.get("max_model_len"), int) else None,
        note="the engine says that it is paced: it sleeps and computes nothing" if extra.get("paced") is True else "",
    )


async def _version(http: aiohttp.ClientSession, where: Where) -> str:
    for path in ("/version", "/get_server_info"):
        try:
            said = (await _json(http, where, path)).get("version")
        except Problem:
            continue  # an engine without this route: the caller asks for --engine-version
        if isinstance(said, str) and said:
            return said.split("+", 1)[0]  # without the build's own suffix
    return ""


async def scrape(http: aiohttp.ClientSession, where: Where) -> Readings | None:
    """The engine's metrics beside `/v1`; None where there are none (a gateway, an engine that does not export them)."""
    try:
        headers = await where.headers()
        async with asyncio.timeout(ASK_S), http.get(where.url("/metrics"), headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            return read((await bounded(answer, MOST_BODY)).decode("utf-8", "replace"))
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None


async def _json(http: aiohttp.ClientSession, where: Where, path: str) -> dict[str, Any]:
    asked = f"GET {where.base}{path}"
    try:
        headers = await where.headers()
        async with asyncio.timeout(ASK_S), http.get(where.url(path), headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                raise refused(asked, answer.status, await message_of(answer))
            raw = await bounded(answer, MOST_BODY)
            body = json.loads(raw)
    except TimeoutError as error:
        raise Problem(
            f"{where.base} does not answer", f"{asked} took more than {ASK_S:.0f} s", f"curl -m 60 {where.base}/health"
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Problem(f"{where.base} cannot be reached", short(error), f"curl -v {where.base}/health  # is the address right?") from error
    except ValueError as error:
        raise Problem(f"{where.base} is no OpenAI-compatible endpoint", f"{asked} is not JSON", "give --url http://HOST:PORT/v1") from error
    if not isinstance(body, dict):
        raise Problem(f"{where.base} is no OpenAI-compatible endpoint", f"{asked} is not an object", "give --url http://HOST:PORT/v1")
    return body


def refused(asked: str, status: int, said: str) -> Problem:
    """The failure of a request that was answered with an error."""
    why = f"{asked}: HTTP {status}: {said}" if said else f"{asked}: HTTP {status}"
    if status in (401, 403):
        return Problem("the endpoint wants other credentials", why, "export KEY=…; polyfleet bench … --api-key-env KEY")
    if status == 404:
        return Problem(
            "the endpoint does not know this", why, "give --url with the part before /v1; see GET /v1/models for the model's name"
        )
    if status == 429:
        return Problem("the endpoint takes no more requests", why, "repeat when its queue is empty, or with a lower --concurrency")
    if status == 503:
        return Problem("the endpoint is not ready", why, "wait until its /health answers 200, then repeat")
    return Problem("the endpoint refused the test's request", why, "read the engine's log; the message above is its own")


async def probe(http: aiohttp.ClientSession, where: Where, model: str, lengths: Lengths, run: str, total_s: float) -> tuple[Api, Scale]:
    """The dialect and the token counts of prompts, from two or three small requests. Raises Problem.

    Tried from the most telling to the plainest: /v1/completions with `ignore_eos` and usage, without `ignore_eos`, without
    `stream_options`, then chat. An endpoint that counts no tokens gives the scale of one token a word, and the caller says so.
    """
    forms = ((True, True), (False, True), (False, False))
    trials = [Api(model, chat, eos, usage, total_s) for chat in (False, True) for eos, usage in forms]
    small = max(4, min(_PROBE_WORDS[1], lengths.input_tokens // 4))
    first_words = max(1, min(_PROBE_WORDS[0], small // 3))
    problem: Problem | None = None
    for api in trials:
        client = Client(where, api, http)
        record = await _ask(client, f"{run}/probe/0", first_words)
        if not record.error:
            second = await _ask(client, f"{run}/probe/1", small)
            if record.input_tokens is None or second.input_tokens is None or second.error:
                return api, Scale()
            return api, Scale.of((first_words, record.input_tokens), (small, second.input_tokens))
        if problem is None or record.error not in ("HTTP 404", "HTTP 405"):  # a route that is not there says less than a refusal
            problem = _of(client, record, where)
        # Only a refusal of the request as it stands is worth another form of it.
        if record.error not in ("HTTP 400", "HTTP 404", "HTTP 405", "HTTP 422", "HTTP 501"):
            raise _of(client, record, where)
    assert problem is not None
    raise problem


async def _ask(client: Client, seed: str, words: int) -> Record:
    loop = asyncio.get_running_loop()
    now = loop.time()
    record = Record(0, now, now)
    await client.send(Request(0, prompt(seed, words), words, 8), record, loop.time)
    record.ended = loop.time()
    return record


def _of(client: Client, record: Record, where: Where) -> Problem:
    if record.error.startswith("HTTP "):
        return refused(f"POST {where.base}{client.api.path}", int(record.error.removeprefix("HTTP ")), client.last_error)
    why = f"{record.error}: {client.last_error}" if client.last_error else record.error
    return Problem(f"{where.base} does not answer a small request", why, f"curl -v {where.base}/health; read the engine's log")
