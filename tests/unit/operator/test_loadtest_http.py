"""The edge of the load test against a real HTTP server on loopback that is slow, wrong or short of words; the command's own words."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from polyfleet.cli.program import call
from polyfleet.loadtest import client, identify
from polyfleet.loadtest.problem import Problem
from polyfleet.loadtest.samples import Record
from polyfleet.loadtest.workload import Lengths, Request

from hwprofiles.model import Throughput
from tests.unit.operator.loadtest_server import Answer, chunk, serving, stream

ASK = Request(0, "red green blue", 3, 4)


def send(answer: Answer, *, stall_s: float = 5.0, total_s: float = 10.0, chat: bool = False) -> tuple[Record, str]:
    async def main() -> tuple[Record, str]:
        async with serving(answer) as base:
            where = client.Where(base, stall_s=stall_s)
            async with client.session(where, 2) as http:
                sender = client.Client(where, client.Api("org/m", chat=chat, total_s=total_s), http)
                record = Record(0, 0.0, 0.0)
                await sender.send(ASK, record, asyncio.get_running_loop().time)
                return record, sender.last_error

    return asyncio.run(main())


def test_tokens_and_usage_of_a_stream_that_comes_in_odd_pieces() -> None:
    """Keep-alives, an event split in the middle, two in one piece, an empty delta, usage after the last text."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert body["stream_options"] == {"include_usage": True}
        assert (body["max_tokens"], body["ignore_eos"], body["temperature"]) == (4, True, 0)
        response = await stream(request)
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\r\n\r\n'
        whole = b": ping\n\n" + chunk("") + chunk("a") + chunk("b") + chunk("c") + usage + b"data: [DONE]\n\n"
        for start in range(0, len(whole), 37):
            await response.write(whole[start : start + 37])
        return response

    record, _ = send(answer)
    assert (record.error, len(record.pieces), record.input_tokens, record.output_tokens) == ("", 3, 3, 4)


def test_what_a_request_that_was_cut_off_may_have_got_is_told() -> None:
    """One of four tokens has arrived when the test ends; the engine may have made the other three."""

    async def main() -> tuple[int, int]:
        arrived = asyncio.Event()

        async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            response = await stream(request)
            await response.write(chunk("a"))
            await asyncio.Event().wait()
            return response

        async with serving(answer) as base:
            where = client.Where(base)
            async with client.session(where, 2) as http:
                sender = client.Client(where, client.Api("org/m"), http)
                record = Record(0, 0.0, 0.0)

                def clock() -> float:
                    asyncio.get_running_loop().call_soon(arrived.set)  # after the piece that it is asked for
                    return 0.0

                task = asyncio.ensure_future(sender.send(ASK, record, clock))
                await arrived.wait()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return sender.received, sender.unseen

    assert asyncio.run(main()) == (1, 3)


