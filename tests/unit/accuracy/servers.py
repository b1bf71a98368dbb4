"""Endpoints for tests: the sandbox's byte engine in this process, whole or with its answers spoilt on their way out.

A spoiler sees each request and the engine's own answer and returns what goes out instead, so that a misbehaving server is a real one
but for the one thing that a test is about.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web

from accuracy.certify import Job, Outcome, certify
from accuracy.golden import digest
from accuracy.http.capture import capture
from accuracy.http.client import connect
from accuracy.http.endpoint import Endpoint
from accuracy.http.probe import TEXT, probe
from accuracy.policy import Policy
from accuracy.record import Record
from accuracy.types import GoldenSet, Item, Mode
from sandbox.engine.byte_model import validation_bytes
from sandbox.engine.config import parse
from sandbox.engine.factory import build
from sandbox.engine.metrics import EngineMetrics
from sandbox.engine.runner import identity
from sandbox.engine.server import EngineServer

NOW = "2026-11-28T12:00:00Z"
# Rounds to bf16, and sums in another order where several sequences are computed at once: as real engines do, so it has noise.
REFERENCE = ("--dtype=bf16", "--fault=split-k=4@batch=2")
STRATA = ("Chat", "Code")


def policy(**changed: Any) -> Policy:
    """Level Quick, made small: a rate of 10 % is certified, so that some 70 prompts promote."""
    small: dict[str, Any] = {
        "level": "Quick",
        "alpha": 0.05,
        "bad_prompt_rate": 0.1,
        "min_prompts": 24,
        "max_prompts": 64,
        "strata": STRATA,
        "modes": (Mode.PROMPT_LOGPROBS,),
        "positions_per_prompt": 10,
        "top_k": 5,
        "concurrency": (1, 4),
    }
    return Policy(**{**small, **changed})


@functools.cache
def record(mode: Mode = Mode.PROMPT_LOGPROBS, flags: tuple[str, ...] = REFERENCE, count: int = 64) -> Record:
    """What the reference says to `golden(count)`; captured once per test run. Not to be called from within an event loop."""

    async def made() -> Record:
        asked = policy(modes=(mode,), positions_per_prompt=10 if mode is Mode.PROMPT_LOGPROBS else 4)
        async with engine(*flags) as running, connect(Endpoint(running.url, name="reference")) as client:
            await probe(client)
            return await capture(client, (golden(count),), asked, now=NOW)

    return asyncio.run(made())


async def run(candidate: str | Sequence[str], **changed: Any) -> Outcome:
    """Certifies these endpoints; what is not said is as in `policy` and `record`."""
    urls = [candidate] if isinstance(candidate, str) else list(candidate)
    progress = changed.pop("on_progress", None)
    timeout = changed.pop("timeout_s", 20.0)
    fields: dict[str, Any] = {
        "policy": policy(),
        "golden": (golden(64),),
        "candidates": tuple(
            Endpoint(url, name=f"candidate-{n}" if len(urls) > 1 else "candidate", timeout_s=timeout) for n, url in enumerate(urls)
        ),
    }
    return await certify(Job(**{**fields, **changed}), on_progress=progress, now=NOW)


@dataclass
class Seen:
    """One request, and the answer that the engine gave."""

    number: int  # of this path, from 0
    path: str
    asked: dict[str, Any]
    answer: dict[str, Any]


Spoiler = Callable[[Seen], Any]  # -> the answer's JSON, a web.Response, or None for the engine's own
Before = Callable[[str, dict[str, Any]], Awaitable[web.StreamResponse | None]]  # path, body -> what is answered without the engine


def scoring(asked: Mapping[str, Any]) -> bool:
    """Whether a request scores a golden prompt, which the probe's is not."""
    prompt = asked.get("prompt")
    return "prompt_logprobs" in asked and isinstance(prompt, list) and bytes(prompt[-len(TEXT) :]) != TEXT.encode()


@dataclass
class Running:
    url: str
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # every request: path and body
    spoil: Spoiler | None = None
    before: Before | None = None

    def scored(self) -> list[tuple[int, ...]]:
        """The prompts that were scored as a whole, in order."""
        return [tuple(body["prompt"]) for _, body in self.asked if scoring(body)]

    def paths(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body in self.asked if where == path]


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Serves an application on a free loopback port."""
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def engine(*argv: str, spoil: Spoiler | None = None, before: Before | None = None, name: str = "byte") -> AsyncIterator[Running]:
    """The byte engine with these flags."""
    words = ["--backend=byte", f"--served-model-name={name}", *argv]
    config = parse(words, {})
    built = await build(config, 1)
    server = EngineServer(identity(config, {}), EngineMetrics(config.served_name, lambda: 0.0))
    server.ready(built)
    running = Running("", spoil=spoil, before=before)
    counts: dict[str, int] = {}

    @web.middleware
    async def spoilt(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        raw = await request.read()
        asked = json.loads(raw) if raw[:1] == b"{" else {}
        running.asked.append((request.path, asked))
        early = await running.before(request.path, asked) if running.before is not None else None
        if early is not None:
            return early
        response = await handler(request)
        body = getattr(response, "body", None)
        if running.spoil is None or not isinstance(body, bytes):
            return response
        number = counts.get(request.path, 0)
        counts[request.path] = number + 1
        other = running.spoil(Seen(number, request.path, asked, json.loads(body)))
        if other is None:
            return response
        return other if isinstance(other, web.StreamResponse) else web.Response(text=json.dumps(other), content_type="application/json")

    app = server.app()
    app.middlewares.insert(0, spoilt)
    try:
        async with served(app) as url:
            running.url = url
            yield running
    finally:
        await built.backend.close()


def handlers(answers: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]) -> web.Application:
    """An application of hand-written handlers by path; all methods."""
    app = web.Application()
    for path, handler in answers.items():
        app.router.add_route("*", path, handler)
    return app


def golden(count: int = 60, strata: tuple[str, ...] = ("Chat", "Code"), length: int = 24, *, seed: int = 0) -> GoldenSet:
    """Short prompts of the text that the byte model knows: `length` bytes each, distinct."""
    text = bytes(validation_bytes().astype(np.uint8)).decode("ascii")
    draw = np.random.default_rng(seed)
    starts = draw.permutation(len(text) // length - 1)[:count]
    items = []
    for number, start in enumerate(sorted(int(s) for s in starts)):
        words = text[start * length : (start + 1) * length].replace("\0", " ")
        chat = number % 2 == 0
        items.append(
            Item(
                id=f"t-{number}",
                stratum=strata[number % len(strata)],
                messages=({"role": "user", "content": words},) if chat else (),
                text="" if chat else words,
            )
        )
    return GoldenSet("test", digest(items), tuple(items))
