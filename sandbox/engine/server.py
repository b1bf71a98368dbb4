"""The HTTP face of the engine: the OpenAI API, /tokenize, /health and /metrics, the same for every backend.

The state goes loading → ready → draining. /health says which (200 only when ready) and never waits for a computation.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from aiohttp import web

from sandbox.engine.answer import Answer, Piece
from sandbox.engine.backend import Backend, BackendError, EventStream, Job, QueueFullError, Sampling
from sandbox.engine.errors import RequestError, error_body
from sandbox.engine.faults.control import FaultControl
from sandbox.engine.faults.switches import FaultError
from sandbox.engine.metrics import EngineMetrics, RequestMeter
from sandbox.engine.protocol import Asked, Ids, parse_chat, parse_completion, parse_ids, parse_json, parse_messages
from sandbox.engine.responses import Shaper
from sandbox.engine.text_stream import TextStream
from sandbox.engine.tokenizer import Tokenizer, decode

log = logging.getLogger("sandbox.engine")

MAX_BODY_BYTES = 1 << 20
RETRY_AFTER_SECONDS = 1
INLINE_CHARACTERS = 4096  # longer texts are tokenised in a thread, so that /health does not wait for them


@dataclass(frozen=True)
class Engine:
    """A loaded model, ready to answer."""

    tokenizer: Tokenizer
    backend: Backend
    context: int
    faults: FaultControl | None = None


@dataclass(frozen=True)
class Identity:
    """What /v1/models says. `extra` goes under the key `polyfleet`."""

    served_name: str
    root: str
    extra: dict[str, Any]


class EngineServer:
    def __init__(self, identity: Identity, metrics: EngineMetrics, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.identity, self.metrics, self._wall_clock = identity, metrics, wall_clock
        self.engine: Engine | None = None
        self.draining = False
        self._created = int(wall_clock())
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def ready(self, engine: Engine) -> None:
        info = {name: str(self.identity.extra[name]).lower() for name in ("backend", "dtype", "paced")}
        backend = engine.backend
        self.metrics.describe(info | {"model_name": self.identity.served_name}, backend.kv_blocks, backend.kv_block_size)
        self.metrics.observe_load(backend.load)
        self.engine = engine

    def drain(self) -> None:
        self.draining = True

    async def idle(self) -> None:
        """Returns once no request is being answered."""
        await self._idle.wait()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/metrics", self.get_metrics),
                web.get("/version", self.version),
                web.get("/v1/models", self.models),
                web.post("/v1/completions", self.completions),
                web.post("/v1/chat/completions", self.chat_completions),
                web.post("/tokenize", self.tokenize),
                web.post("/detokenize", self.detokenize),
                web.get("/sandbox/fault", self.get_fault),
                web.post("/sandbox/fault", self.set_fault),
            ]
        )
        return app

    def _state(self) -> tuple[Literal["loading", "ready", "draining", "failed"], str]:
        if self.draining:
            return "draining", "the engine is shutting down; ask another replica"
        if self.engine is None:
            return "loading", "the engine is still loading its weights; ask again in a few seconds"
        fault = self.engine.backend.fault()
        return ("failed", fault) if fault else ("ready", "")

    def _loaded(self) -> Engine:
        state, message = self._state()
        if state != "ready" or self.engine is None:
            raise RequestError(message, status=503, retry_after_seconds=RETRY_AFTER_SECONDS)
        if self.engine.faults is not None:
            self.engine.faults.refresh()
        return self.engine

    async def health(self, _: web.Request) -> web.Response:
        state, message = self._state()
        return web.json_response({"status": state, "message": message}, status=200 if state == "ready" else 503)

    async def get_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "polyfleet-sandbox-engine"})

    async def models(self, _: web.Request) -> web.Response:
        engine = self._loaded()
        card = {
            "id": self.identity.served_name,
            "object": "model",
            "created": self._created,
            "owned_by": "polyfleet",
            "root": self.identity.root,
            "parent": None,
            "max_model_len": engine.context,
            "polyfleet": self.identity.extra,
        }
        return web.json_response({"object": "list", "data": [card]})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        engine = self._loaded()
        body = _filled(engine, await self._body(request))
        return await self._answer(request, engine, parse_completion(body, engine.tokenizer.vocab))

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        engine = self._loaded()
        return await self._answer(request, engine, parse_chat(_filled(engine, await self._body(request))))

    async def tokenize(self, request: web.Request) -> web.Response:
        engine = self._loaded()
        body = await self._body(request)
        if "messages" in body:
            text = engine.tokenizer.chat(parse_messages(body["messages"]), bool(body.get("add_generation_prompt", True)))
        else:
            prompt = body.get("prompt")
            if not isinstance(prompt, str):
                raise RequestError("prompt: must be a string (or send messages)", param="prompt")
            text = prompt
        ids = await _encode(engine.tokenizer, text, "messages" if "messages" in body else "prompt")
        reply: dict[str, Any] = {"count": len(ids), "max_model_len": engine.context, "tokens": ids}
        if body.get("return_token_strs"):
            reply["token_strs"] = [engine.tokenizer.token_text(i) for i in ids]
        return web.json_response(reply)

    async def detokenize(self, request: web.Request) -> web.Response:
        engine = self._loaded()
        ids = parse_ids((await self._body(request)).get("tokens"), "tokens", engine.tokenizer.vocab)
        return web.json_response({"prompt": decode(engine.tokenizer, ids)})

    async def get_fault(self, request: web.Request) -> web.Response:
        return web.json_response(self._control(request).told())

    async def set_fault(self, request: web.Request) -> web.Response:
        """Replaces the faults that calls set: `{"faults": ["rope-base=5e3@share=0.05"]}`, `[]` for none. From this machine only."""
        control = self._control(request)
        faults = (await self._body(request)).get("faults")
        if not isinstance(faults, list) or not all(isinstance(each, str) for each in faults):
            raise RequestError('faults: must be a list of strings such as ["rope-base=5e3"]', param="faults")
        try:
            control.call(faults)
        except FaultError as error:
            raise RequestError(str(error), param="faults") from error
        return web.json_response(control.told())

    def _control(self, request: web.Request) -> FaultControl:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        if not peer or not ipaddress.ip_address(peer[0]).is_loopback:
            message = f"{request.path}: only from this machine (the container's own 127.0.0.1); see polyfleet-sandbox fault --help"
            raise RequestError(message, status=403)
        engine = self._loaded()
        if engine.faults is None:
            raise RequestError(f"{request.path}: this engine takes no faults", status=404)
        return engine.faults

    async def _body(self, request: web.Request) -> dict[str, Any]:
        body = parse_json(await request.read())
        model = body.get("model")
        if model is not None and model != self.identity.served_name:
            message = f"model: {model!r} does not exist here; this replica serves {self.identity.served_name!r}"
            raise RequestError(message, param="model", status=404)
        return body

    async def _answer(self, request: web.Request, engine: Engine, asked: Asked) -> web.StreamResponse:
        prompt, prompt_text = await _prompt(engine, asked)
        job = Job(prompt, _sampling(engine, asked, len(prompt)))
        meter = RequestMeter(self.metrics, len(prompt))
        try:
            events = engine.backend.open(job)
        except QueueFullError as full:
            message = f"the queue is full: {full.bound} requests are waiting already; try again later or ask another replica"
            raise RequestError(message, status=429, retry_after_seconds=RETRY_AFTER_SECONDS) from full
        self._active += 1
        self._idle.clear()
        try:
            answer = Answer(prompt)
            text = TextStream(engine.tokenizer, asked.stop, asked.include_stop)
            kind = "chatcmpl" if asked.chat else "cmpl"
            shaper = Shaper(asked, engine.tokenizer, f"{kind}-{uuid.uuid4().hex}", int(self._wall_clock()), self.identity.served_name)
            pieces = answer.pieces(events, text, meter)
            if asked.stream:
                return await self._stream(request, asked, answer, shaper, pieces, prompt_text)
            async for _ in pieces:
                pass
            return web.json_response(shaper.whole(answer, text.text, prompt_text))
        except BackendError as error:
            meter.finished("error")
            raise RequestError(f"the engine failed: {error}", status=500) from error
        finally:
            self._close(events, meter)

    def _close(self, events: EventStream, meter: RequestMeter) -> None:
        events.close()
        meter.finished("abort")  # counts only if nothing else did
        self._active -= 1
        if self._active == 0:
            self._idle.set()

    async def _stream(
        self, request: web.Request, asked: Asked, answer: Answer, shaper: Shaper, pieces: AsyncIterator[Piece], prompt_text: str
    ) -> web.StreamResponse:
        """Server-sent events, one JSON chunk each. The status line waits for the first token: until then an error is still a 4xx."""
        first = await anext(pieces, None)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"})
        await response.prepare(request)

        async def send(chunk: dict[str, Any] | None) -> None:
            if chunk is not None:
                await response.write(b"data: " + json.dumps(chunk, allow_nan=False).encode() + b"\n\n")

        try:
            await send(shaper.first_chunk(answer, prompt_text))
            if first is not None:
                await send(shaper.chunk(first.text, first.token))
            async for piece in pieces:
                await send(shaper.chunk(piece.text, piece.token))
            await send(shaper.last_chunk(answer))
            if asked.include_usage:
                await send(shaper.usage_chunk(answer))
        except (RequestError, BackendError) as error:  # too late for a status: the error is the last event
            await send(error.body() if isinstance(error, RequestError) else error_body(500, f"the engine failed: {error}"))
        except ConnectionResetError:
            return response  # the client left
        with contextlib.suppress(ConnectionResetError):
            await response.write(b"data: [DONE]\n\n")
        return response


def _filled(engine: Engine, body: dict[str, Any]) -> dict[str, Any]:
    return body if engine.faults is None else engine.faults.reading.fill(body)


async def _encode(tokenizer: Tokenizer, text: str, field: str) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{field}: character {error.start} is half of a surrogate pair, which is no text", param=field) from error
    if len(text) > INLINE_CHARACTERS:
        return await asyncio.to_thread(tokenizer.encode, text)
    return tokenizer.encode(text)


async def _prompt(engine: Engine, asked: Asked) -> tuple[tuple[int, ...], str]:
    """The prompt's ids and text, within the context."""
    prompt, field = asked.prompt, "messages" if asked.chat else "prompt"
    if isinstance(prompt, Ids):
        ids, text = prompt.ids, decode(engine.tokenizer, prompt.ids) if asked.echo else ""
    else:
        text = prompt if isinstance(prompt, str) else engine.tokenizer.chat(prompt, asked.add_generation_prompt)
        ids = tuple(await _encode(engine.tokenizer, text, field))
    most = engine.context if asked.max_tokens == 0 else engine.context - 1
    if not 1 <= len(ids) <= most:
        raise RequestError(f"{field}: {len(ids)} tokens; the context of {engine.context} takes 1 to {most} of them", param=field)
    return ids, text


