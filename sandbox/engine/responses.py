"""Answers as the JSON of the OpenAI API, with vLLM's additions (token ids, prompt log-probabilities, stop reason)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sandbox.engine.answer import Answer
from sandbox.engine.backend import Token, TokenLogprobs
from sandbox.engine.errors import RequestError
from sandbox.engine.protocol import Asked
from sandbox.engine.tokenizer import Tokenizer

Json = dict[str, Any]
FLOOR = -9999.0  # vLLM writes minus infinity, which JSON cannot, as this number


def _number(logprob: float) -> float:
    if math.isnan(logprob):
        raise RequestError("the model's log-probabilities are not numbers (NaN); this replica computes garbage", status=500)
    return max(logprob, FLOOR)


class Shaper:
    """Builds the JSON of one request's answer."""

    def __init__(self, asked: Asked, tokenizer: Tokenizer, request_id: str, created: int, model: str) -> None:
        self._asked, self._tokenizer = asked, tokenizer
        self._head = {"id": request_id, "created": created, "model": model}
        self._offset = 0  # characters of the text so far, for text_offset

    def whole(self, answer: Answer, text: str, prompt_text: str) -> Json:
        asked = self._asked
        choice: Json = {"index": 0}
        if asked.chat:
            choice["message"] = {"role": "assistant", "content": text}
            choice["logprobs"] = self._logprobs(answer.tokens)
        else:
            choice["text"] = prompt_text + text if asked.echo else text
            echoed = self._echo_logprobs(answer) if asked.echo else None
            choice["logprobs"] = _joined(echoed, self._logprobs(answer.tokens))
        choice |= {"finish_reason": answer.finish_reason, "stop_reason": answer.stop_reason}
        if asked.return_token_ids:
            choice["token_ids"] = [token.token for token in answer.tokens]
        body: Json = {**self._head, "object": "chat.completion" if asked.chat else "text_completion", "choices": [choice]}
        body["usage"] = answer.usage()
        self._add_prompt(answer, body if asked.chat else choice)
        return body

    def _add_prompt(self, answer: Answer, target: Json) -> None:
        """vLLM puts what concerns the prompt into the choice of a completion, and beside the choices of a chat."""
        if self._asked.return_token_ids:
            target["prompt_token_ids"] = list(answer.prompt)
        if answer.prompt_scores is not None:
            target["prompt_logprobs"] = [None, *(self._scored(position) for position in answer.prompt_scores)]

    def first_chunk(self, answer: Answer, prompt_text: str) -> Json | None:
        """What a stream begins with: the role of a chat, the prompt of an echo; else nothing."""
        asked = self._asked
        if asked.chat:
            chunk = self._chunk({"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None})
            if asked.return_token_ids:
                chunk["prompt_token_ids"] = list(answer.prompt)
            return chunk
        if not asked.echo and not asked.return_token_ids:
            return None
        choice: Json = {"text": prompt_text if asked.echo else "", "logprobs": None, "finish_reason": None}
        if asked.echo:
            choice["logprobs"] = self._echo_logprobs(answer)
        if asked.return_token_ids:
            choice |= {"prompt_token_ids": list(answer.prompt), "token_ids": []}
        return self._chunk(choice)

    def chunk(self, text: str, token: Token | None) -> Json | None:
        """The chunk of one piece; None if it would say nothing."""
        asked = self._asked
        tokens = [token] if token is not None else []
        logprobs = self._logprobs(tokens) if tokens else None
        if not text and logprobs is None and not asked.return_token_ids:
            return None
        choice: Json = {"delta": {"content": text}} if asked.chat else {"text": text}
        choice |= {"logprobs": logprobs, "finish_reason": None}
        if asked.return_token_ids:
            choice["token_ids"] = [t.token for t in tokens]
        return self._chunk(choice)

    def last_chunk(self, answer: Answer) -> Json:
        choice: Json = {"delta": {}} if self._asked.chat else {"text": ""}
        choice |= {"logprobs": None, "finish_reason": answer.finish_reason, "stop_reason": answer.stop_reason}
        return self._chunk(choice)

    def usage_chunk(self, answer: Answer) -> Json:
        return {**self._frame(), "choices": [], "usage": answer.usage()}

    def _frame(self) -> Json:
        return {**self._head, "object": "chat.completion.chunk" if self._asked.chat else "text_completion"}

    def _chunk(self, choice: Json) -> Json:
        frame: Json = {**self._frame(), "choices": [{"index": 0, **choice}]}
        if self._asked.include_usage:
            frame["usage"] = None  # the field is there in every chunk, and filled in the last
        return frame

    # Log-probabilities

    def _logprobs(self, tokens: Sequence[Token]) -> Json | None:
        if self._asked.sampling.logprobs is None:
            return None
        described = [token.logprobs for token in tokens if token.logprobs is not None]
        if self._asked.chat:
            return {"content": [self._chat_entry(d) for d in described]}
        return self._completion_logprobs(described)

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self._asked.tokens_as_ids else self._tokenizer.token_text(token)

    def _chat_entry(self, position: TokenLogprobs) -> Json:
        def entry(token: int, logprob: float) -> Json:
            special = self._tokenizer.token_text(token).encode()
            return {"token": self._name(token), "logprob": _number(logprob), "bytes": list(self._tokenizer.token_bytes(token) or special)}

        return {**entry(position.token, position.logprob), "top_logprobs": [entry(token, logprob) for token, logprob in position.top]}

    def _completion_logprobs(self, positions: Sequence[TokenLogprobs]) -> Json:
        out: Json = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
        for position in positions:
            out["text_offset"].append(self._offset)
            self._offset += len(self._tokenizer.token_text(position.token))
            out["tokens"].append(self._name(position.token))
            out["token_logprobs"].append(_number(position.logprob))
            top: dict[str, float] = {}
            for token, logprob in (*position.top, (position.token, position.logprob)):  # the chosen one is always among them
                top.setdefault(self._name(token), _number(logprob))
            out["top_logprobs"].append(top)
        return out

    def _echo_logprobs(self, answer: Answer) -> Json | None:
        if self._asked.sampling.logprobs is None or answer.prompt_scores is None:
            return None
        first = answer.prompt[0]  # nothing comes before it, so it has no probability
        self._offset = len(self._tokenizer.token_text(first))
        rest = self._completion_logprobs(answer.prompt_scores)
        return _joined({"text_offset": [0], "token_logprobs": [None], "tokens": [self._name(first)], "top_logprobs": [None]}, rest)

    def _scored(self, position: TokenLogprobs) -> Json:
        ranked = [(token, logprob, rank) for rank, (token, logprob) in enumerate(position.top, start=1)]
        if all(token != position.token for token, _, _ in ranked):
            ranked.append((position.token, position.logprob, position.rank))
        return {
            str(token): {"logprob": _number(logprob), "rank": rank, "decoded_token": self._tokenizer.token_text(token)}
            for token, logprob, rank in ranked
        }


def _joined(first: Json | None, second: Json | None) -> Json | None:
    if first is None or second is None:
        return first if second is None else second
    return {key: first[key] + second[key] for key in first}
