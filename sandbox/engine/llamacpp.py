"""Backend A: the llama.cpp server of `xllamacpp`, in this process on a free loopback port, driven token by token.

Why behind our own HTTP face: its OpenAI routes differ in details from vLLM's and its metrics have other names. It gets token ids
and its native /completion route streams ids and log-probabilities back.

One quirk has to be undone: llama.cpp keeps a token to itself while the text ends in the middle of a UTF-8 character, and then
reports only the last token of that character. The missing ids follow from the bytes; their log-probabilities are asked for.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.engine.backend import BackendError, EventStream, Finished, Job, Load, QueueFullError, Sampling, Started, Token, TokenLogprobs
from sandbox.engine.threads import run_in_daemon
from sandbox.engine.tokenizer import Tokenizer

log = logging.getLogger("sandbox.engine")

CHARACTER_BYTES = 32  # no run of withheld tokens is longer: a character has four bytes, a token before it may add some


@dataclass(eq=False)
class _Active:
    """A job in a slot: what is known of its answer so far."""

    job: Job
    tokens: list[int] = field(default_factory=list)


class LlamaCppBackend:
    prompt_logprobs = False  # the server ignores `echo` silently; ours refuses it by name
    kv_block_size = 16

    def __init__(
        self,
        weights: Path,
        tokenizer: Tokenizer,
        *,
        context: int,
        max_sequences: int,
        max_queue: int,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights, self._tokenizer, self._context = weights, tokenizer, context
        self._max_sequences, self._max_queue, self._threads, self._clock = max_sequences, max_queue, threads, clock
        self.kv_blocks = context * max_sequences // self.kv_block_size
        self._slots = asyncio.Semaphore(max_sequences)
        self._jobs: dict[asyncio.Task[None], EventStream] = {}
        self._active: list[_Active] = []
        self._prefix_queries = self._prefix_hits = 0
        self._key = secrets.token_hex(16)  # nobody else in this network namespace may go around our server
        self._server: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._fault: str | None = None
        self._by_bytes: dict[bytes, int] = {}

    async def start(self) -> None:
        self._server = await run_in_daemon(self._launch, "llamacpp-load")
        self._session = aiohttp.ClientSession(
            base_url=str(self._server.listening_address),
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=aiohttp.ClientTimeout(total=None),
            # one connection per request: the server closes idle ones without notice, and a POST on such a one is lost
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            read_bufsize=1 << 20,  # the last event repeats the whole prompt in one line
            trust_env=False,
        )

    def _launch(self) -> Any:
        module = importlib.import_module("xllamacpp")
        params = module.CommonParams()
        params.model.path = str(self._weights)
        params.n_ctx = self._context * self._max_sequences
        params.n_parallel = self._max_sequences
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.port = 0
        params.api_keys = [self._key]
        params.ui = False
        params.endpoint_slots = False
        params.warmup = False
        params.cache_ram_mib = 0  # no second copy of old prompts in memory; each slot keeps its last one
        params.verbosity = 0
        return module.Server(params)

    def open(self, job: Job) -> EventStream:
        if len(self._jobs) >= self._max_sequences + self._max_queue:
            raise QueueFullError(self._max_queue)

        def on_close() -> None:
            task.cancel()

        stream = EventStream(on_close)
        task = asyncio.create_task(self._run(job, stream))
        self._jobs[task] = stream
        task.add_done_callback(lambda done: self._jobs.pop(done, None))
        return stream

    async def _run(self, job: Job, stream: EventStream) -> None:
        arrived = self._clock()
        try:
            async with self._slots:
                active = _Active(job)
                self._active.append(active)
                try:
                    await self._answer(active, stream, self._clock() - arrived)
                finally:
                    self._active.remove(active)
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):  # its listener is gone, and it does not come back
                self._fault = f"llama.cpp does not answer: {error}"
            stream.put(BackendError(f"llama.cpp: {error}"))
        except BackendError as error:
            stream.put(error)

    async def _answer(self, active: _Active, stream: EventStream, queue_seconds: float) -> None:
        sampling, started = active.job.sampling, False
        if sampling.max_tokens == 0:  # an echo without scores: nothing to compute
            stream.put(Started(queue_seconds, 0))
            stream.put(Finished("length"))
            return
        async for event in self._events(active):
            if not started:
                started = True
                cached = int(event.get("timings", {}).get("cache_n", 0))
                self._prefix_queries += len(active.job.prompt)
                self._prefix_hits += cached
                stream.put(Started(queue_seconds, cached))
            if event.get("stop"):
                reason = str(event.get("stop_type"))
                missing = int(event["tokens_predicted"]) - len(active.tokens)
                if missing > 0:
                    reason = await self._tail(active, stream, missing)
                stream.put(Finished("length" if reason == "limit" else "stop"))
                return
            for token in await self._tokens(active, event):
                if self._give(active, stream, token):
                    return

    def _give(self, active: _Active, stream: EventStream, token: Token) -> bool:
        """Passes the token on; True if it ends the answer by the client's wish."""
        active.tokens.append(token.token)
        stream.put(token)
        if token.token in active.job.sampling.stop_token_ids:
            stream.put(Finished("stop", token.token))
            return True
        return False

    async def _tokens(self, active: _Active, event: dict[str, Any]) -> list[Token]:
        """The tokens of one event: one, or those of a character that was withheld until complete."""
        sampling = active.job.sampling
        last = int(event["tokens"][-1])
        missing = int(event["tokens_predicted"]) - len(active.tokens) - 1
        out: list[Token] = []
        if missing > 0:
            data = str(event["content"]).encode()
            tail = self._tokenizer.token_bytes(last)
            ids = self._split(data[: len(data) - len(tail)], missing) if data.endswith(tail) else None
            if ids is None:
                raise BackendError(f"llama.cpp withheld {missing} tokens that do not follow from its text {event['content']!r}")
            out = [await self._scored(active, [*active.tokens, *ids[:at]], token) for at, token in enumerate(ids)]
        described = None
        if sampling.logprobs is not None:
            described = _described(event["completion_probabilities"][-1], sampling.logprobs)
        return [*out, Token(last, described)]

    async def _tail(self, active: _Active, stream: EventStream, missing: int) -> str:
        """Tokens at the very end that never became a character: drawn again in one piece, which reports all ids."""
        body = self._body(active.job.sampling, (*active.job.prompt, *active.tokens))
        reply = await self._post(body | {"n_predict": missing, "stream": False, "n_probs": 0})
        for token in reply["tokens"]:
            if self._give(active, stream, await self._scored(active, active.tokens, int(token))):
                break
        return str(reply.get("stop_type"))

    async def _scored(self, active: _Active, before: list[int], token: int) -> Token:
        wanted = active.job.sampling.logprobs
        if wanted is None:
            return Token(token, None)
        return Token(token, await self._score((*active.job.prompt, *before), token, wanted))

    async def _score(self, prefix: tuple[int, ...], token: int, wanted: int) -> TokenLogprobs:
        """Log-probabilities after `prefix`. The draw is forced to a token that is whole text, else nothing is reported; what is
        reported are the probabilities before the draw."""
        forced = self._tokenizer.encode(" ")[0]
        for count in (max(wanted, 64), self._tokenizer.vocab):
            body = self._body(Sampling(max_tokens=1, temperature=0.0), prefix)
            reply = await self._post(body | {"stream": False, "n_probs": count, "logit_bias": [[forced, 1e6]]})
            top = [(int(t["id"]), float(t["logprob"])) for t in reply["completion_probabilities"][0]["top_logprobs"]]
            for rank, (candidate, logprob) in enumerate(top, start=1):
                if candidate == token:
                    return TokenLogprobs(token, logprob, rank, tuple(top[:wanted]))
        raise BackendError(f"llama.cpp reports no probability for token {token}")

    def _split(self, data: bytes, count: int) -> list[int] | None:
        """Ids of `count` tokens whose bytes are `data`, the longest first token preferred."""
        if not self._by_bytes:  # built at the first need; the lowest id wins among equals
            pairs = ((self._tokenizer.token_bytes(i), i) for i in range(self._tokenizer.vocab - 1, -1, -1))
            self._by_bytes = {text: i for text, i in pairs if text}
        if count == 0:
            return None if data else []
        for size in range(min(len(data) - count + 1, CHARACTER_BYTES), 0, -1):
            token = self._by_bytes.get(data[:size])
            rest = None if token is None else self._split(data[size:], count - 1)
            if token is not None and rest is not None:
                return [token, *rest]
        return None

    def _body(self, sampling: Sampling, prompt: tuple[int, ...]) -> dict[str, Any]:
        return {
            "prompt": list(prompt),
            "n_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "samplers": ["temperature", "top_k", "top_p"],  # the order of the other backends
            "seed": (secrets.randbits(32) if sampling.seed is None else sampling.seed) & 0xFFFFFFFF,
            "ignore_eos": sampling.ignore_eos,
            "n_probs": 0 if sampling.logprobs is None else max(1, sampling.logprobs),
            "cache_prompt": True,
            "return_tokens": True,
            "timings_per_token": True,
        }

    async def _events(self, active: _Active) -> AsyncIterator[dict[str, Any]]:
        body = self._body(active.job.sampling, active.job.prompt) | {"stream": True}
        async with self._http().post("/completion", json=body) as response:
            if response.status != 200:
                raise BackendError((await response.text())[:500])
            async for line in response.content:
                if line.startswith(b"data: {"):
                    event: dict[str, Any] = json.loads(line[6:])
                    yield event
                elif line.startswith(b"error: "):
                    raise BackendError(line[7:500].decode("utf-8", "replace"))

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        async with self._http().post("/completion", json=body) as response:
            if response.status != 200:
                raise BackendError((await response.text())[:500])
            reply: dict[str, Any] = await response.json()
            return reply

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise BackendError("llama.cpp is not started")
        return self._session

    def load(self) -> Load:
        held = sum(len(active.job.prompt) + len(active.tokens) for active in self._active)
        return Load(
            running=len(self._active),
            waiting=max(0, len(self._jobs) - len(self._active)),
            kv_used=held / (self.kv_blocks * self.kv_block_size),
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
            preemptions=0,
        )

    def fault(self) -> str | None:
        return self._fault

    async def close(self) -> None:
        for task in list(self._jobs):
            task.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._server = None  # the last reference: its destructor stops the threads


def _described(entry: dict[str, Any], wanted: int) -> TokenLogprobs:
    top = [(int(t["id"]), float(t["logprob"])) for t in entry["top_logprobs"]]
    logprob = float(entry["logprob"])
    rank = 1 + sum(1 for _, other in top if other > logprob)
    return TokenLogprobs(int(entry["id"]), logprob, rank, tuple(top[:wanted]))
