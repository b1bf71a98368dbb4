"""The shapes in which engines write log-probabilities, read into `Position`. Pure.

Four exist: the lists of the older completions API, the `content` list of chat (which llama.cpp also uses for completions, with ids), vLLM's
`prompt_logprobs`, and an echoed prompt in the first shape. What is missing stays missing: null in the place of a number is NaN, and a
position that is not there is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from accuracy.http.client import GarbledError, Json, count
from accuracy.types import Position, Token

_BY_ID = "token_id:"  # vLLM's spelling with return_tokens_as_token_ids
MOST_TOP = 64


def choice(body: Json) -> Json:
    """The first choice. Raises GarbledError."""
    found = body.get("choices")
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        raise GarbledError("the answer has no choices", 200)
    return found[0]


def text_of(body: Json) -> str:
    """The generated text, "" where there is none."""
    first = choice(body)
    message = first.get("message")
    text = message.get("content") if isinstance(message, dict) else first.get("text")
    return text if isinstance(text, str) else ""


def finish_of(body: Json) -> str:
    reason = choice(body).get("finish_reason")
    return reason if isinstance(reason, str) else ""


def prompt_tokens_of(body: Json) -> int | None:
    usage = body.get("usage")
    return count(usage.get("prompt_tokens")) if isinstance(usage, dict) else None


def tokens_of(body: Json) -> int:
    """Prompt and generated tokens of one answer, as far as it tells."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return 0
    return (count(usage.get("prompt_tokens")) or 0) + (count(usage.get("completion_tokens")) or 0)


def ids(value: object) -> tuple[int, ...]:
    """A list of token ids, or () for anything else."""
    if not isinstance(value, list) or any(count(v) is None for v in value):
        return ()
    return tuple(value)


def prompt_ids_of(body: Json) -> tuple[int, ...]:
    """vLLM tells them beside the choices of a chat, and in the choice of a completion."""
    return ids(body.get("prompt_token_ids")) or ids(choice(body).get("prompt_token_ids"))


def generated(body: Json) -> tuple[Position | None, ...]:
    """The positions of the generated tokens, () where no log-probabilities came."""
    first = choice(body)
    found = first.get("logprobs")
    if not isinstance(found, dict):
        return ()
    told = ids(first.get("token_ids"))
    content = found.get("content")
    if isinstance(content, list):
        return tuple(_chat_entry(entry, n) for n, entry in enumerate(content))
    return _lists(found, told)


def echoed(body: Json, start: int = 0) -> tuple[Position | None, ...]:
    """The prompt and what follows it, from an echo; the first has no log-probability and is None. Those before `start` are not read."""
    found = choice(body).get("logprobs")
    return _lists(found, (), start) if isinstance(found, dict) else ()


def prompt(body: Json, prompt_ids: Sequence[int], start: int = 0) -> tuple[Position | None, ...]:
    """vLLM's `prompt_logprobs`, one per prompt token; () where there are none. `prompt_ids` says which entry is the token itself. Those
    before `start` are not read and None."""
    found = choice(body).get("prompt_logprobs")
    if not isinstance(found, list):
        found = body.get("prompt_logprobs")
    if not isinstance(found, list):
        return ()
    return tuple(_scored(entry, prompt_ids[n] if n < len(prompt_ids) else None, n) if n >= start else None for n, entry in enumerate(found))


def number(value: object) -> float:
    """A log-probability; null and anything else that is no number is NaN, which is a fault and never a zero."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):  # "NaN" and "-Infinity" as some JSON writers spell them
        try:
            return float(value)
        except ValueError:
            return math.nan
    return math.nan


def ranked(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """Most likely first; NaN last, equal ones by id, so that the order never depends on the engine's."""
    return tuple(sorted(tokens, key=lambda t: (math.isnan(t.logprob), -t.logprob if t.logprob == t.logprob else 0.0, t.id or 0, t.text)))


def _token(name: object, logprob: object, token_id: object = None) -> Token:
    text = name if isinstance(name, str) else ""
    known = count(token_id)
    if known is None and text.startswith(_BY_ID) and text[len(_BY_ID) :].isdecimal():
        known, text = int(text[len(_BY_ID) :]), ""
    return Token(known, text, number(logprob))


def _chat_entry(entry: object, index: int) -> Position | None:
    if not isinstance(entry, dict):
        return None
    top = entry.get("top_logprobs")
    rest = [_token(t.get("token"), t.get("logprob"), t.get("id")) for t in top if isinstance(t, dict)] if isinstance(top, list) else []
    return Position(_token(entry.get("token"), entry.get("logprob"), entry.get("id")), ranked(rest[:MOST_TOP]), index)


def _lists(found: Mapping[str, Any], told: Sequence[int], start: int = 0) -> tuple[Position | None, ...]:
    names, numbers, tops = found.get("tokens"), found.get("token_logprobs"), found.get("top_logprobs")
    if not isinstance(numbers, list):
        return ()
    names = names if isinstance(names, list) and len(names) == len(numbers) else [""] * len(numbers)
    tops = tops if isinstance(tops, list) and len(tops) == len(numbers) else [None] * len(numbers)
    known: Sequence[int | None] = told if len(told) == len(numbers) else [None] * len(numbers)
    out: list[Position | None] = []
    for n, (name, logprob, top, token_id) in enumerate(zip(names, numbers, tops, known, strict=True)):
        if n < start or (n == 0 and logprob is None and top is None):
            out.append(None)  # not wanted, or the first token of an echo: nothing comes before it
            continue
        rest = [_token(text, value) for text, value in top.items()] if isinstance(top, dict) else []
        out.append(Position(_token(name, logprob, token_id), ranked(rest[:MOST_TOP]), n))
    return tuple(out)


def _scored(entry: object, own: int | None, index: int) -> Position | None:
    if not isinstance(entry, dict):
        return None
    tokens: list[Token] = []
    for key, value in entry.items():
        known = int(key) if isinstance(key, str) and key.isdecimal() else None
        if isinstance(value, dict):
            text = value.get("decoded_token")
            tokens.append(Token(known, text if isinstance(text, str) else "", number(value.get("logprob"))))
        else:
            tokens.append(_token(key, value, known))
    golden = next((t for t in tokens if t.id == own), None) if own is not None else None
    if golden is None:
        return None  # the engine scored another token than the one that was sent
    return Position(golden, ranked(tokens[:MOST_TOP]), index)
