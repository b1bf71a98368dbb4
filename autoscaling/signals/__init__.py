"""An engine's metrics page as one `Sample`. Pure: bytes in, a value out; fetching pages is the operator's (`polyfleet.load`).

Three states of each number: a value, a true zero (a zero that was read), unknown (None). A page without any of the engine's names is
`Unreadable`, never zero load.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autoscaling.signals import llamacpp, mindie, sglang, tgi, trtllm, vllm
from autoscaling.signals.fold import Sticky, Unreadable, sample
from autoscaling.signals.page import MOST_BYTES, fault
from autoscaling.signals.vocabulary import Vocabulary
from autoscaling.types import Sample

ENGINES: Mapping[str, Vocabulary] = MappingProxyType(
    {words.engine: words for words in (vllm.WORDS, sglang.WORDS, mindie.WORDS, tgi.WORDS, llamacpp.WORDS, trtllm.WORDS, vllm.SANDBOX)}
)
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "llama.cpp": "llamacpp",
        "mindie-service": "mindie",
        "tensorrt-llm": "trtllm",
        "tensorrtllm": "trtllm",
        "vllm-ascend": "vllm",
        "vllm-ppu": "vllm",
    }
)


def words_of(engine: str) -> Vocabulary | None:
    """The table of an engine, by its own name or one of `ALIASES`, in any case; None = there is no adapter."""
    name = engine.strip().lower()
    return ENGINES.get(ALIASES.get(name, name))


def read(engine: str, page: bytes | str, *, at: float, model: str = "", sticky: Sticky | None = None) -> Sample | Unreadable:
    """What the page of an engine says, stamped `at` (seconds since 1970, when it was fetched).

    `model`: the served name; where a page is of several models only its series count, "" = all of them. `sticky`: what is remembered of
    this replica, see there. Raises nothing; at most `MOST_BYTES` are read.
    """
    words = words_of(engine)
    if words is None:
        return Unreadable(
            f"there is no adapter for the engine {engine!r}; known are {', '.join(sorted((*ENGINES, *ALIASES)))}:"
            " set `metrics` of the engine in the HardwareProfile to the one whose names it publishes"
        )
    raw = page.encode("utf-8", "replace") if isinstance(page, str) else page
    if why := fault(raw):
        return Unreadable(f"{why}{'; ' + words.hint if words.hint else ''}")
    return sample(raw, words, at, model, sticky if sticky is not None else Sticky())


def names(engine: str, field: str) -> tuple[str, ...]:
    """What an engine calls a field of `Sample`, newest name first; empty = it does not publish it."""
    words = words_of(engine)
    return words.names(field) if words is not None else ()


__all__ = ["ALIASES", "ENGINES", "MOST_BYTES", "Sticky", "Unreadable", "Vocabulary", "names", "read", "words_of"]
