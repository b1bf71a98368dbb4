"""Finds the wanted series of a Prometheus text or OpenMetrics page. Pure, one pass, nothing else of the page is looked at.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and the OpenMetrics specification. Only lines that begin
with a wanted name are read; HELP and TYPE lines, timestamps and exemplars are passed over. Every pattern is possessive or without
repetition in repetition, so a page of `MOST_BYTES` of anything takes time in proportion to its length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MOST_BYTES = 8 << 20  # of one page; engines write 10 to 100 KB

Series = dict[bytes, float | None]  # labels as they are written -> value; None: it is no finite number >= 0
Found = Mapping[str, Series]  # by name without prefix

_NUMBER = re.compile(rb"[ \t]++([0-9eE.+-]++)[ \t\r]*+(?:[0-9.+-]++[ \t\r]*+)?(?:#.*+)?")
_LABELS = re.compile(rb'\{((?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+)\}')


@dataclass(frozen=True, slots=True)
class Scanner:
    """Looks for `names` after `prefix` and one of the `separators`; prefix "" = the names stand alone."""

    prefix: str
    separators: str
    pattern: re.Pattern[bytes]


def scanner(prefix: str, separators: str, names: Iterable[str]) -> Scanner:
    lead = f"{re.escape(prefix)}([{separators}])" if prefix else "()"
    wanted = "|".join(sorted(map(re.escape, set(names))))
    return Scanner(prefix, separators, re.compile(rf"\n{lead}({wanted})(?=[{{ \t])([^\n]*)".encode()))


def fault(page: bytes) -> str:
    """Why this is no page that can be read as a whole; "" if nothing speaks against it."""
    if len(page) > MOST_BYTES:
        return f"the page has {len(page)} bytes, at most {MOST_BYTES} are read"
    head = page[:256].lstrip()
    if not head and not page.strip():
        return "the page is empty"
    if head[:1] == b"<":
        return "the page is HTML, not Prometheus text"
    if head[:1] in (b"[", b'"') or re.match(rb"\{\s*+(?:\"[^\"]*+\"\s*+:|\})", head):
        return "the page is JSON, not Prometheus text"
    if not page.endswith(b"\n"):
        return "the page is cut off: its last line has no end"
    return ""


def scan(page: bytes, wanted: Scanner) -> Found:
    """Series of every wanted name that is there. Of two with the same labels the first counts, as in Prometheus; where names are written
    with both separators (a relay that repeats them) those with the first one count."""
    found: dict[bytes, dict[str, Series]] = {}
    series: Series = {}
    before = None
    for separator, name, rest in wanted.pattern.findall(b"\n" + page):
        if before != (separator, name):  # series of a name mostly stand together
            before = (separator, name)
            series = found.setdefault(separator, {}).setdefault(name.decode("ascii"), {})
        labels, value = _plain(rest) or _line(rest)
        series.setdefault(labels, value)
    for separator in wanted.separators or ("",):
        if (chosen := found.get(separator.encode())) is not None:
            return chosen
    return {}


def _plain(rest: bytes) -> tuple[bytes, float] | None:
    """What `_line` gives, for most lines and at half the cost: labels without escapes and braces, a value, nothing behind it."""
    head, mark, tail = rest.rpartition(b'"} ')
    if not mark or head[:1] != b"{" or b"}" in head or b"\\" in head or not head.count(b'"') & 1 or b"_" in tail:
        return None
    try:
        value = float(tail)
    except ValueError:
        return None
    return (head[1:] + b'"', value + 0.0) if 0.0 <= value < math.inf else None


def _line(rest: bytes) -> tuple[bytes, float | None]:
    """(labels, value) of what stands after a name."""
    labels = b""
    if rest[:1] == b"{":
        inside = _LABELS.match(rest)
        if inside is None:
            return rest, None
        labels, rest = inside[1], rest[inside.end() :]
    number = _NUMBER.fullmatch(rest)
    if number is None:
        return labels, None
    try:
        value = float(number[1])
    except ValueError:
        return labels, None
    return labels, value + 0.0 if math.isfinite(value) and value >= 0.0 else None  # + 0.0: never -0.0


_LABEL = r'(?:^|,)[ \t]*+{name}="((?:[^"\\]++|\\.)*+)"'
_CACHE: dict[str, re.Pattern[bytes]] = {}


def label(labels: bytes, name: str) -> bytes | None:
    """Value of one label as it is written (escapes are not resolved)."""
    pattern = _CACHE.get(name)
    if pattern is None:
        pattern = _CACHE[name] = re.compile(_LABEL.replace("{name}", re.escape(name)).encode())
    hit = pattern.search(labels)
    return hit[1] if hit is not None else None
