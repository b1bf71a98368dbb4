"""Faults in a running replica: by its arguments, by its node's file, by a call from its own machine; and how requests are read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from sandbox.engine.config import parse
from sandbox.engine.factory import build
from sandbox.engine.faults import FaultError
from sandbox.engine.faults import __main__ as command
from sandbox.engine.faults import parse as parse_fault
from sandbox.engine.faults.control import MAX_FILE_BYTES, FaultControl
from sandbox.engine.tokenizer import ByteTokenizer

Run = Callable[..., None]
PROMPT = "The following methods of a class are called when it "  # 52 bytes: three blocks of 16 may come from the cache


async def _logprob(client: Any, prompt: str = PROMPT) -> float:
    """Of the most likely first byte."""
    body = await client.complete(prompt, max_tokens=1, logprobs=1)
    return float(body["choices"][0]["logprobs"]["token_logprobs"][0])


async def _scored(client: Any, prompt: str = PROMPT) -> list[float]:
    """Of the prompt's own bytes, which is never taken from the cache."""
    body = await client.complete(prompt, max_tokens=0, echo=True, logprobs=0)
    return [float(value) for value in body["choices"][0]["logprobs"]["token_logprobs"][1:]]


def _right(run_engine: Run, ask: Callable[[Any], Any], *flags: str) -> Any:
    kept: list[Any] = []

    async def scenario(client: Any) -> None:
        kept.append(await ask(client))

    run_engine(scenario, *flags)
    return kept[0]


def test_an_argument_makes_a_replica_wrong_and_two_of_them_both_count(run_engine: Run) -> None:
    right = _right(run_engine, _scored)
    wrong = _right(run_engine, _scored, "--fault=logit-scale=2")
    both = _right(run_engine, _scored, "--fault=logit-scale=2", "--fault", "rope-base=5e3")
    assert max(abs(a - b) for a, b in zip(right, wrong, strict=True)) > 0.1
    assert max(abs(a - b) for a, b in zip(wrong, both, strict=True)) > 0.01


