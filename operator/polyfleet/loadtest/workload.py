"""What a load test sends: lengths, prompts and arrival times, all from a seed. Pure.

Lengths: uniform over n ± spread (default 20 %), or drawn from a file's rows. A spread, because with equal lengths all requests of a closed
loop end at the same moment, and the engine works in waves that no real traffic has. The mean stays n.

Prompts: common words in a random order. Token counts are aimed at with two probe requests (`Scale`), and what counts in the end is what
the endpoint's `usage` says. Each prompt is unlike every other from its first word on, and `run` (different for every run) is part of the
seed: neither another request nor an earlier run with the same seed leaves a prefix in the engine's cache that would make the prompt free.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

SPREAD = 0.2

# Short common words: one token each in the vocabularies of today's models.
_TEXT = (
    "air arm art bag ball bank bed bell bird blue boat body book box boy bread bridge brown call camp car card cat chair "
    "church city class clock coat cold color corn corner cost cow cup dark day deep desk dog door down dress dry earth east "
    "edge egg end eye face fact farm field fire fish floor food foot fruit game garden gate girl glass gold grass green "
    "ground hair half hall hand hat head heart hill home horse hot hour house ice iron key king knife lake land leaf leg "
    "letter light line lip list long lunch man map mark market milk mind money moon mouth music name neck new night north "
    "nose note oil old open page paper park part path pen pipe plan plane plant plate point pool port rain red rest rice ring "
    "river road rock roof room root rope salt sand school sea seat seed shape ship shoe shop shore side silver sky snow soap "
    "song sound south space spring star state steam step stone store storm street sugar summer sun table tail tea ten test "
    "time top town train tree truck valley wall watch water way wheel white wind wine wing winter wood word work year "
)
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Lengths:
    """Targets in tokens. `rows`: pairs (input, output) of a file, drawn at random; else uniform within ± `spread` of the two means."""

    input_tokens: int
    output_tokens: int
    spread: float = SPREAD
    rows: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_rows(cls, rows: tuple[tuple[int, int], ...]) -> Lengths:
        """The means of the rows are the lengths that are spoken of."""
        count = len(rows)
        return cls(max(1, round(sum(r[0] for r in rows) / count)), max(1, round(sum(r[1] for r in rows) / count)), 0.0, rows)

    def draw(self, chance: random.Random) -> tuple[int, int]:
        if self.rows:
            return chance.choice(self.rows)
        return _around(self.input_tokens, self.spread, chance), _around(self.output_tokens, self.spread, chance)

    def describe(self) -> str:
        if self.rows:
            return f"lengths drawn from {len(self.rows)} rows, mean {self.input_tokens} in and {self.output_tokens} out"
        return f"lengths uniform within {self.spread:.0%} of {self.input_tokens} in and {self.output_tokens} out"


def _around(mean: int, spread: float, chance: random.Random) -> int:
    reach = int(mean * spread)
    return chance.randint(mean - reach, mean + reach)


@dataclass(frozen=True, slots=True)
class Scale:
    """Tokens of a prompt of n words: `fixed` (template, begin mark) + n · `per_word`."""

    fixed: float = 0.0
    per_word: float = 1.0

    @classmethod
    def of(cls, first: tuple[int, int], second: tuple[int, int]) -> Scale:
        """From two probes (words, tokens). Probes that make no sense (not more tokens for more words) give one token a word."""
        (w1, t1), (w2, t2) = first, second
        slope = (t2 - t1) / (w2 - w1) if w2 != w1 else 0.0
        return cls(max(0.0, t1 - slope * w1), slope) if slope > 0 else cls()

    def words(self, tokens: int) -> int:
        return max(1, round((tokens - self.fixed) / self.per_word))


@dataclass(frozen=True, slots=True)
class Request:
    index: int
    prompt: str
    input_tokens: int  # aimed at
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Workload:
    """`request(phase, index)` is a pure function of the seed; `run` goes into the prompts only, so lengths and arrivals repeat."""

    lengths: Lengths
    seed: int
    run: str = ""
    scale: Scale = Scale()

    def request(self, phase: str, index: int) -> Request:
        wanted, output = self.lengths.draw(random.Random(f"lengths/{self.seed}/{phase}/{index}"))
        return Request(index, prompt(f"{self.run}/{self.seed}/{phase}/{index}", self.scale.words(wanted)), wanted, output)

    def arrivals(self, phase: str, rate: float) -> Iterator[float]:
        """Moments of a Poisson process of `rate` per second, from 0 on, without end."""
        chance = random.Random(f"arrivals/{self.seed}/{phase}")
        moment = 0.0
        while True:
            moment += chance.expovariate(rate)
            yield moment


def prompt(seed: str, words: int) -> str:
    return " ".join(random.Random(f"words/{seed}").choices(_WORDS, k=words))


def little_rate(concurrency: int, seconds: float) -> float:
    """Arrivals per second that keep `concurrency` requests in flight on average, each `seconds` long (Little 1961: L = λ · W)."""
    return concurrency / seconds
