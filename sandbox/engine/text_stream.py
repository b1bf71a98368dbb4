"""Tokens to text as they come, with stop strings.

Text that could be the beginning of a stop string is held back until it is certain, so that no client ever sees a part of one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.engine.tokenizer import IncrementalDecoder, Tokenizer


class TextStream:
    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], include_stop: bool) -> None:
        self._tokenizer, self._stop, self._include_stop = tokenizer, tuple(stop), include_stop
        self._decoder = IncrementalDecoder()
        self._text = ""
        self._sent = 0
        self.stopped_by: str | None = None

    @property
    def text(self) -> str:
        """Everything that was given out."""
        return self._text[: self._sent]

    def feed(self, token: int) -> str:
        """The text that became certain by this token. After `stopped_by` is set there is no more."""
        return self._extend(self._decoder.feed(self._tokenizer.token_bytes(token)))

    def finish(self) -> str:
        """What was held back, at the end of the answer."""
        if self.stopped_by is not None:
            return ""
        start = self._sent
        self._extend(self._decoder.feed(b"", final=True))
        if self.stopped_by is None:
            self._give(len(self._text))
        return self._text[start : self._sent]

    def _extend(self, new: str) -> str:
        searched = len(self._text)
        self._text += new
        found = [(at, stop) for stop in self._stop if (at := self._text.find(stop, max(self._sent, searched - len(stop) + 1))) >= 0]
        if found:
            at, stop = min(found, key=lambda pair: (pair[0], -len(pair[1])))
            self.stopped_by = stop
            self._text = self._text[: at + len(stop) if self._include_stop else at]
            return self._give(len(self._text))
        return self._give(len(self._text) - self._held_back())

    def _held_back(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(self._text)), longest, -1):
                if self._text.endswith(stop[:size]):
                    longest = size
                    break
        return longest

    def _give(self, upto: int) -> str:
        piece = self._text[self._sent : upto]
        self._sent = max(self._sent, upto)
        return piece
