"""The switches by name: what each does, which numbers it takes, and how a line of text becomes one. Pure, and light to import."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sandbox.engine.faults.triggers import KINDS, Trigger

Place = Literal["weights", "operation", "request"]
EVERY = -1  # of a layer: all of them
_NEXT = "Next: python -m sandbox.engine.faults list"


class FaultError(ValueError):
    """A fault that does not exist, or with a number that it cannot have."""


@dataclass(frozen=True)
class Number:
    """One number of a switch. `default` None: it must be given."""

    name: str
    low: float
    high: float
    default: float | None = None
    whole: bool = True


@dataclass(frozen=True)
class Switch:
    """One deliberate difference. `place`: in the weights, in an operation, or in how a request is read. `harmless`: a difference that
    healthy devices show too (rounding, order of summation), or that a declared quantisation makes."""

    place: Place
    text: str
    numbers: tuple[Number, ...] = ()
    harmless: bool = False


def _layer(default: float | None = None, low: int = 0) -> Number:
    return Number("LAYER", low, 1023, default)


_KEYS = Number("KEYS", 1, 131072)
_CACHED = frozenset({"neighbour-kv", "zero-kv", "zero-v"})
_SHARE = Number("SHARE", 0, 1, whole=False)

SWITCHES: dict[str, Switch] = {
    # rounding and declared quantisation
    "split-k": Switch("operation", "matrix products as N partial sums, each rounded", (Number("N", 2, 64),), harmless=True),
    "fp32-head": Switch("operation", "logits are not rounded", harmless=True),
    "position-offset": Switch("operation", "all positions moved by N, which changes nothing", (Number("N", 0, 131072),), harmless=True),
    "int8-kv": Switch("operation", "cache in int8, a scale per token and head", harmless=True),
    "fp8-kv": Switch("operation", "cache in fp8 (e4m3)", harmless=True),
    "int8-activations": Switch("operation", "inputs of matrix products in int8, a scale per 32 values", harmless=True),
    "w8": Switch("weights", "weights in int8, a scale per output channel", harmless=True),
    "w8a8": Switch("weights", "weights in int8 per output channel, inputs in int8 per token", harmless=True),
    "fp8-weights": Switch("weights", "weights in fp8 (e4m3), a scale per matrix", harmless=True),
    "w4": Switch("weights", "weights in int4, a scale per GROUP values", (Number("GROUP", 8, 1024, 64),), harmless=True),
    "w8-tensor": Switch("weights", "weights in int8, one scale per matrix", harmless=True),
    "w4-tensor": Switch("weights", "weights in int4, one scale per matrix"),
    # positions
    "rope-base": Switch("operation", "another base of the rotary positions", (Number("BASE", 1, 1e9, whole=False),)),
    "rope-layout": Switch("operation", "rotary pairs of the other layout (interleaved or half-split)"),
    "rope-cache-bf16": Switch("operation", "positions moved by N, cosines and sines in bf16", (Number("N", 0, 131072, 0),)),
    "clamp-positions": Switch("operation", "every position above P counts as P", (Number("P", 0, 131072),)),
    # which keys a query sees
    "future-keys": Switch("operation", "N keys too many are seen, where they are there already", (Number("N", 1, 64, 1),)),
    "hide-first": Switch("operation", "the first KEYS keys are not seen", (_KEYS,)),
    "sliding-window": Switch("operation", "only the last KEYS keys are seen", (_KEYS,)),
    "chunk-boundary": Switch(
        "operation", "from position AT on the last KEYS keys before it are not seen", (Number("AT", 1, 131072), Number("KEYS", 1, 1024, 8))
    ),
    "no-scale": Switch("operation", "scores are not divided by the root of the head's width"),
    # the cache
    "neighbour-kv": Switch("operation", "what is cached of the first KEYS tokens is that of the request before", (_KEYS,)),
    "zero-kv": Switch("operation", "what is cached of the first KEYS tokens is zero", (_KEYS,)),
    "zero-v": Switch("operation", "the cached values of the first KEYS tokens are zero", (_KEYS,)),
    "kv-scale": Switch("operation", "the cache in fp8, read back with a wrong scale", (Number("FACTOR", 0.001, 1000, whole=False),)),
    "kv-reinterpret": Switch("operation", "the cache written as fp8 e4m3 and read as e5m2"),
    # computing
    "norm-eps": Switch("operation", "another epsilon of the norms", (Number("EPS", 0, 1, whole=False),)),
    "gelu": Switch("operation", "GELU in place of SiLU"),
    "overflow": Switch(
        "operation", "the stream scaled by SCALE passes fp16 after a layer", (Number("SCALE", 1, 1e9, whole=False), _layer())
    ),
    "gemm-overflow": Switch("operation", "a layer's gate product, scaled, passes fp16", (Number("SCALE", 1, 1e9, whole=False), _layer())),
    "nan": Switch("operation", "no number comes out"),
    # the head
    "vocab-cut": Switch("operation", "tokens from ID on cannot come", (Number("ID", 1, 1 << 24),)),
    "logit-scale": Switch("operation", "logits times FACTOR", (Number("FACTOR", 0.01, 100, whole=False),)),
    "cut-logits": Switch("operation", "this share of the logits, the lowest, is minus infinity", (_SHARE,)),
    "reinterpret-logits": Switch("operation", "bf16 logits read as fp32"),
    # weights
    "skip-layer": Switch("weights", "a layer does nothing", (_layer(),)),
    "head-zero": Switch("weights", "an attention head gives zero", (_layer(), Number("HEAD", 0, 1023))),
    "ffn-drop": Switch("weights", "this share of the feed-forward channels, the last, is missing", (_SHARE, _layer(EVERY, EVERY))),
    "double-reduce": Switch("weights", "a layer's attention is summed twice", (_layer(),)),
    "weight-scale": Switch(
        "weights", "the scale of quantised weights is wrong by FACTOR", (Number("FACTOR", 0.001, 1000, whole=False), _layer(EVERY, EVERY))
    ),
    "stale": Switch("weights", "noise of this share of each matrix' standard deviation", (_SHARE, Number("SEED", 0, (1 << 31) - 1, 0))),
    # reading the request; an engine that is sent token ids takes them as they are
    "extra-bos": Switch("request", "text and chat prompts begin with one token too many"),
    "no-generation-prompt": Switch("request", "chat prompts end before the answer's header"),
    "other-template": Switch("request", "chat prompts of another model's template"),
    "end-token": Switch("request", "another token ends an answer", (Number("ID", 0, 1 << 24),)),
    "default-temperature": Switch("request", "another temperature where the client names none", (Number("T", 0, 2, whole=False),)),
}


@dataclass(frozen=True)
class Fault:
    """One switch that is on: its numbers, all filled in, and when it acts (all triggers must hold)."""

    name: str
    values: tuple[float, ...] = ()
    triggers: tuple[Trigger, ...] = ()

    @property
    def switch(self) -> Switch:
        return SWITCHES[self.name]

    @property
    def text(self) -> str:
        """The canonical spelling; it parses to the same fault."""
        values = "=" + ":".join(f"{value:.12g}" for value in self.values) if self.values else ""
        return self.name + values + "".join(f"@{trigger.text}" for trigger in self.triggers)

    @property
    def always(self) -> bool:
        return not self.triggers

    @property
    def above(self) -> int:
        """The first position at which it may act. A bad cache of the first tokens is met by those after them: whoever finds them in the
        cache does not compute them."""
        bounds = [trigger.value for trigger in self.triggers if trigger.kind == "above"]
        return int(max([0.0, *bounds, *self.values[: self.name in _CACHED]]))


def parse(text: str) -> Fault:
    """One fault from `NAME[=VALUE[:VALUE]][@TRIGGER[=VALUE]...]`. Raises FaultError."""
    head, *rest = text.strip().split("@")
    name, equals, given = head.partition("=")
    switch = SWITCHES.get(name)
    if switch is None:
        raise FaultError(f"fault {text!r}: there is no switch {name!r}; allowed: {', '.join(sorted(SWITCHES))}. {_NEXT}")
    values = _values(text, switch, given.split(":") if equals else [])
    triggers = tuple(trigger for trigger in (_trigger(text, part) for part in rest) if trigger.kind != "always")
    if switch.place == "request" and any(trigger.kind != "replica" for trigger in triggers):
        raise FaultError(f"fault {text!r}: {name} changes how requests are read and takes no trigger but replica=TEXT. {_NEXT}")
    return Fault(name, values, triggers)


def parse_file(text: str) -> tuple[Fault, ...]:
    """One fault a line; blank lines and lines that start with # are skipped."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(parse(line) for line in lines if line and not line.startswith("#"))


