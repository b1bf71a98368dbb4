"""What an engine calls the numbers of a `Sample`: one frozen table per engine, and the scanner that is made of it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaling.signals.page import Scanner, scanner


@dataclass(frozen=True, slots=True)
class Number:
    """One field of `Sample`. Of `first` the name that is there counts (newest first); each of `plus` is added where it is there. Series of
    one name are summed, or the largest counts."""

    first: tuple[str, ...]
    plus: tuple[str, ...] = ()
    largest: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.first, *self.plus)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Capacity of the KV cache in tokens: `gauge`, else blocks x tokens of a block, as two labels of an info series or as two gauges."""

    gauge: str = ""
    info: str = ""
    labels: tuple[str, str] = ("", "")
    gauges: tuple[str, str] = ("", "")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.gauge, self.info, *self.gauges) if name)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names without prefix. `ranks`: labels that tell apart processes which all see the same requests, so the largest of them counts
    before replicas of the engine are summed. `percent`: fields that may be written as 0 to 100. `hint`: what to check where nothing of the
    engine is on the page."""

    engine: str
    prefix: str
    separators: str
    numbers: Mapping[str, Number]
    histograms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: Tokens | None = None
    ranks: tuple[str, ...] = ()
    percent: tuple[str, ...] = ()
    hint: str = ""
    series: tuple[str, ...] = field(init=False)  # names of all series that are read, without prefix
    scanner: Scanner = field(init=False)

    def __post_init__(self) -> None:
        names = [name for number in self.numbers.values() for name in number.names]
        names += [f"{name}_{part}" for family in self.histograms.values() for name in family for part in ("bucket", "sum")]
        names += self.tokens.names if self.tokens is not None else ()
        object.__setattr__(self, "series", tuple(names))
        object.__setattr__(self, "scanner", scanner(self.prefix, self.separators, names))

    def written(self, name: str) -> str:
        """The name as the engine's documentation has it."""
        return f"{self.prefix}{self.separators[:1]}{name}"

    def names(self, field_name: str) -> tuple[str, ...]:
        """Names of one field of `Sample`, newest first; empty = the engine does not publish it."""
        if field_name in self.numbers:
            return tuple(self.written(name) for name in self.numbers[field_name].names)
        if field_name in self.histograms:
            return tuple(self.written(name) for name in self.histograms[field_name])
        return tuple(self.written(name) for name in self.tokens.names) if field_name == "kv_capacity" and self.tokens is not None else ()
