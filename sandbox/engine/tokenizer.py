"""Text to token ids and back: the byte-level BPE of a GGUF file, and the ASCII one of the byte model; chat templates.

Every backend uses the tokenizer of this file, llama.cpp included (it is given ids), so that the same text is the same prompt on
every device.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sandbox.engine.errors import RequestError
from sandbox.engine.gguf_weights import GgufFile, WeightsError

CONTROL = 3  # GGUF token type of special tokens
# End-of-turn texts that llama.cpp treats as end of generation beside the metadata's eos id; both backends must stop alike.
END_TEXTS = ("<|im_end|>", "<|endoftext|>")


class Tokenizer(Protocol):
    vocab: int
    bos_id: int  # the token that other engines put before a text; here no prompt begins with it unasked
    end_ids: frozenset[int]

    def encode(self, text: str) -> list[int]: ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes that the token adds to the text; none for a special token."""
        ...

    def token_text(self, token: int) -> str:
        """The token as a string of its own, special tokens spelled out."""
        ...

    def chat(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str: ...


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return b"".join(tokenizer.token_bytes(i) for i in ids).decode("utf-8", "replace")


class IncrementalDecoder:
    """Bytes to text as they come: a character split over tokens appears with its last byte."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes, final: bool = False) -> str:
        return self._decoder.decode(data, final)


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level BPE vocabulary (the scheme of GPT-2's tokenizer).

    Printable Latin-1 bytes stand for themselves, the others get the characters from 256 on in order.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


class GgufTokenizer:
    """Byte-level BPE from the vocabulary and merges inside the GGUF file, digits split singly, no prefix space."""

    def __init__(self, file: GgufFile) -> None:
        meta = file.metadata
        kind, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre")
        if kind != "gpt2" or pre != "smollm":
            raise WeightsError(f"weights {file.path}: tokenizer {kind!r} with pre-tokenizer {pre!r}; built here is gpt2 with smollm")
        from tokenizers import AddedToken, pre_tokenizers
        from tokenizers import Tokenizer as Fast
        from tokenizers.models import BPE

        tokens: list[str] = meta["tokenizer.ggml.tokens"]
        types: list[int] = meta["tokenizer.ggml.token_type"]
        merges = [tuple(merge.split(" ", 1)) for merge in meta["tokenizer.ggml.merges"]]
        self.vocab = len(tokens)
        fast = Fast(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
        fast.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
        special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL]
        fast.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        self._fast: Any = fast
        self._tokens = tokens
        self._special = {i for i, kind in enumerate(types) if kind == CONTROL}
        ends = {i for i, token in enumerate(tokens) if i in self._special and token in END_TEXTS}
        self.end_ids = frozenset(ends | {int(meta["tokenizer.ggml.eos_token_id"])})
        self.bos_id = int(meta.get("tokenizer.ggml.bos_token_id", min(self.end_ids)))
        self._template = ChatTemplate(str(meta.get("tokenizer.chat_template", "")), meta, tokens)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def token_bytes(self, token: int) -> bytes:
        if token in self._special or not 0 <= token < self.vocab:
            return b""
        alphabet = byte_alphabet()
        return bytes(alphabet[c] for c in self._tokens[token])

    def token_text(self, token: int) -> str:
        if token in self._special:
            return self._tokens[token]
        return self.token_bytes(token).decode("utf-8", "replace")

    def chat(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        return self._template.render(messages, add_generation_prompt)


class ByteTokenizer:
    """ASCII: a token is a byte. The NUL byte ends a text (no training text holds one)."""

    vocab = 128
    bos_id = ord("\n")  # there is no token for it; texts begin after a line's end
    end_ids = frozenset({0})

    def encode(self, text: str) -> list[int]:
        for at, character in enumerate(text):
            if not 0 < ord(character) < self.vocab:
                message = f"prompt: character {character!r} at index {at} is not ASCII; the byte model knows the characters 1 to 127 only"
                raise RequestError(message, param="prompt")
        return list(text.encode("ascii"))

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if 0 < token < self.vocab else b""

    def token_text(self, token: int) -> str:
        return chr(token)

    def chat(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        """The contents one below the other: a context of 64 bytes has no room for role markers."""
        return "".join(message["content"] + "\n" for message in messages)


class ChatTemplate:
    """The model's own Jinja template, run in the sandbox: it comes with the weights, and weights come from anywhere."""

    def __init__(self, source: str, meta: dict[str, Any], tokens: Sequence[str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise_exception
        self._template = environment.from_string(source) if source else None
        self._names = {
            name: tokens[int(meta[key])]
            for name, key in (("bos_token", "tokenizer.ggml.bos_token_id"), ("eos_token", "tokenizer.ggml.eos_token_id"))
            if key in meta
        }

    def render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        if self._template is None:
            raise RequestError("this model has no chat template; use /v1/completions", param="messages")
        try:
            return self._template.render(messages=list(messages), add_generation_prompt=add_generation_prompt, **self._names)
        except TemplateError as error:
            raise RequestError(f"the chat template refused the messages: {error}", param="messages") from error


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
