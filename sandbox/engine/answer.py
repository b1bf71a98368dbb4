"""One answer in the making: takes a backend's events, makes text of them, ends at stop strings, and counts.

Everything between the backend and the JSON, in one place for streamed and whole answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sandbox.engine.backend import EventStream, Finished, FinishReason, PromptScored, Started, Token, TokenLogprobs
from sandbox.engine.metrics import RequestMeter
from sandbox.engine.text_stream import TextStream


@dataclass(frozen=True)
class Piece:
    """What one event adds. `token` is None for the text that was held back until the end."""

    text: str
    token: Token | None


@dataclass
class Answer:
    """Filled while `pieces` runs; complete once `finish_reason` is set."""

    prompt: tuple[int, ...]
    tokens: list[Token] = field(default_factory=list)
    prompt_scores: tuple[TokenLogprobs, ...] | None = None
    cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None

    async def pieces(self, events: EventStream, text: TextStream, meter: RequestMeter) -> AsyncIterator[Piece]:
        """Pieces in order. The first event after the prompt is computed yields at least an empty piece."""
        async for event in events:
            if isinstance(event, Started):
                self.cached_tokens = event.cached_tokens
                meter.started(event.queue_seconds)
            elif isinstance(event, PromptScored):
                self.prompt_scores = event.positions
                meter.prompt_done()
            elif isinstance(event, Token):
                meter.token()
                self.tokens.append(event)
                yield Piece(text.feed(event.token), event)
                if text.stopped_by is not None:
                    self._end("stop", text.stopped_by, meter)
                    return
            elif isinstance(event, Finished):
                meter.prompt_done()
                rest = text.finish()
                if rest:
                    yield Piece(rest, None)
                if text.stopped_by is not None:  # the rest of a cut character completed a stop string
                    self._end("stop", text.stopped_by, meter)
                else:
                    self._end(event.reason, event.stop_token, meter)

    def _end(self, reason: FinishReason, stop_reason: str | int | None, meter: RequestMeter) -> None:
        self.finish_reason, self.stop_reason = reason, stop_reason
        meter.finished(reason)

    def usage(self) -> dict[str, object]:
        return {
            "prompt_tokens": len(self.prompt),
            "completion_tokens": len(self.tokens),
            "total_tokens": len(self.prompt) + len(self.tokens),
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
