"""Faults in how a request is read: its template, its first token, its defaults, the token that ends an answer.

What a client sends as token ids is taken as it is: such a fault shows in chat and text prompts, in /tokenize and in the count of
prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox.engine.faults.switches import Fault
from sandbox.engine.tokenizer import Tokenizer


class Reading:
    """A `Tokenizer` that reads as the right one does, but for the faults that are set."""

    def __init__(self, right: Tokenizer) -> None:
        self._right = right
        self._on: dict[str, tuple[float, ...]] = {}
        self.vocab, self.bos_id, self.end_ids = right.vocab, right.bos_id, right.end_ids

    def set(self, faults: Sequence[Fault]) -> None:
        """From the next request on these; those that are not about reading are passed over."""
        self._on = {fault.name: fault.values for fault in faults if fault.switch.place == "request"}
        end = self._on.get("end-token")
        self.end_ids = self._right.end_ids if end is None else frozenset({int(end[0])})

    def fill(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request's body with the defaults of this replica in it."""
        if "default-temperature" in self._on and body.get("temperature") is None:
            return body | {"temperature": self._on["default-temperature"][0]}
        return body

    def encode(self, text: str) -> list[int]:
        ids = self._right.encode(text)
        return [self.bos_id, *ids] if "extra-bos" in self._on else ids

    def token_bytes(self, token: int) -> bytes:
        return self._right.token_bytes(token)

    def token_text(self, token: int) -> str:
        return self._right.token_text(token)

    def chat(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        add_generation_prompt = add_generation_prompt and "no-generation-prompt" not in self._on
        if "other-template" not in self._on:
            return self._right.chat(messages, add_generation_prompt)
        text = "".join(f"[{message['role']}] {message['content']}\n" for message in messages)
        return text + "[assistant] " if add_generation_prompt else text