async def _silent(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await stream(request)
    await response.write(chunk("a"))
    await asyncio.Event().wait()
    return response


async def _error_event(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await stream(request)
    await response.write(chunk("a") + b'data: {"error": {"message": "out of memory"}}\n\ndata: [DONE]\n\n')
    return response


async def _cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await stream(request)
    await response.write(chunk("a"))
    assert request.transport is not None
    request.transport.abort()
    return response


async def _ended_early(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await stream(request)
    await response.write(chunk("a"))
    return response


async def _html(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.Response(text="data: <html>busy</html>\n\n")


async def _endless(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await stream(request)
    for _ in range(80):
        await response.write(b"data: " + b"x" * 32768)
    return response


async def _empty(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await stream(request)
    await response.write(chunk("") + b"data: [DONE]\n\n")
    return response


def _status(status: int) -> Answer:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"no: {status}"}}, status=status)

    return answer


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (_error_event, "error in the stream", "out of memory"),
        (_cut, "connection lost", ""),
        (_ended_early, "stream cut off", ""),
        (_html, "not an event stream", "busy"),
        (_endless, "not an event stream", "bytes"),
        (_empty, "no text in the answer", ""),
        (_status(429), "HTTP 429", "no: 429"),
        (_status(503), "HTTP 503", "no: 503"),
        (_status(307), "HTTP 307", "no: 307"),
    ],
)
def test_what_went_wrong_is_one_of_few_words_with_the_servers_own_beside_it(answer: Answer, error: str, said: str) -> None:
    record, last = send(answer)
    assert record.error == error
    assert said in last


def test_a_stream_that_falls_silent_ends_at_the_limit() -> None:
    record, _ = send(_silent, stall_s=0.2)
    assert record.error in ("stalled", "connection lost")
    assert len(record.pieces) == 1
    record, _ = send(_silent, total_s=0.2)
    assert record.error == "stalled"


def test_a_refused_connection_is_said() -> None:
    async def main() -> Record:
        where = client.Where("http://127.0.0.1:9")
        async with client.session(where, 1) as http:
            record = Record(0, 0.0, 0.0)
            await client.Client(where, client.Api("m"), http).send(ASK, record, asyncio.get_running_loop().time)
            return record

    assert asyncio.run(main()).error == "connection refused"


def _plain(refused: tuple[str, ...], *, usage: bool = True, bundle: int = 1) -> Answer:
    """An endpoint that refuses a request with any of the `refused` fields, and gives `bundle` tokens in a piece."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        for name in refused:
            if name in body:
                return web.json_response({"error": {"message": f"unknown field {name}"}}, status=400)
        response = await stream(request)
        for _ in range(0, body["max_tokens"], bundle):
            await response.write(chunk("a" * bundle))
            await asyncio.sleep(0.01)
        if usage and body.get("stream_options"):
            words = len(body["prompt"].split())
            told = {"prompt_tokens": 5 + 2 * words, "completion_tokens": body["max_tokens"]}
            await response.write(b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    return answer


def _probe(answer: Answer) -> tuple[client.Api, Any]:
    async def main() -> tuple[client.Api, Any]:
        async with serving(answer) as base:
            where = client.Where(base)
            async with client.session(where, 1) as http:
                return await identify.probe(http, where, "org/m", Lengths(200, 20), "run", 10.0)

    return asyncio.run(main())


def test_the_dialect_is_found_by_trying_and_token_counts_by_two_probes() -> None:
    api, scale = _probe(_plain(()))
    assert (api.chat, api.ignore_eos, api.usage) == (False, True, True)
    assert (scale.fixed, scale.per_word) == (5, 2)
    assert not _probe(_plain(("ignore_eos",)))[0].ignore_eos
    api, scale = _probe(_plain(("ignore_eos", "stream_options")))
    assert not api.usage
    assert (scale.fixed, scale.per_word) == (0, 1)


@pytest.mark.parametrize(
    ("status", "next_"), [(401, "--api-key-env"), (404, "--url"), (429, "--concurrency"), (503, "/health"), (500, "log")]
)
def test_an_endpoint_that_refuses_the_probe_is_told_with_what_to_do(status: int, next_: str) -> None:
    with pytest.raises(Problem) as found:
        _probe(_status(status))
    assert f"no: {status}" in found.value.why
    assert next_ in found.value.next


# ---- the command, in a thread of its own beside the server


@contextmanager
def endpoint(answer: Answer, model: str = "org/m", **card: Any) -> Iterator[str]:
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    address: list[str] = []

    async def main() -> None:
        async with serving(answer, model, **card) as base:
            address.append(base)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(10)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def bench(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = call(["bench", *arguments], out, err)
    return code, out.getvalue(), " ".join(err.getvalue().split())


STATED = ("--profile", "nvidia-l40s", "--model", "org/m", "--precision", "bf16", "--engine", "vllm", "--engine-version", "0.23.0")
SHORT = ("--input", "20", "--output", "6", "--concurrency", "2", "--duration", "1s", "--mode", "concurrency")


def test_a_short_test_prints_an_entry_that_the_schema_takes() -> None:
    with endpoint(_plain(())) as base:
        code, out, err = bench("--url", f"{base}/v1", *STATED, *SHORT, "-o", "yaml")
    assert code == 0, err
    (entry,) = [Throughput.parse(item) for item in yaml.safe_load(out)["throughput"]]
    key = (entry.model, entry.precision, entry.engine, entry.engine_version, entry.concurrency, entry.evidence)
    assert key == ("org/m", "bf16", "vllm", "0.23.0", 2, "Measured")
    assert (entry.input_tokens, entry.output_tokens) == (20, 6)
    assert f"polyfleet bench on {base}; profile as stated" in entry.source
    assert "nothing is written" in err


def test_an_endpoint_without_usage_and_with_bundles_is_measured_and_it_is_said() -> None:
    with endpoint(_plain(("ignore_eos", "stream_options"), usage=False, bundle=2)) as base:
        code, out, err = bench("--url", f"{base}/v1", *STATED, *SHORT, "-o", "json")
    assert code == 0, err
    body = json.loads(out)
    assert body["stages"][0]["countedBy"] == "pieces"
    assert body["entries"][0]["outputTokens"] == 3  # pieces, as the source says
    assert "counts no tokens" in body["entries"][0]["source"]
    assert "ignore_eos" in err


def test_an_unmeasurable_endpoint_gives_no_entry_and_exit_1() -> None:
    """After the probes every answer is an error: the test ends at once, with the endpoint's own words."""
    asked = 0

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await (_plain(()) if asked <= 2 else _status(429))(request, body)

    with endpoint(answer) as base:
        code, out, _ = bench("--url", f"{base}/v1", *STATED, *SHORT, "--duration", "60s")
    assert code == 1
    assert "HTTP 429" in out
    assert "no: 429" in out
    assert "throughput" not in out
    assert asked < 30


def _what(*arguments: str) -> Callable[[str], list[str]]:
    return lambda base: [argument.replace("BASE", base) for argument in arguments]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (_what("--url", "BASE/v1", *STATED[2:]), 64, ("--profile is missing",)),
        (_what("--url", "BASE/v1", *STATED, "--concurrency", "0"), 64, ("--concurrency 0", "1 to 1024")),
        (_what("--url", "BASE/v1", *STATED, "--concurrency", "1,x"), 64, ("--concurrency 1,x", "whole numbers")),
        (_what("--url", "BASE/v1", *STATED, "--until-slo"), 64, ("needs an SLO",)),
        (_what("--url", "BASE/v1", *STATED, "--until-slo", "--ttft", "2"), 64, ("--ttft 2", "ms, s, m and h")),
        (_what("--url", "BASE/v1", *STATED, "--duration", "0s"), 64, ("--duration 0s", "1s to 3600s")),
        (_what("--url", "BASE/v1", *STATED, "--percentile", "100"), 64, ("--percentile 100", "1 to 99")),
        (_what("--url", "BASE/v1", *STATED, "--output", "yaml"), 64, ("-o yaml",)),
        (_what("--url", "BASE/v1", *STATED, "--tensor", "0"), 64, ("--tensor 0", "1 to 1024")),
        (_what("--url", "ftp://x", *STATED), 64, ("--url ftp://x", "http")),
        (_what("--url", "http://me:secret@x/v1", *STATED), 64, ("credentials", "--api-key-env")),
        (_what("--url", "BASE/v1", *STATED, "--api-key-env", "NOT_SET_ANYWHERE"), 1, ("NOT_SET_ANYWHERE", "not set")),
        (_what("--url", "BASE/v1", "mdep/x", *STATED), 64, ("exclude each other",)),
        (_what("--url", "BASE/v1", *STATED[:2], "--model", "org/other", *STATED[4:]), 1, ("does not serve org/other", "org/m")),
        (_what("--url", "BASE/v1", *STATED[:6]), 1, ("engine is not known", "--engine")),
        (_what("--url", "BASE/v1", *STATED[:8]), 1, ("version is not known", "--engine-version")),
        (_what("--url", "BASE/v1", *STATED[:4], *STATED[6:]), 1, ("precision is not known", "--precision")),
        (_what("--url", "http://127.0.0.1:9/v1", *STATED), 1, ("cannot be reached", "curl")),
        (_what("--url", "BASE/v1", *STATED, "--lengths", "/does/not/exist"), 1, ("cannot read /does/not/exist",)),
        (_what(), 64, ("nothing to measure",)),
    ],
)
def test_bad_input_names_the_option_the_value_the_range_and_the_next_command(
    arguments: Callable[[str], list[str]], code: int, words: tuple[str, ...]
) -> None:
    with endpoint(_plain(())) as base:
        found, out, err = bench(*arguments(base))
    assert (found, out) == (code, "")
    assert "next:" in err
    assert "secret" not in err
    for word in words:
        assert word in err


