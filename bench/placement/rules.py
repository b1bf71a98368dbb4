"""Two rules of other projects on services instances, re-implemented from their documents. Not their code.

Both are read kindly: they are told the true rate of each candidate (Kthena's documents count every device as equally fast; Kueue knows no
rates at all), and services come in order of priority.
"""

from __future__ import annotations

import math

from bench.placement.services import Candidate, Instance, Service

Answer = list[tuple[str, str, int]]


def _in_order(instance: Instance) -> list[Service]:
    return sorted(instance.services, key=lambda s: (s.priority, s.name))


def _usable(service: Service) -> list[Candidate]:
    """Cheapest devices first."""
    return sorted((c for c in service.candidates if c.rate > 0), key=lambda c: (c.cost / c.devices, c.accelerator))


def kthena(instance: Instance) -> Answer:
    """Sort by price, fill the cheapest as far as the stock goes, then the next: kinds may be mixed."""
    left = dict(instance.stock)
    answer: Answer = []
    for s in _in_order(instance):
        taken: Answer = []
        open_demand, used = s.demand, dict(left)
        for c in _usable(s):
            if open_demand <= s.demand * 1e-9:
                break
            count = min(math.ceil(open_demand / c.rate - 1e-9), used.get(c.device_type, 0) // c.devices)
            if count > 0:
                used[c.device_type] -= count * c.devices
                open_demand -= count * c.rate
                taken.append((s.name, c.accelerator, count))
        if open_demand <= s.demand * 1e-9:
            left, answer = used, answer + taken
    return sorted(answer)


def kueue(instance: Instance) -> Answer:
    """The first flavour of the list that has room for all replicas; the list is an administrator's who puts cheap devices first."""
    left = dict(instance.stock)
    answer: Answer = []
    for s in _in_order(instance):
        for c in _usable(s):
            count = c.replicas(s.demand)
            if left.get(c.device_type, 0) >= count * c.devices:
                left[c.device_type] -= count * c.devices
                answer.append((s.name, c.accelerator, count))
                break
    return sorted(answer)