def for_replica(faults: Iterable[Fault], replica: str) -> tuple[Fault, ...]:
    """Those that may act in this replica, without the trigger that said so."""
    kept: list[Fault] = []
    for fault in faults:
        wanted = [trigger.replica for trigger in fault.triggers if trigger.kind == "replica"]
        if all(replica.endswith(name) for name in wanted):
            kept.append(Fault(fault.name, fault.values, tuple(t for t in fault.triggers if t.kind != "replica")))
    return tuple(kept)


def _values(text: str, switch: Switch, given: list[str]) -> tuple[float, ...]:
    shape = ":".join(number.name for number in switch.numbers) or "no value"
    least = sum(number.default is None for number in switch.numbers)
    if not least <= len(given) <= len(switch.numbers):
        raise FaultError(f"fault {text!r}: {len(given)} values; it takes {shape} ({least} to {len(switch.numbers)} of them). {_NEXT}")
    values = [number.default for number in switch.numbers]
    for index, word in enumerate(given):
        number = switch.numbers[index]
        values[index] = _number(text, number.name, word, number.low, number.high, whole=number.whole)
    return tuple(float(value) for value in values if value is not None)


def _trigger(text: str, part: str) -> Trigger:
    name, equals, given = part.partition("=")
    kind = KINDS.get(name)
    if kind is None:
        raise FaultError(f"fault {text!r}: there is no trigger {name!r}; allowed: {', '.join(sorted(KINDS))}. {_NEXT}")
    if kind.value is None:
        if equals:
            raise FaultError(f"fault {text!r}: the trigger {name} takes no value. {_NEXT}")
        return Trigger(name)
    if not given and (kind.default is None or equals):
        raise FaultError(f"fault {text!r}: the trigger {name} needs a value: {name}={kind.value}. {_NEXT}")
    if name == "replica":
        return Trigger(name, replica=given)
    first, colon, second = given.partition(":")
    if colon and name != "share":
        raise FaultError(f"fault {text!r}: the trigger {name} takes one value: {name}={kind.value}. {_NEXT}")
    seed = int(_number(text, "SEED", second, 0, (1 << 31) - 1, whole=True)) if colon else 0
    if not first:
        return Trigger(name, kind.default or 0.0)
    return Trigger(name, _number(text, kind.value, first, kind.low, kind.high, whole=name != "share"), seed)


def _number(text: str, name: str, word: str, low: float, high: float, *, whole: bool) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not low <= value <= high or (whole and value != int(value)):
        form = "a whole number" if whole else "a number"
        raise FaultError(f"fault {text!r}: {name} is {word!r}; allowed: {form} from {low:g} to {high:g}. {_NEXT}")
    return value
