"""From the series of a page to one `Sample`: sums, the largest, merged histograms. Pure.

A field that cannot be told without doubt is None: one bad value among those that would be summed makes the sum unknown, not smaller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from autoscaling.signals.page import Found, Series, label, scan
from autoscaling.signals.vocabulary import Number, Tokens, Vocabulary
from autoscaling.types import Histogram, Sample

MODEL = b"model_name"
PERCENT_ABOVE = 1.5  # a share above it is written as 0 to 100 (MindIE's published sample shows 30 where its HELP text says 1 = 100 %)


@dataclass(slots=True)
class Sticky:
    """What is remembered of one replica from reading to reading. Keep one per engine process and hand it to each `read`."""

    percent: bool = False  # its shares are written as 0 to 100


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A page that says nothing about the load, and why. It is never zero load."""

    text: str


def sample(page: bytes, words: Vocabulary, at: float, model: str, sticky: Sticky) -> Sample | Unreadable:
    found = scan(page, words.scanner)
    if not found:
        looked = ", ".join(words.written(name) for number in words.numbers.values() for name in number.first)
        return Unreadable(f"no series of {words.engine} on the page (looked for {looked}){'; ' + words.hint if words.hint else ''}")
    if isinstance(served := _served(found, model), Unreadable):
        return served
    if words.ranks:
        served = {name: _of_ranks(series, words.ranks) for name, series in served.items()}
    numbers = {name: _number(served, number) for name, number in words.numbers.items()}
    if "kv_used" in numbers:
        numbers["kv_used"] = _share(numbers["kv_used"], sticky if "kv_used" in words.percent else None)
    histograms = {name: _histogram(served, family) for name, family in words.histograms.items()}
    return Sample(
        at=at,
        arrived=numbers.get("arrived"),
        finished=numbers.get("finished"),
        running=numbers.get("running"),
        waiting=numbers.get("waiting"),
        prompt_tokens=numbers.get("prompt_tokens"),
        output_tokens=numbers.get("output_tokens"),
        cached_tokens=numbers.get("cached_tokens"),
        queried_tokens=numbers.get("queried_tokens"),
        kv_used=numbers.get("kv_used"),
        kv_capacity=_capacity(served, words.tokens) if words.tokens is not None else None,
        ttft=histograms.get("ttft"),
        itl=histograms.get("itl"),
        uncounted=not words.numbers.keys() & {"arrived", "finished"},
    )


def _served(found: Found, model: str) -> Found | Unreadable:
    """The series of `model` where the page has several models; all of them where it has one, or none is asked for."""
    if not model:
        return found
    token = b""
    for series in found.values():
        for labels in series:
            if token and token in labels:
                continue
            name = label(labels, MODEL.decode())
            if name is None:
                continue
            if token:
                return _chosen(found, model)
            token = MODEL + b'="' + name + b'"'
    return found


def _chosen(found: Found, model: str) -> Found | Unreadable:
    wanted = model.replace("\\", "\\\\").replace('"', '\\"').encode()
    models = {name for series in found.values() for labels in series if (name := label(labels, MODEL.decode())) is not None}
    if wanted not in models:
        names = ", ".join(sorted(name.decode("utf-8", "replace") for name in models))[:300]
        return Unreadable(f"the page is of several models ({names}) and none of them is {model}")
    kept: dict[str, Series] = {}
    for each, series in found.items():
        own = {labels: value for labels, value in series.items() if label(labels, MODEL.decode()) in (None, wanted)}
        if own:
            kept[each] = own
    return kept


def _of_ranks(series: Series, ranks: tuple[str, ...]) -> Series:
    """The largest over `ranks`, by the labels that are left."""
    if len(series) < 2:
        return series
    pattern = _rank(ranks)
    kept: Series = {}
    for labels, value in series.items():
        key = pattern.sub(b"", labels)
        before = kept.get(key, 0.0)
        kept[key] = None if value is None or before is None else max(before, value)
    return kept


_RANKS: dict[tuple[str, ...], re.Pattern[bytes]] = {}


