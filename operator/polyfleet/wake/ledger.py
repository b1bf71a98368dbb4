"""The activator's counters, from all of its pods and over their restarts, as one reading per model. Pure.

Requests: the sum over pods of what each counter grew, so it only rises whatever pods come, go or begin anew. What a pod counted before it
was first read is no growth if it was there when this process began, and is growth if it came later. A pod that takes requests and was not
read, or does not know the model yet, leaves the number of requests unknown; who waits at another one is known all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from autoscaling.types import Gateway
from polyfleet.wake.names import PROMISE, REQUESTS, WAITING


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one model at one pod. None = its page does not say, or says what no number of this kind can be."""

    requests: float | None = None
    waiting: float | None = None
    holds_s: float | None = None


Page = Mapping[str, Counted]  # by model, namespace/name
_FIELDS = {f"{REQUESTS}_total": "requests", WAITING: "waiting", PROMISE: "holds_s"}


def read(text: str) -> Page:
    """One pod's page. Raises ValueError for what is no page of metrics."""
    rows: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name, where = _FIELDS.get(sample.name), sample.labels
            if name is not None and 0 <= sample.value < float("inf"):
                rows.setdefault(f"{where.get('namespace', '')}/{where.get('name', '')}", {})[name] = sample.value
    return {key: Counted(**row) for key, row in rows.items()}


@dataclass(slots=True)
class Ledger:
    _began: frozenset[str] | None = None  # pods that were there at the first poll
    _last: dict[tuple[str, str], float] = field(default_factory=dict)  # (pod, model) -> its counter
    _sums: dict[str, float] = field(default_factory=dict)  # by model

    def fold(self, models: Iterable[str], pages: Mapping[str, Page | None], taking: Collection[str], at: float) -> dict[str, Gateway]:
        """A reading of each model, stamped `at`. `pages`: by pod, None = not read; `taking`: pods that take requests."""
        wanted = sorted(set(models))
        if self._began is None:
            self._began = frozenset(pages)
        self._last = {key: value for key, value in self._last.items() if key[0] in pages and key[1] in wanted}
        self._sums = {key: self._sums.get(key, 0.0) for key in wanted}
        return {key: self._one(key, pages, taking, at) for key in wanted}

    def _one(self, key: str, pages: Mapping[str, Page | None], taking: Collection[str], at: float) -> Gateway:
        there = {pod: row for pod, page in sorted(pages.items()) if page is not None and (row := page.get(key)) is not None}
        for pod, row in there.items():
            if row.requests is not None:
                self._sums[key] += self._grown(pod, key, row.requests)
        mine = [there.get(pod) or Counted() for pod in sorted(taking)]
        whole = bool(mine) and all(row.requests is not None and row.waiting is not None for row in mine)
        waiting = sum(row.waiting or 0.0 for row in there.values())
        promises = [row.holds_s for row in mine]
        return Gateway(
            at,
            arrived=self._sums[key] if whole else None,
            waiting=waiting if whole or waiting > 0 else None,
            only_at_zero=True,
            holds_s=min(each or 0.0 for each in promises) if promises and all(promises) else None,
        )

    def _grown(self, pod: str, key: str, now: float) -> float:
        before = self._last.get((pod, key))
        self._last[pod, key] = now
        if before is None:
            assert self._began is not None
            return 0.0 if pod in self._began else now
        return now - before if now >= before else now
