"""When a fault acts: always, in a share of the requests, only in a batch, only on a cache hit, only above N tokens, and so on. Pure.

A trigger looks at one pass of one sequence. `above` alone is about single positions: a pass that crosses the bound is cut in two
(`switched`), so that what happens does not depend on where a prompt happened to be cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True)
class Situation:
    """One pass of one sequence, as a device sees it."""

    request: int  # count of the request, from 0, in order of arrival
    tokens: int  # of this sequence in this pass
    sequences: int  # in this pass
    longest: int  # tokens of the longest sequence in this pass
    cached: int  # tokens of the prompt that came from another request
    logprobs: bool  # the client asked for log-probabilities


@dataclass(frozen=True)
class Trigger:
    """One condition; `value` and `seed` where the kind has one."""

    kind: str
    value: float = 0.0
    seed: int = 0
    replica: str = ""

    @property
    def text(self) -> str:
        form = KINDS[self.kind]
        if form.value is None:
            return self.kind
        if self.kind == "replica":
            return f"replica={self.replica}"
        return f"{self.kind}={self.value:g}" + (f":{self.seed}" if self.seed else "")

    def holds(self, now: Situation) -> bool:
        """Whether the fault acts in this pass; `above` and `replica` are decided elsewhere."""
        test = KINDS[self.kind].test
        return test is None or test(self, now)


@dataclass(frozen=True)
class Kind:
    """One kind of trigger: what its value means (None: it has none), the allowed range, and the test."""

    text: str
    value: str | None = None
    low: float = 0.0
    high: float = 0.0
    default: float | None = None
    test: Callable[[Trigger, Situation], bool] | None = None


def chance(seed: int, request: int) -> float:
    """A number in [0, 1) that only these two decide, the same on every machine."""
    digest = blake2b(f"{seed}:{request}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)


KINDS: dict[str, Kind] = {
    "always": Kind("in every request"),
    "share": Kind(
        "in this share of the requests, drawn by a seed",
        "SHARE[:SEED]",
        0.0,
        1.0,
        test=lambda t, s: chance(t.seed, s.request) < t.value,
    ),
    "batch": Kind("only while at least N sequences are computed at once", "N", 2, 1024, 2, lambda t, s: s.sequences >= t.value),
    "hit": Kind("only for a prompt whose beginning came from the prefix cache", test=lambda t, s: s.cached > 0),
    "above": Kind("only at positions from N on", "N", 0, 131072),
    "tokens": Kind("only in a pass over exactly N tokens of a sequence", "N", 1, 131072, test=lambda t, s: s.tokens == t.value),
    "alternate": Kind("in every second request", test=lambda t, s: s.request % 2 == 1),
    "mixed": Kind("only for a sequence that is shorter than another of its batch", test=lambda t, s: s.tokens < s.longest),
    "logprobs": Kind("only where the client asks for log-probabilities", test=lambda t, s: s.logprobs),
    "nologprobs": Kind("only where the client asks for no log-probabilities", test=lambda t, s: not s.logprobs),
    "replica": Kind("only in the replica whose name ends with TEXT", "TEXT"),
}
