"""Prometheus as a source of pages: the query for some replicas, and its answer as one page per replica in the engine's own words. Pure.

Asked is a range of raw samples (`{...}[180s]` as an instant query), because that alone tells when each sample was scraped: the stamp of an
instant vector is that of the question, and the sample below it may be five minutes old. Of each replica the newest scrape is read, as a
whole: what stands in an older one only is gone. A scrape that lacks series of the one before may still be on its way, so the one before is
read. Two jobs that scrape the same replica are two sources, and one of them counts: their sum would be twice the load.

Formats: https://prometheus.io/docs/prometheus/latest/querying/api/ and .../querying/basics/.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoscaling.signals import Vocabulary
from polyfleet.load.targets import Target

WINDOW_S = 180  # that a scrape every minute is there twice in: from two of them it is known how often there is one
MOST_SERIES = 20_000  # of one answer; a vLLM replica has about 120 that are asked for
_MOST_TEXT = 200
# Labels that say who scraped, not what was measured: Prometheus' own, the usual ones of its operator, and those that tell replicas of a
# Prometheus apart where somebody puts their data together.
_SOURCE = (
    "cluster", "container", "endpoint", "instance", "job", "node", "prometheus", "prometheus_replica", "receive", "replica", "service",
    "tenant_id",
)  # fmt: skip
_PLACE = ("namespace", "pod")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NUMBER = re.compile(r"[0-9eE.+-]{1,64}")


class AnswerError(ValueError):
    """The answer cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """One scrape of one replica as Prometheus text. `at`: its stamp. `every`: seconds since the scrape before, None = there is only one."""

    text: bytes
    at: float
    every: float | None = None


def query(words: Vocabulary, namespace: str, pods: Sequence[str]) -> str:
    """Raw samples of everything that the engine's adapter reads, of these pods. Names of Kubernetes hold nothing that needs quoting but
    the dot."""
    lead = f"{words.prefix}[{words.separators}]" if words.prefix else ""
    names = "|".join(sorted(set(words.series)))
    which = "|".join(sorted(pods)).replace(".", "[.]")
    return f'{{__name__=~"{lead}(?:{names})",namespace="{namespace}",pod=~"{which}"}}[{WINDOW_S}s]'


def parse(answer: bytes) -> list[Any]:
    """The series of an answer. Raises AnswerError; an answer that says of itself that it may be incomplete is not used."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"it answered with something else than JSON: {str(error)[:80]}") from None
    if not isinstance(found, Mapping):
        raise AnswerError("it answered with JSON that is no answer of Prometheus")
    if found.get("status") != "success":
        raise AnswerError(f"it answered {_words(found.get('errorType'))}: {_words(found.get('error'))}")
    if found.get("warnings") or found.get("isPartial"):
        raise AnswerError(f"it answered with a warning, so something may be missing: {_words(found.get('warnings') or 'isPartial')}")
    data = found.get("data")
    if not isinstance(data, Mapping) or data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
        kind = _words(data.get("resultType")) if isinstance(data, Mapping) else "nothing"
        raise AnswerError(f"it answered with {kind} instead of a matrix")
    if len(data["result"]) > MOST_SERIES:
        raise AnswerError(f"it answered with more than {MOST_SERIES} series")
    return list(data["result"])


def pages(series: Sequence[Any], asked: Sequence[Target]) -> dict[str, Page]:
    """By pod uid, of those that have any. A sample from before its pod was made is of an earlier pod of the same name."""
    wanted = {item.pod: item for item in asked}
    found: dict[str, dict[tuple[str, ...], list[_Row]]] = {}
    for each in series:
        row = _row(each)
        target = wanted.get(row.pod) if row is not None else None
        if row is None or target is None or row.namespace != target.namespace:
            continue
        samples = tuple((at, value) for at, value in row.samples if at >= target.created)
        if samples:
            found.setdefault(target.uid, {}).setdefault(row.source, []).append(replace(row, samples=samples))
    return {uid: _newest(sources) for uid, sources in sorted(found.items())}


@dataclass(frozen=True, slots=True)
class _Row:
    line: str  # name and labels as a page has them
    namespace: str
    pod: str
    source: tuple[str, ...]
    samples: tuple[tuple[float, str], ...]  # (stamp, value), oldest first


def _row(each: Any) -> _Row | None:
    """None: no series with samples."""
    labels = each.get("metric") if isinstance(each, Mapping) else None
    values = each.get("values") if isinstance(each, Mapping) else None
    if not isinstance(labels, Mapping) or not isinstance(values, list):
        return None
    texts = {str(name): str(value) for name, value in labels.items()}
    name = texts.pop("__name__", "")
    if _NAME.fullmatch(name) is None:
        return None
    samples = sorted(sample for value in values if (sample := _sample(value)) is not None)
    if not samples:
        return None
    kept = [(label, value) for label, value in sorted(texts.items()) if label not in _SOURCE and label not in _PLACE]
    inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in kept)
    if not all(_NAME.fullmatch(label) for label, _ in kept):
        # Left out it would make a sum too small: the name is there, and its number is not known.
        inside, samples = "", [(at, "NaN") for at, _ in samples]
    source = tuple(texts.get(label, "") for label in _SOURCE)
    return _Row(f"{name}{{{inside}}}", texts.get("namespace", ""), texts.get("pod", ""), source, tuple(samples))


def _sample(value: Any) -> tuple[float, str] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    at, number = value
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        return None
    return float(at), number if isinstance(number, str) and _NUMBER.fullmatch(number) else "NaN"  # NaN and Inf are no numbers here


def _newest(sources: Mapping[tuple[str, ...], Sequence[_Row]]) -> Page:
    """The newest scrape of the source that has it; of equals the first by name."""
    _, rows = min(sources.items(), key=lambda item: (-max(row.samples[-1][0] for row in item[1]), item[0]))
    scrapes: dict[float, dict[str, str]] = {}
    for row in rows:
        for at, value in row.samples:
            scrapes.setdefault(at, {}).setdefault(row.line, value)
    stamps = sorted(scrapes, reverse=True)
    at = stamps[0]
    before = stamps[1] if len(stamps) > 1 else None
    every = at - before if before is not None else None
    if before is not None and scrapes[at].keys() < scrapes[before].keys():
        at = before
    return Page("".join(f"{line} {value}\n" for line, value in sorted(scrapes[at].items())).encode(), at, every)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _words(value: Any) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return " ".join(text.split())[:_MOST_TEXT]
