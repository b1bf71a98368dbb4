"""What engines answer, read into positions: the shapes of several engines, and the traps in them."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from accuracy.http import answers, wire
from accuracy.http.client import connect
from accuracy.http.endpoint import Endpoint
from accuracy.http.probe import Agreement, Dialect, agree, probe
from accuracy.http.scoring import score
from accuracy.record import RecordItem
from accuracy.types import Capabilities, Condition, Item, Mode, Position, Scores, Token
from tests.unit.accuracy.servers import handlers, served

CHOICE = {"text": "a", "finish_reason": "length"}
GOLDEN = RecordItem(
    "i", continuation=(7, 8), pieces=("a", "b"), positions=(Position(Token(7, "a", -0.5), (), 0), Position(Token(8, "b", -0.7), (), 1))
)  # fmt: skip


def scored(logprobs: Any, *, ids: Any = None, mode: Mode = Mode.STEPWISE, golden: RecordItem = GOLDEN, top_k: int = 5) -> Scores:
    """The golden continuation scored on an endpoint that always answers with these log-probabilities."""

    async def complete(request: web.Request) -> web.StreamResponse:
        extra = {} if ids is None else {"token_ids": ids}
        return web.json_response({"choices": [{**CHOICE, "logprobs": logprobs, **extra}], "usage": {"prompt_tokens": 4}})

    async def main() -> Scores:
        app = handlers({"/v1/completions": complete})
        async with served(app) as url, connect(Endpoint(url, "m")) as client:
            client.dialect = Dialect(Capabilities(top_k=5, completions=True))
            return await score(client, Item("i", "Chat", text="hi"), golden, mode, (0, 1), Condition(), top_k)

    return asyncio.run(main())


def lists(top: dict[str, float | None], token: str = "a", value: float | None = -0.5) -> dict[str, Any]:
    return {"tokens": [token], "token_logprobs": [value], "top_logprobs": [top]}


def test_by_string_where_no_id_is_told() -> None:
    first, second = scored(lists({"a": -0.5, "b": -1.5, "c": -3.0})).positions
    assert first is not None
    assert second is not None
    assert (first.token.logprob, second.token.logprob) == (-0.5, -1.5)
    assert [t.text for t in first.top] == ["a", "b", "c"]


def test_a_golden_token_that_is_not_told_is_bounded_by_what_is() -> None:
    found = scored(lists({"x": -0.5, "y": -2.0}, token="x"))
    # At most as likely as the least likely one told, and no more likely than on the reference.
    assert [p.token.logprob for p in found.positions if p] == [-2.0, -2.0]
    few = scored(lists({"x": -0.1}, token="x", value=-0.1))
    assert [p.token.logprob for p in few.positions if p] == [-0.5, -0.7]


def test_one_string_for_two_tokens_is_unusable() -> None:
    content = [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}, {"token": "a", "logprob": -1.0}]}]
    assert scored({"content": content}).positions[0] is None
    with_ids = [
        {**content[0], "id": 7, "top_logprobs": [{"token": "a", "logprob": -1.0, "id": 9}, {"token": "a", "logprob": -0.5, "id": 7}]}
    ]
    (first, _) = scored({"content": with_ids}).positions
    assert first is not None
    assert (first.token.id, first.token.logprob) == (7, -0.5)


@pytest.mark.parametrize("value", [None, "NaN"])
def test_null_in_the_place_of_a_number_is_not_a_number(value: Any) -> None:
    (first, _) = scored(lists({"a": value, "b": -1.0}, value=value)).positions
    assert first is not None
    assert math.isnan(first.token.logprob)
    assert [t.text for t in first.top] == ["b", "a"]


@pytest.mark.parametrize("logprobs", [None, {}, {"content": []}, {"token_logprobs": "x"}, [], 3])
def test_no_log_probabilities_are_an_event_and_no_position(logprobs: Any) -> None:
    found = scored(logprobs)
    assert found.positions == (None, None)
    assert {e.code for e in found.events} == {"MissingLogprob"}


def test_no_more_alternatives_than_were_asked_for() -> None:
    (first, _) = scored(lists({"a": -0.5, "b": -1.5, "c": -3.0}), top_k=2).positions
    assert first is not None
    assert [t.text for t in first.top] == ["a", "b"]


def test_the_prompts_own_scores_are_those_of_the_tokens_that_were_sent() -> None:
    def row(own: int, other: int) -> dict[str, Any]:
        return {str(other): {"logprob": -0.2, "decoded_token": "o"}, str(own): {"logprob": -1.7, "decoded_token": "w"}}

    body = {"choices": [{"prompt_logprobs": [None, row(5, 6), row(9, 8)]}]}
    nothing, one, two = wire.prompt(body, [4, 5, 7])
    assert (nothing, two) == (None, None)  # the engine scored 9 or 8 where 7 was sent
    assert one is not None
    assert (one.token, [t.id for t in one.top]) == (Token(5, "w", -1.7), [6, 5])
    assert wire.prompt(body, [4, 5, 9], start=2)[:2] == (None, None)


def test_an_endpoint_without_alternatives_is_scored_by_the_golden_token_alone() -> None:
    whole = Capabilities(top_k=20, prompt_logprobs=True, prompt_top_k=20, token_ids_in=True, completions=True, chat=True)
    few = replace(whole, prompt_logprobs=False, token_ids_in=False, top_k=1)
    modes = (Mode.PROMPT_LOGPROBS, Mode.STEPWISE, Mode.FREE_RUN)
    assert agree(whole, whole, modes, 5) == Agreement(Mode.PROMPT_LOGPROBS, True, 5)
    assert agree(whole, few, modes, 5) == Agreement(Mode.STEPWISE, False, 1)
    assert agree(whole, replace(few, completions=False), modes, 5) == Agreement(Mode.FREE_RUN, False, 1)
    assert isinstance(agree(whole, replace(few, top_k=0), modes, 5), str)
    assert isinstance(agree(whole, few, (Mode.PROMPT_LOGPROBS,), 5), str)


def test_probing_believes_what_comes_and_not_what_is_accepted() -> None:
    """An engine that takes every field in silence, tells five alternatives at most, and no ids."""

    async def models(request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"id": "m", "owned_by": "vllm"}]})

    async def complete(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if (asked.get("logprobs") or 0) > 5:
            return web.json_response({"error": {"message": "logprobs: at most 5"}}, status=400)
        wants = asked.get("logprobs")
        logprobs = lists({c: -1.0 - n for n, c in enumerate("abcde"[:wants])}) if wants else None
        return web.json_response({"choices": [{**CHOICE, "logprobs": logprobs}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})

    async def main() -> Capabilities:
        async with served(handlers({"/v1/models": models, "/v1/completions": complete})) as url, connect(Endpoint(url)) as client:
            return await probe(client)

    told = asyncio.run(main())
    assert (told.model, told.completions, told.chat, told.top_k) == ("m", True, False, 5)
    assert not any((told.prompt_logprobs, told.token_ids_in, told.token_ids_out, told.tokenize, told.streaming))


def test_answers_to_tasks() -> None:
    tool = Item("t", "Tools", messages=({"role": "user", "content": "weather?"},), tools=({"type": "function"},), expect_tool="weather")
    schema = Item("s", "Tools", messages=tool.messages, schema={"type": "object", "required": ["a"]})
    number = Item("n", "Chat", messages=tool.messages, answer="42")

    def message(**fields: Any) -> dict[str, Any]:
        return {"choices": [{"message": fields, "finish_reason": fields.pop("finish", "stop")}]}

    call = {"tool_calls": [{"function": {"name": "weather"}}]}
    cases: list[tuple[Item, Any, bool | None]] = [
        (tool, message(**call), True),
        (tool, message(content="it rains"), False),
        (schema, message(content='{"a": 1}'), True),
        (schema, message(content="{}"), False),
        (schema, message(content='{"a"', finish="length"), None),
        (number, message(content=" 42. "), True),
        (number, message(content="41"), False),
        (number, 500, False),
        (tool, 400, None),
        (Item("x", "Chat", messages=tool.messages), message(content="42"), None),
    ]

    async def main() -> None:
        reply: list[Any] = [None]

        async def chat(request: web.Request) -> web.StreamResponse:
            if isinstance(reply[0], int):
                return web.json_response({"error": "no"}, status=reply[0])
            return web.json_response(reply[0])

        async with served(handlers({"/v1/chat/completions": chat})) as url, connect(Endpoint(url, "m")) as client:
            client.dialect = Dialect(Capabilities(chat=True))
            for item, reply[0], wanted in cases:
                assert await answers.good(client, item) is wanted, (item.id, reply[0])

    asyncio.run(main())