def test_what_the_endpoint_says_of_itself_is_used_and_contradictions_are_refused() -> None:
    card = {"owned_by": "vllm", "max_model_len": 24}
    with endpoint(_plain(()), **card) as base:
        code, _, err = bench("--url", f"{base}/v1", *STATED, *SHORT, "--input", "19")
        assert (code, "context is 24" in err) == (1, True)
        code, _, err = bench("--url", f"{base}/v1", *STATED[:6], "--engine", "sglang", "--engine-version", "1")
        assert (code, "model list says vllm" in err) == (1, True)


def test_a_file_of_lengths_is_drawn_from_and_a_bad_line_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("# input,output\n20,6\n20, 6\n\n")
    bad.write_text("20,6\n20;6\n")
    with endpoint(_plain(())) as base:
        code, out, err = bench("--url", f"{base}/v1", *STATED, *SHORT, "--lengths", str(good), "-o", "yaml")
        assert code == 0, err
        assert "lengths drawn from 2 rows" in out
        code, _, err = bench("--url", f"{base}/v1", *STATED, *SHORT, "--lengths", str(bad))
        assert (code, "line 2 is not right: 20;6" in err) == (1, True)


def test_the_key_goes_into_the_header_and_into_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.add(request.headers.get("Authorization", ""))
        return await _plain(())(request, body)

    monkeypatch.setenv("BENCH_KEY", "s3cret-word")
    with endpoint(answer) as base:
        code, out, err = bench("--url", f"{base}/v1", *STATED, *SHORT, "--api-key-env", "BENCH_KEY")
    assert (code, seen) == (0, {"Bearer s3cret-word"})
    assert "s3cret" not in out + err
