"""The activator's metrics page: what the operator decides by, and what a person looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from polyfleet.activator.hall import OUTCOMES, Hall
from polyfleet.wake.names import ANSWERS, BYTES, PROMISE, REQUESTS, WAITING
from polyfleet.wake.slices import Route

LABELS = ("namespace", "name")


class Page(Collector):
    """`listening`: the models whose ports are open, with how long a request of each is held."""

    def __init__(self, hall: Hall, listening: Callable[[], Mapping[str, tuple[Route, float]]]) -> None:
        self._hall, self._listening = hall, listening
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(REQUESTS, "requests for work that came here, those turned away included", labels=LABELS)
        waiting = GaugeMetricFamily(WAITING, "requests that are held", labels=LABELS)
        size = GaugeMetricFamily(BYTES, "bytes of their bodies", labels=LABELS)
        promise = GaugeMetricFamily(PROMISE, "how long a request is held", labels=LABELS)
        answers = CounterMetricFamily(ANSWERS, "what became of the requests", labels=(*LABELS, "outcome"))
        for key, route, hold in self._rows():
            queue = self._hall.queue(key)
            where = (route.namespace, route.name)
            requests.add_metric(where, queue.requests)
            waiting.add_metric(where, queue.waiting)
            size.add_metric(where, queue.held_bytes)
            promise.add_metric(where, hold)
            for outcome in OUTCOMES:
                answers.add_metric((*where, outcome), queue.outcomes[outcome])
        return (requests, waiting, size, promise, answers)

    def _rows(self) -> Iterator[tuple[str, Route, float]]:
        for key, (route, hold) in sorted(self._listening().items()):
            yield key, route, hold
