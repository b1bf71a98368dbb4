"""The request bodies of the OpenAI API that this engine understands, checked field by field.

A field that would change the answer and is not built is refused by name, never ignored: a client that compares devices must be
able to trust that what it asked for is what it got.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.engine.backend import Sampling
from sandbox.engine.errors import RequestError

MAX_LOGPROBS = 20  # OpenAI's bound for chat, vLLM's default --max-logprobs
MAX_STOPS, MAX_STOP_CHARACTERS, MAX_MESSAGES = 16, 1024, 1024

# Fields that only label a request, or whose listed value means "not used".
_LABELS = frozenset({"user", "metadata", "store", "service_tier", "priority", "request_id"})
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "min_p": (0,),
    "min_tokens": (0,),
    "use_beam_search": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (False, True),
    "response_format": ({"type": "text"},),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "add_special_tokens": (False, True),
    "continue_final_message": (False,),
}


Messages = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Ids:
    """A prompt that came as token ids."""

    ids: tuple[int, ...]


Prompt = str | Ids | Messages


@dataclass(frozen=True)
class Asked:
    """A checked request. `max_tokens` None means: as many as fit."""

    chat: bool
    prompt: Prompt
    max_tokens: int | None
    sampling: Sampling  # its max_tokens is filled in once the prompt's length is known
    stop: tuple[str, ...]
    include_stop: bool
    echo: bool
    stream: bool
    include_usage: bool
    return_token_ids: bool
    tokens_as_ids: bool
    add_generation_prompt: bool = True


class _Fields:
    """A JSON object of which every field must be asked for; what is left over is unknown."""

    def __init__(self, body: dict[str, Any]) -> None:
        # null means "the default" in every field of this API
        self._left = {key: value for key, value in body.items() if value is not None}

    def _take(self, name: str, default: Any, valid: Callable[[Any], bool], wanted: str) -> Any:
        value = self._left.pop(name, default)
        if value is not default and not valid(value):
            raise RequestError(f"{name}: {_shown(value)} is not valid; it must be {wanted}", param=name)
        return value

    def integer(self, name: str, default: int | None, low: int, high: int) -> int | None:
        result: int | None = self._take(name, default, lambda v: _is_int(v) and low <= v <= high, f"an integer from {low} to {high}")
        return result

    def number(self, name: str, default: float, low: float, high: float) -> float:
        return float(self._take(name, default, lambda v: _is_number(v) and low <= v <= high, f"a number from {low:g} to {high:g}"))

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._take(name, default, lambda v: isinstance(v, bool), "true or false"))

    def raw(self, name: str) -> Any:
        return self._left.pop(name, None)

    def finish(self) -> None:
        for name in sorted(self._left):
            value = self._left[name]
            if name in _LABELS:
                continue
            if name not in _NEUTRAL:
                raise RequestError(f"{name}: this engine does not know this field; leave it out", param=name)
            if not any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in _NEUTRAL[name]):
                allowed = " or ".join(json.dumps(neutral) for neutral in _NEUTRAL[name])
                raise RequestError(f"{name}: {_shown(value)} is not supported by this engine; leave it out or send {allowed}", param=name)


def parse_json(data: bytes) -> dict[str, Any]:
    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        body = json.loads(data, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object, not {type(body).__name__}")
    return body


def parse_completion(body: dict[str, Any], vocab: int) -> Asked:
    fields = _Fields(body)
    fields.raw("model")
    prompt = _prompt(fields.raw("prompt"), vocab)
    logprobs = fields.integer("logprobs", None, 0, MAX_LOGPROBS)
    echo = fields.flag("echo")
    prompt_logprobs = fields.integer("prompt_logprobs", None, 0, MAX_LOGPROBS)
    if echo and logprobs is not None and prompt_logprobs is None:
        prompt_logprobs = logprobs
    max_tokens = fields.integer("max_tokens", 16, 0, 1 << 31)  # 16 is the API's default
    if max_tokens == 0 and not echo and prompt_logprobs is None:
        raise RequestError("max_tokens: 0 is only useful with echo or prompt_logprobs; send at least 1", param="max_tokens")
    return _common(fields, chat=False, prompt=prompt, max_tokens=max_tokens, logprobs=logprobs, prompt_logprobs=prompt_logprobs, echo=echo)


def parse_chat(body: dict[str, Any]) -> Asked:
    fields = _Fields(body)
    fields.raw("model")
    messages = parse_messages(fields.raw("messages"))
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs", None, 0, MAX_LOGPROBS)
    if top is not None and not wanted:
        raise RequestError("top_logprobs: needs logprobs true", param="top_logprobs")
    newer = fields.integer("max_completion_tokens", None, 1, 1 << 31)
    older = fields.integer("max_tokens", None, 1, 1 << 31)
    prompt_logprobs = fields.integer("prompt_logprobs", None, 0, MAX_LOGPROBS)
    generation_prompt = fields.flag("add_generation_prompt", True)
    return _common(
        fields,
        chat=True,
        prompt=messages,
        max_tokens=newer if newer is not None else older,
        logprobs=(top or 0) if wanted else None,
        prompt_logprobs=prompt_logprobs,
        echo=False,
        add_generation_prompt=generation_prompt,
    )


def _common(
    fields: _Fields,
    *,
    chat: bool,
    prompt: Prompt,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
    echo: bool,
    add_generation_prompt: bool = True,
) -> Asked:
    stream = fields.flag("stream")
    options = fields.raw("stream_options")
    if options is not None and not stream:
        raise RequestError("stream_options: needs stream true", param="stream_options")
    if options is not None and not (isinstance(options, dict) and set(options) <= {"include_usage", "continuous_usage_stats"}):
        raise RequestError('stream_options: must be an object such as {"include_usage": true}', param="stream_options")
    if stream and prompt_logprobs is not None and not echo:
        raise RequestError("prompt_logprobs: cannot be streamed; send stream false", param="prompt_logprobs")
    top_k = fields.integer("top_k", 0, -1, 1 << 31) or 0
    top_p = fields.number("top_p", 1.0, 0.0, 1.0)
    if top_p == 0:
        raise RequestError("top_p: 0 is not valid; it must be more than 0 and at most 1", param="top_p")
    sampling = Sampling(
        max_tokens=0,
        temperature=fields.number("temperature", 1.0, 0.0, 2.0),
        top_p=top_p,
        top_k=max(0, top_k),  # -1 and 0 both mean no limit
        seed=fields.integer("seed", None, 0, (1 << 63) - 1),
        ignore_eos=fields.flag("ignore_eos"),
        stop_token_ids=frozenset(_ids(fields.raw("stop_token_ids") or [], "stop_token_ids", 1 << 31)),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )
    asked = Asked(
        chat=chat,
        prompt=prompt,
        max_tokens=max_tokens,
        sampling=sampling,
        stop=_stops(fields.raw("stop")),
        include_stop=fields.flag("include_stop_str_in_output"),
        echo=echo,
        stream=stream,
        include_usage=bool(options and options.get("include_usage")),
        return_token_ids=fields.flag("return_token_ids"),
        tokens_as_ids=fields.flag("return_tokens_as_token_ids"),
        add_generation_prompt=add_generation_prompt,
    )
    fields.finish()
    return asked


def parse_messages(value: Any) -> Messages:
    if not isinstance(value, list) or not value or len(value) > MAX_MESSAGES:
        raise RequestError(f"messages: must be a list of 1 to {MAX_MESSAGES} messages", param="messages")
    out: list[dict[str, str]] = []
    for index, message in enumerate(value):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant", "tool", "developer"):
            raise RequestError(f"{where}.role: must be one of system, developer, user, assistant, tool", param=f"{where}.role")
        content = message.get("content")
        if isinstance(content, list):  # the form with parts; this model reads text only
            if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content):
                raise RequestError(f"{where}.content: only parts of type text are understood", param=f"{where}.content")
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise RequestError(f"{where}.content: must be a string", param=f"{where}.content")
        out.append({"role": str(message["role"]), "content": content})
    return tuple(out)


def _prompt(value: Any, vocab: int) -> str | Ids:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (str, list)):
        value = value[0]  # a batch of one
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and not isinstance(value[0], (str, list)):
        return Ids(_ids(value, "prompt", vocab))
    raise RequestError("prompt: must be one non-empty string or one non-empty list of token ids", param="prompt")


def parse_ids(value: Any, name: str, vocab: int) -> tuple[int, ...]:
    return _ids(value, name, vocab)


def _ids(value: Any, name: str, vocab: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(_is_int(item) and 0 <= item < vocab for item in value):
        raise RequestError(f"{name}: must be a list of token ids from 0 to {vocab - 1}", param=name)
    return tuple(value)


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops: Sequence[Any] = [value] if isinstance(value, str) else value
    fits = isinstance(stops, list) and len(stops) <= MAX_STOPS
    if not fits or not all(isinstance(stop, str) and 0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        raise RequestError(f"stop: must be up to {MAX_STOPS} strings of 1 to {MAX_STOP_CHARACTERS} characters", param="stop")
    return tuple(stops)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