def _sampling(engine: Engine, asked: Asked, prompt_tokens: int) -> Sampling:
    room = engine.context - prompt_tokens
    if asked.max_tokens is not None and asked.max_tokens > room:
        message = f"max_tokens: {asked.max_tokens} does not fit; the prompt takes {prompt_tokens} of {engine.context}, {room} are left"
        raise RequestError(message, param="max_tokens")
    if asked.sampling.prompt_logprobs is not None and not engine.backend.prompt_logprobs:
        field = "echo" if asked.echo else "prompt_logprobs"
        raise RequestError(f"{field}: this backend cannot score a prompt; ask for logprobs of generated tokens instead", param=field)
    return replace(asked.sampling, max_tokens=room if asked.max_tokens is None else asked.max_tokens)


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Every error leaves as JSON in the API's form."""
    try:
        return await handler(request)
    except RequestError as error:
        return web.json_response(error.body(), status=error.status, headers=error.headers())
    except web.HTTPRequestEntityTooLarge:
        message = f"the body is larger than {MAX_BODY_BYTES} bytes"
        return web.json_response(error_body(413, message), status=413)
    except web.HTTPException as error:
        return web.json_response(error_body(error.status, f"{request.method} {request.path}: {error.reason}"), status=error.status)
    except (ConnectionResetError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("request failed: %s %s", request.method, request.path)
        return web.json_response(error_body(500, "the engine failed on this request; its log says why"), status=500)