def _rank(ranks: tuple[str, ...]) -> re.Pattern[bytes]:
    if ranks not in _RANKS:
        _RANKS[ranks] = re.compile(rf'(?:^|(?<=,))(?:{"|".join(ranks)})="[^"]*+",?|,(?:{"|".join(ranks)})="[^"]*+"(?=$)'.encode())
    return _RANKS[ranks]


def _number(found: Found, number: Number) -> float | None:
    chosen = next((found[name] for name in number.first if name in found), None)
    if chosen is None:
        return None
    values = list(chosen.values())
    for name in number.plus:
        if name in found:
            values += found[name].values()
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if len(known) == 1:
        return known[0]
    return max(known) if number.largest else math.fsum(known)


def _share(value: float | None, sticky: Sticky | None) -> float | None:
    """0 to 1. Without `sticky` a value clearly above 1 is no share; with it, it says that this engine writes per cent."""
    if value is None:
        return None
    if sticky is None:
        return min(1.0, value) if value <= PERCENT_ABOVE else None
    sticky.percent = sticky.percent or PERCENT_ABOVE < value <= 100.0 * PERCENT_ABOVE
    value = value / 100.0 if sticky.percent else value
    return min(1.0, value) if value <= PERCENT_ABOVE else None


def _capacity(found: Found, tokens: Tokens) -> float | None:
    if tokens.gauge in found:
        return _positive(_number(found, Number((tokens.gauge,))))
    if tokens.info in found:
        sizes = [_product(labels, tokens.labels) for labels in found[tokens.info]]
        known = [size for size in sizes if size is not None]
        return math.fsum(known) if known and len(known) == len(sizes) else None
    if tokens.gauges[0] in found and tokens.gauges[1] in found:
        blocks = _number(found, Number((tokens.gauges[0],)))
        size = _number(found, Number((tokens.gauges[1],), largest=True))
        return _positive(blocks * size) if blocks is not None and size is not None else None
    return None


def _positive(value: float | None) -> float | None:
    return value if value is not None and 0.0 < value < math.inf else None


def _product(labels: bytes, names: tuple[str, str]) -> float | None:
    parts = [label(labels, name) for name in names]
    if not all(part is not None and part.isdigit() and len(part) <= 12 for part in parts):
        return None
    return _positive(math.prod(float(part) for part in parts if part is not None))


_LE = re.compile(rb'(?:^|,)[ \t]*+le="([0-9eE.+-]++|\+?[iI]nf)",?')


@lru_cache(maxsize=1 << 13)  # replicas of a model write the same labels, poll after poll
def _bucket(labels: bytes) -> tuple[bytes, float] | None:
    """(the other labels, upper bound) of a bucket; None = it is none."""
    bound = _LE.search(labels)
    if bound is None:
        return None
    try:
        return labels[: bound.start()] + b"," + labels[bound.end() :], float(bound[1])
    except ValueError:
        return None


def _histogram(found: Found, family: tuple[str, ...]) -> Histogram | None:
    """The first family that is there, its series added at the bounds that all of them have."""
    name = next((name for name in family if f"{name}_bucket" in found), None)
    if name is None:
        return None
    split: dict[bytes, dict[float, float]] = {}
    for labels, value in found[f"{name}_bucket"].items():
        bucket = _bucket(labels)
        if bucket is None or value is None:
            return None
        split.setdefault(bucket[0], {})[bucket[1]] = value
    return _merged(list(split.values()), _number(found, Number((f"{name}_sum",))))


def _merged(parts: Sequence[Mapping[float, float]], total: float | None) -> Histogram | None:
    shared = sorted(set(parts[0]).intersection(*parts[1:]) if len(parts) > 1 else parts[0])
    if total is None or len(shared) < 2 or shared[-1] != math.inf:
        return None
    counts = [parts[0][bound] for bound in shared] if len(parts) == 1 else [math.fsum(part[bound] for part in parts) for bound in shared]
    if counts != sorted(counts):
        return None
    return Histogram(tuple(shared), tuple(counts), total)