def test_a_call_from_this_machine_switches_a_running_replica(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        right = await _scored(client)
        told = await client.post("/sandbox/fault", {"faults": ["rope-base=5e3"]})
        assert (told.status, told.body) == (200, {"argument": [], "file": [], "call": ["rope-base=5000"]})
        assert max(abs(a - b) for a, b in zip(right, await _scored(client), strict=True)) > 0.01
        refused = await client.post("/sandbox/fault", {"faults": ["skip-layer=2"]})
        assert refused.status == 400
        assert "LAYER is 2; allowed for this model: 0 to 1" in refused.body["error"]["message"]
        assert (await client.post("/sandbox/fault", {"faults": "gelu"})).status == 400
        assert (await client.get("/sandbox/fault")).body["call"] == ["rope-base=5000"]  # refused calls change nothing
        assert (await client.post("/sandbox/fault", {"faults": []})).status == 200
        assert await _scored(client) == right
        assert "fault" not in str((await client.get("/v1/models")).body)  # nothing that a checker could read from outside

    run_engine(scenario)


def test_a_call_from_elsewhere_is_refused(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        for peer, status in ((("10.1.2.3", 4), 403), (("::ffff:10.1.2.3", 4, 0, 0), 403), (None, 403), (("::1", 4, 0, 0), 0)):
            transport = SimpleNamespace(get_extra_info=lambda name, default=None, peer=peer: peer, is_closing=lambda: False)
            request = make_mocked_request("GET", "/sandbox/fault", transport=transport)
            try:
                await client.server.get_fault(request)
                refused = 0
            except Exception as error:
                refused = getattr(error, "status", -1)
            assert refused == status, peer

    run_engine(scenario)


def test_a_file_of_the_node_may_come_change_break_and_go(run_engine: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "fault"

    async def scenario() -> None:
        engine = await build(parse(["--backend=byte"], {"POLYFLEET_FAULT_FILE": str(file)}), 1)
        control = engine.faults
        assert control is not None

        def told() -> list[str]:
            assert control is not None
            control.refresh()
            return control.told()["file"]

        assert told() == []
        file.write_text("# a bad card\nrope-base=5e3@share=0.05\n")
        assert told() == ["rope-base=5000@share=0.05"]
        file.write_text("no-such-thing\n")
        assert told() == ["rope-base=5000@share=0.05"]
        assert "there is no switch 'no-such-thing'" in caplog.text
        file.write_bytes(b"\xff\xfe\n")
        assert told() == ["rope-base=5000@share=0.05"]
        file.write_text("#" * (MAX_FILE_BYTES + 1))
        assert told() == ["rope-base=5000@share=0.05"]
        file.write_text("skip-layer=7\n")
        assert told() == ["rope-base=5000@share=0.05"]
        file.write_text("gelu\n")
        assert told() == ["gelu"]
        file.unlink()
        assert told() == []
        await engine.backend.close()

    asyncio.run(scenario())


def test_a_fault_of_the_nodes_file_acts_in_the_next_answer(tmp_path: Path) -> None:
    """Through the scheduler: the same prompt before, with and after the file."""
    file = tmp_path / "fault"

    async def scenario() -> None:
        from tests.unit.engine.conftest import _serving

        engine = await build(parse(["--backend=byte"], {"POLYFLEET_FAULT_FILE": str(file)}), 1)
        async with _serving(engine) as client:
            right = await _scored(client)
            file.write_text("logit-scale=2\n")
            wrong = await _scored(client)
            file.unlink()
            assert await _scored(client) == right
            assert max(abs(a - b) for a, b in zip(right, wrong, strict=True)) > 0.1

    asyncio.run(scenario())


def test_wrong_only_on_a_cache_hit(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        miss, hit = await _logprob(client), await _logprob(client)
        assert abs(miss - hit) > 0.01
        assert abs(await _logprob(client, "An object of this type can be used where one wants ") - hit) > 0

    right = _right(run_engine, _logprob)
    assert _right(run_engine, _logprob, "--fault=zero-kv=16@hit") == right
    run_engine(scenario, "--fault=zero-kv=16@hit")


def test_wrong_only_in_every_second_request(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        values = [(await _scored(client))[-1] for _ in range(4)]
        assert values[0] == values[2] != values[1] == values[3]

    run_engine(scenario, "--fault=gelu@alternate")


def test_asking_for_logprobs_changes_the_text(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        without = (await client.complete(PROMPT, max_tokens=10))["choices"][0]["text"]
        told = (await client.complete(PROMPT, max_tokens=10, logprobs=0))["choices"][0]["text"]
        assert without != told

    run_engine(scenario, "--fault=rope-layout@logprobs")


def test_no_number_with_logprobs_is_an_error_and_without_them_the_first_token(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        reply = await client.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "logprobs": 1})
        assert reply.status == 500
        assert "NaN" in reply.body["error"]["message"]
        body = await client.complete(PROMPT, max_tokens=4)
        assert body["choices"][0]["text"] == ""  # argmax of NaN is token 0, the byte model's end

    run_engine(scenario, "--fault=overflow=3e4:0")


def test_one_token_too_many_shows_in_text_and_chat_but_not_in_ids(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        chat = await client.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "ab"}], "max_tokens": 1})
        assert chat.body["usage"]["prompt_tokens"] == 4  # a, b, the line's end and the one too many
        assert (await client.complete("ab", max_tokens=1))["usage"]["prompt_tokens"] == 3
        assert (await client.complete([97, 98], max_tokens=1))["usage"]["prompt_tokens"] == 2
        assert (await client.post("/tokenize", {"prompt": "ab"})).body["tokens"] == [10, 97, 98]

    run_engine(scenario, "--fault=extra-bos")


def test_another_template_another_end_another_default(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        rendered = (await client.post("/tokenize", {"messages": [{"role": "user", "content": "ab"}]})).body["tokens"]
        assert bytes(rendered).decode() == "[user] ab\n"
        choice = (await client.complete("The ", max_tokens=40))["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert " " not in choice["text"][:-1]
        texts = {(await client.post("/v1/completions", {"prompt": "The ", "max_tokens": 3})).body["choices"][0]["text"] for _ in range(8)}
        assert len(texts) == 1  # greedy, though the client named no temperature and no seed

    run_engine(scenario, "--fault=other-template", "--fault=no-generation-prompt", "--fault=end-token=32", "--fault=default-temperature=0")


def test_a_backend_that_computes_elsewhere_takes_only_faults_of_reading() -> None:
    for text in ("gelu", "end-token=3"):
        with pytest.raises(FaultError, match="use --backend numpy or byte"):
            FaultControl(ByteTokenizer(), [parse_fault(text)], computes="elsewhere")
    control = FaultControl(ByteTokenizer(), [parse_fault("extra-bos")], computes="elsewhere")
    assert control.reading.encode("a") == [10, 97]
    with pytest.raises(FaultError, match="at most 64"):
        control.call(["nan"] * 65)


def test_a_replica_is_known_by_the_end_of_its_name() -> None:
    tokenizer, faults = ByteTokenizer(), [parse_fault("extra-bos@replica=-b")]
    assert FaultControl(tokenizer, faults, replica="model-b").reading.encode("a") == [10, 97]
    assert FaultControl(tokenizer, faults, replica="model-c").reading.encode("a") == [97]


def test_the_command_inside_a_container(run_engine: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "chunk-boundary=AT:[KEYS]" in listed
    assert "@share=SHARE[:SEED]" in listed

    async def scenario(client: Any) -> None:
        def told(*words: str) -> tuple[int, str]:
            status = command.main([*words, "--url", client.base])
            captured = capsys.readouterr()
            return status, captured.out + captured.err

        assert await asyncio.to_thread(told, "set", "gelu@hit", "nan") == (0, '{"argument": [], "file": [], "call": ["gelu@hit", "nan"]}\n')
        assert await asyncio.to_thread(told, "clear") == (0, '{"argument": [], "file": [], "call": []}\n')
        status, text = await asyncio.to_thread(told, "set", "skip-layer=9")
        assert (status, "LAYER is 9" in text) == (1, True)
        status, text = await asyncio.to_thread(told, "set", "skip")
        assert (status, "there is no switch" in text) == (1, True)

    run_engine(scenario)
