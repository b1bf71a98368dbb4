"""Whose port is whose, and where its replicas are: the activator's view of the EndpointSlices. No I/O; waiting is on its events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from polyfleet.state import EndpointsState
from polyfleet.wake import slices
from polyfleet.wake.names import SERVICE, SERVING
from polyfleet.wake.slices import Route

Where = tuple[str, int]  # address and port of a replica


@dataclass(slots=True)
class Model:
    """`changed` is set whenever the replicas change, and made anew; who waits takes the one that is there."""

    route: Route
    replicas: tuple[Where, ...] = ()
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    there: bool = True  # False: no slice names it any more


@dataclass(slots=True)
class Directory:
    by_port: dict[int, Model] = field(default_factory=dict)

    def update(self, found: Iterable[EndpointsState]) -> None:
        """What the slices say now. A model that stays keeps its object, so whoever waits for it hears of its replicas."""
        states = tuple(found)
        replicas = _replicas(states)
        wanted = slices.routes(states)
        for port, model in list(self.by_port.items()):
            route = wanted.get(port)
            if route is None or route.key != model.route.key:
                model.there = False
                model.changed.set()
                del self.by_port[port]
        for port, route in wanted.items():
            model = self.by_port.setdefault(port, Model(route))
            model.route = route
            now = replicas.get((route.namespace, route.service), ())
            if now != model.replicas:
                model.replicas = now
                model.changed.set()
                model.changed = asyncio.Event()


def _replicas(found: Iterable[EndpointsState]) -> dict[tuple[str, str], tuple[Where, ...]]:
    """(namespace, Service) -> its ready replicas, as the controller's own slices name them."""
    where: dict[tuple[str, str], set[Where]] = {}
    for each in found:
        number = slices.port(each)
        if slices.role(each) == SERVING and number is not None:
            places = where.setdefault((each.namespace, each.labels.get(SERVICE, "")), set())
            places.update((item.address, number) for item in slices.ready(each))
    return {key: tuple(sorted(places)) for key, places in where.items()}
