"""What the engine does at its limits: busy, full, broken, told to stop, asked nonsense."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Run = Callable[..., None]


async def _entered(model: Any) -> None:
    await asyncio.to_thread(model.entered.wait, 30)


async def _until(client: Any, reached: Callable[[float], bool], name: str, **labels: str) -> None:
    """Scrapes until the metric says so: the metric is the event that these tests wait for."""
    while not reached(await client.metric(name, **labels)):  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_health_and_metrics_answer_while_a_forward_pass_runs(run_model: Run, held_model: Any) -> None:
    async def scenario(client: Any) -> None:
        asking = asyncio.create_task(client.complete("x", max_tokens=2))
        await _entered(held_model)
        assert (await client.get("/health")).status == 200
        assert await client.metric("vllm:num_requests_running") == 1
        assert not asking.done()
        held_model.go.set()
        assert (await asking)["choices"][0]["text"] == "aa"

    run_model(scenario, held_model)


def test_a_full_queue_answers_429_with_retry_after(run_model: Run, held_model: Any) -> None:
    """One runs, two wait, the fourth is sent away; after the rush there is room again."""

    async def scenario(client: Any) -> None:
        asking = [asyncio.create_task(client.complete("x", max_tokens=1))]
        await _entered(held_model)
        asking += [asyncio.create_task(client.complete("x", max_tokens=1)) for _ in range(2)]
        await _until(client, lambda n: n == 2, "vllm:num_requests_waiting")
        reply = await client.post("/v1/completions", {"prompt": "x"})
        assert reply.status == 429
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.body["error"]["type"] == "RateLimitError"
        held_model.go.set()
        await asyncio.gather(*asking)
        await client.complete("x", max_tokens=1)

    run_model(scenario, held_model, sequences=1, max_queue=2)


def test_a_client_that_leaves_frees_its_place(run_model: Run, held_model: Any) -> None:
    async def scenario(client: Any) -> None:
        asking = asyncio.create_task(client.complete("x", max_tokens=50))
        await _entered(held_model)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await _until(client, lambda n: n == 1, "vllm:request_success_total", finished_reason="abort")
        held_model.go.set()
        await _until(client, lambda n: n == 0, "vllm:num_requests_running")
        assert await client.metric("vllm:kv_cache_usage_perc") == 0

    run_model(scenario, held_model)


def test_draining_refuses_new_requests_and_finishes_running_ones(run_model: Run, held_model: Any) -> None:
    async def scenario(client: Any) -> None:
        asking = asyncio.create_task(client.complete("x", max_tokens=3))
        await _entered(held_model)
        client.server.drain()
        health = await client.get("/health")
        assert [health.status, health.body["status"]] == [503, "draining"]
        assert (await client.post("/v1/completions", {"prompt": "x"})).status == 503
        assert (await client.get("/metrics")).status == 200
        idle = asyncio.create_task(client.server.idle())
        assert not idle.done()
        held_model.go.set()
        assert (await asking)["choices"][0]["text"] == "aaa"
        await idle

    run_model(scenario, held_model)


class _Constant:
    """A model with the same logits everywhere."""

    vocab = 128

    def __init__(self, logits: Any) -> None:
        self._logits = np.asarray(logits, np.float32)

    def forward(self, batch: Any) -> Any:
        return np.zeros((sum(len(chunk.tokens) for chunk in batch), 1), np.float32)

    def logits(self, hidden: Any) -> Any:
        return np.tile(self._logits, (len(hidden), 1))


def test_minus_infinity_is_written_as_vllm_writes_it(run_model: Run) -> None:
    logits = np.full(128, -np.inf)
    logits[ord("b")] = 1

    async def scenario(client: Any) -> None:
        choice = (await client.complete("x", max_tokens=1, logprobs=2))["choices"][0]
        assert choice["text"] == "b"
        assert sorted(choice["logprobs"]["top_logprobs"][0].values()) == [-9999.0, 0.0]

    run_model(scenario, _Constant(logits))


def test_nan_logits_are_an_error_when_logprobs_are_asked_for(run_model: Run) -> None:
    """JSON has no NaN: an engine that overflowed must not invent a number. Without log-probabilities it says token 0, as such
    devices do: here that is the end of the text."""

    async def scenario(client: Any) -> None:
        reply = await client.post("/v1/completions", {"prompt": "x", "max_tokens": 3, "logprobs": 1})
        assert reply.status == 500
        assert "NaN" in reply.body["error"]["message"]
        plain = await client.complete("x", max_tokens=3, temperature=1)
        assert [plain["choices"][0]["text"], plain["choices"][0]["finish_reason"]] == ["", "stop"]
        ignored = await client.complete("x", max_tokens=3, ignore_eos=True)
        assert ignored["usage"]["completion_tokens"] == 3

    run_model(scenario, _Constant(np.full(128, np.nan)))


class _Broken(_Constant):
    def forward(self, batch: Any) -> Any:
        raise ArithmeticError("boom")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_scheduler_that_fails_is_unhealthy_and_answers_500(run_model: Run) -> None:
    async def scenario(client: Any) -> None:
        reply = await client.post("/v1/completions", {"prompt": "x"})
        assert reply.status == 500
        assert "boom" in reply.body["error"]["message"]
        health = await client.get("/health")
        assert [health.status, health.body["status"]] == [503, "failed"]

    run_model(scenario, _Broken(np.zeros(128)))


BAD = [
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"prompt": [128]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": "é"}, "prompt"),
    ({"prompt": "\ud800"}, "prompt"),
    ({"prompt": "x" * 64}, "prompt"),
    ({"prompt": "x" * 5000}, "prompt"),
    ({"prompt": "x", "max_tokens": 64}, "max_tokens"),
    ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
    ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
    ({"prompt": "x", "max_tokens": "9"}, "max_tokens"),
    ({"prompt": "x", "max_tokens": True}, "max_tokens"),
    ({"prompt": "x", "temperature": -0.1}, "temperature"),
    ({"prompt": "x", "temperature": "hot"}, "temperature"),
    ({"prompt": "x", "top_p": 0}, "top_p"),
    ({"prompt": "x", "top_p": 1.5}, "top_p"),
    ({"prompt": "x", "top_k": -2}, "top_k"),
    ({"prompt": "x", "logprobs": 21}, "logprobs"),
    ({"prompt": "x", "stop": [""]}, "stop"),
    ({"prompt": "x", "stop": ["a"] * 17}, "stop"),
    ({"prompt": "x", "stop": {"a": 1}}, "stop"),
    ({"prompt": "x", "n": 2}, "n"),
    ({"prompt": "x", "seed": -1}, "seed"),
    ({"prompt": "x", "stream": 1}, "stream"),
    ({"prompt": "x", "stream_options": {"include_usage": True}}, "stream_options"),
    ({"prompt": "x", "frequency_penalty": 0.5}, "frequency_penalty"),
    ({"prompt": "x", "logit_bias": {"5": 1}}, "logit_bias"),
    ({"prompt": "x", "stop_token_ids": ["a"]}, "stop_token_ids"),
    ({"prompt": "x", "temprature": 0}, "temprature"),
]


def test_bad_completions_name_the_field(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        for body, field in BAD:
            reply = await client.post("/v1/completions", body)
            assert [reply.status, reply.body["error"]["param"]] == [400, field], (body, reply.body)
            assert reply.body["error"]["message"].startswith(field)
        assert await client.metric("vllm:prompt_tokens_total") == 0

    run_engine(scenario)


def test_bad_chats_name_the_field(run_engine: Run) -> None:
    user = {"role": "user", "content": "x"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0].role"),
        ({"messages": [user, {"role": "robot", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [user], "top_logprobs": 2}, "top_logprobs"),
        ({"messages": [user], "tools": [{"type": "function"}]}, "tools"),
        ({"messages": [user], "response_format": {"type": "json_object"}}, "response_format"),
    ]

    async def scenario(client: Any) -> None:
        for body, field in cases:
            reply = await client.post("/v1/chat/completions", body)
            assert [reply.status, reply.body["error"]["param"]] == [400, field], (body, reply.body)

    run_engine(scenario)


def test_bodies_that_are_no_request(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        for data in (b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"prompt": NaN}', b"[" * 100_000):
            assert (await client.post("/v1/completions", data)).status == 400, data[:20]
        assert (await client.post("/v1/completions", b" " * (1 << 20) + b"{}")).status == 413
        other = await client.post("/v1/completions", {"model": "gpt", "prompt": "x"})
        assert [other.status, other.body["error"]["param"]] == [404, "model"]
        missing = await client.get("/v1/nothing")
        assert [missing.status, missing.body["error"]["type"]] == [404, "NotFoundError"]
        assert (await client.get("/v1/completions")).status == 405

    run_engine(scenario)


def test_the_process_serves_and_ends_with_zero_on_sigterm() -> None:
    """The real command line: a paced replica with a request on its way finishes it, then exits 0."""
    import http.client

    command = [sys.executable, "-m", "sandbox.engine", "--backend=byte", "--paced", "--host=127.0.0.1", "--port=0", "--served-model-name=m"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ, PPU_VISIBLE_DEVICES="0,1"))
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(line.split("', ")[1].split(")")[0])
        assert "ready" in process.stderr.readline()
        models = http.client.HTTPConnection("127.0.0.1", port)
        models.request("GET", "/v1/models")
        assert b'"paced": true' in models.getresponse().read()
        asking = http.client.HTTPConnection("127.0.0.1", port)
        asking.request("POST", "/v1/completions", b'{"prompt": "x", "max_tokens": 10, "stream": true}')
        answer = asking.getresponse()  # headers come with the first token, so the request is running now
        process.send_signal(signal.SIGTERM)
        assert b"[DONE]" in answer.read()
        assert process.wait(30) == 0
        for connection in (models, asking):
            connection.close()
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
